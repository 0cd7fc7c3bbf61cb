"""SendosoEventTrigger: at least once, from a cursor that a restart goes on from, and one poll for many triggers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS
from airflow.triggers.base import TriggerEvent

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.triggers.sendoso import SendosoEventTrigger

Launch = Callable[[int], None]
Waiting = Callable[..., Awaitable[None]]

QUICK = 0.05


class AssetStore:
    """What Airflow 3.3 gives a trigger that watches for one asset, or for several."""

    def __init__(self, assets: int = 1) -> None:
        self.values: dict[str, str] = {}
        self.assets = assets

    async def aget(self, key: str, default: Any = None) -> Any:
        if self.assets != 1:
            raise ValueError(f"Task has {self.assets} concrete inlets and outlets")
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        assert len(key) <= 512
        self.values[key] = json.dumps(value)


def trigger(store: AssetStore | None = None, **arguments: Any) -> SendosoEventTrigger:
    path, given = SendosoEventTrigger(**{"object": "touches", "poke_interval": QUICK, **arguments}).serialize()
    assert path == "airflow_provider_sendoso.triggers.events.SendosoEventTrigger"
    made = SendosoEventTrigger(**json.loads(json.dumps(given)))
    assert made.serialize() == (path, given)
    made.asset_state_store = store  # type: ignore[assignment]
    return made


class Running:
    """A trigger in the triggerer's hands."""

    def __init__(self, stream: AsyncIterator[TriggerEvent]) -> None:
        self.payloads: list[dict[str, Any]] = []
        self._task = asyncio.create_task(self._collect(stream))

    async def _collect(self, stream: AsyncIterator[TriggerEvent]) -> None:
        async for event in stream:
            assert json.loads(json.dumps(event.payload)) == event.payload
            self.payloads.append(event.payload)

    def ids(self) -> list[str]:
        return [event["id"] for payload in self.payloads for event in payload["events"]]

    async def until(self, *ids: str) -> None:
        async with asyncio.timeout(300):
            while sorted(self.ids()) != sorted(ids):
                assert not self._task.done(), self._task.exception()
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.mark.parametrize("in_asset", [True, False], ids=["asset", "ledger"])
async def test_the_trigger_fires_for_new_rows_and_goes_on_after_a_restart(
    polled: Waiting, world: Sandbox, launch: Launch, in_asset: bool
) -> None:
    store = AssetStore() if in_asset else None
    first = Running(trigger(store).run())
    await polled()
    assert first.payloads == []
    await asyncio.to_thread(launch, 105)
    await first.until("105")
    assert first.payloads[0] == {
        "object": "touches",
        "counts": {"created": 1},
        "left": 0,
        "events": [{"object": "touches", "id": "105", "event": "created", "occurred_at": "2026-03-01T17:00:00+00:00"}],
    }
    await polled()
    await first.kill()

    await asyncio.to_thread(launch, 106)
    second = Running(trigger(store).run())
    await second.until("106")
    await polled()
    assert second.ids() == ["106"]
    await second.kill()
    if store is not None:
        (key,) = store.values
        assert key.startswith("sendoso_touches_")


async def test_an_event_that_airflow_may_not_have_stored_is_fired_again(
    polled: Waiting, world: Sandbox, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = AssetStore()
    first = Running(trigger(store).run())
    await polled()
    await first.kill()
    await asyncio.to_thread(launch, 105)
    dying = Running(trigger(store, poke_interval=30).run())
    await dying.until("105")
    await dying.kill()
    again = Running(trigger(store).run())
    await again.until("105")
    await polled()
    assert again.ids() == ["105"]
    await again.kill()


async def test_more_events_than_fit_into_one_are_several_firings(
    polled: Waiting, world: Sandbox, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.events.differences.Cursor.take.__defaults__", (4,))
    running = Running(trigger(AssetStore()).run())
    await polled()
    ids = [str(200 + number) for number in range(10)]
    await asyncio.to_thread(lambda: [launch(int(row_id)) for row_id in ids])
    await running.until(*ids)
    assert len(running.payloads) >= 3
    await running.kill()


async def test_the_ledger_keeps_the_cursor_of_a_trigger_that_watches_for_several_assets(
    polled: Waiting, world: Sandbox, launch: Launch
) -> None:
    store = AssetStore(assets=2)
    first = Running(trigger(store).run())
    await polled()
    await first.kill()
    await asyncio.to_thread(launch, 105)
    second = Running(trigger(store).run())
    await second.until("105")
    await second.kill()
    assert store.values == {}


async def test_no_error_ends_the_trigger_or_makes_it_spin(
    polled: Waiting,
    until: Waiting,
    world: Sandbox,
    launch: Launch,
    set_connection: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def complaints() -> int:
        return caplog.text.count("Could not poll")

    began = time.monotonic()
    running = Running(trigger(AssetStore()).run())
    await polled()
    for fault in ("status", "garbage", "drop_after"):
        world.fault(fault, times=2)
        await polled(3)
    world.revoke_tokens()
    connection = SendosoHook.get_connection("sendoso_default")
    set_connection("sendoso_default", "sendoso://")
    said = complaints()
    await until(lambda: complaints() >= said + 2)  # the first may be of a poll that had begun
    before = len(world.requests)
    await until(lambda: complaints() >= said + 8)
    assert len(world.requests) == before
    set_connection("sendoso_default", connection.as_json())
    await asyncio.to_thread(launch, 105)
    await running.until("105")
    await running.kill()
    assert "the next poll is in 0.05 s" in caplog.text
    assert complaints() <= 1 + (time.monotonic() - began) / QUICK


def test_wrong_arguments_fail_when_the_dag_is_parsed() -> None:
    with pytest.raises(SendosoConfigError, match="object holds 'gifts'"):
        trigger(object="gifts")
    with pytest.raises(SendosoConfigError, match="statuses holds 'here'"):
        trigger(object="sends", events="status_changed", statuses="here")


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="before Airflow 3 nothing watches")
def test_the_trigger_is_an_event_trigger_of_airflow() -> None:
    from airflow.triggers.base import BaseEventTrigger

    made = trigger()
    assert isinstance(made, BaseEventTrigger)
    assert BaseEventTrigger.hash(*made.serialize()) == BaseEventTrigger.hash(*trigger().serialize())


# -- shared polls ------------------------------------------------------------------------------------------------------


def test_triggers_that_read_the_same_list_share_a_poll() -> None:
    keys = [
        trigger().shared_stream_key(),
        trigger(cursor_name="mine", since="2026-01-01").shared_stream_key(),
        trigger(object="groups").shared_stream_key(),
        trigger(sendoso_conn_id="other").shared_stream_key(),
        trigger(object="sends").shared_stream_key(),
        trigger(object="sends", events=["created", "status_changed"], statuses=["failed"]).shared_stream_key(),
        trigger(object="sends", events=["status_changed"]).shared_stream_key(),
    ]
    assert keys[0] == keys[1]
    assert keys[5] == keys[6]
    assert len(set(keys)) == 5


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow shares polls from 3.3 on")
class TestShared:
    """Through Airflow's own manager of shared streams."""

    @pytest.fixture
    async def watch(self) -> AsyncIterator[Callable[..., Running]]:
        from airflow.triggers.shared_stream import SharedStreamManager

        manager, running = SharedStreamManager(), list[Running]()

        def start(store: AssetStore, **arguments: Any) -> Running:
            made = trigger(store, **arguments)
            key = made.shared_stream_key()
            assert key is not None
            stream = manager.subscribe(trigger_id=len(running), trigger=made, key=key)  # type: ignore[arg-type]
            running.append(Running(made.filter_shared_stream(stream)))
            return running[-1]

        yield start
        for each in running:
            await each.kill()
        await manager.stop_all()

    async def test_many_triggers_make_one_poll(
        self, polled: Waiting, world: Sandbox, launch: Launch, watch: Callable[..., Running]
    ) -> None:
        many = [watch(AssetStore(), poke_interval=0.5) for _ in range(10)]
        await polled(1)
        before, began = len(world.requests), time.monotonic()
        await asyncio.sleep(1.2)
        assert len(world.requests) - before <= 1 + (time.monotonic() - began) / 0.5
        await asyncio.to_thread(launch, 105)
        for each in many:
            await each.until("105")

    async def test_a_trigger_that_joins_later_reads_what_the_others_already_know(
        self, until: Waiting, world: Sandbox, send: Callable[..., list[str]], watch: Callable[..., Running]
    ) -> None:
        asked: dict[str, Any] = {"object": "sends", "events": ["status_changed"], "statuses": ["delivered"]}
        away, kept = await asyncio.to_thread(send, 2)
        store = AssetStore()
        gone = Running(trigger(store, **asked).run())
        await until(lambda: store.values)
        await gone.kill()

        others = AssetStore()
        other = watch(others, **asked)
        await until(lambda: others.values)
        world.finish(away, "delivered")
        await other.until(away)
        back = watch(store, **asked)
        await back.until(away)
        world.finish(kept, "delivered")
        await other.until(away, kept)
        await back.until(away, kept)

    async def test_a_poll_that_fails_ends_no_trigger(
        self, polled: Waiting, world: Sandbox, launch: Launch, watch: Callable[..., Running]
    ) -> None:
        running = watch(AssetStore())
        await polled()
        world.fault("garbage", times=2)
        await polled(3)
        await asyncio.to_thread(launch, 105)
        await running.until("105")
