"""From a webhook of the sandbox, through a receiver on a real socket and the ledger, to the waits that it wakes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from sqlalchemy import event, update
from sqlalchemy.engine import Engine
from tenacity import wait_none

sys.path.insert(0, str(Path(__file__).parent))
from conftest import SECRET, Served, Webhook, told

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.bucket import turns
from airflow_provider_sendoso.ledger.schema import sends, wakeups
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor, SendStatusSensor
from airflow_provider_sendoso.triggers.events import SendosoEventTrigger, SendosoEventWaitTrigger
from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger
from airflow_provider_sendoso.waiting import wakeups as hearing

HOUR = 3600.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for webhooks all the time, and do not repeat a read that fails."""
    monkeypatch.setattr(hearing, "LOOK_EVERY", 0.05)
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.ATTEMPTS", 1)


@pytest.fixture
def hears(ledger: Any, served: Served, set_connection: Callable[..., None], quick: None) -> Iterator[Sandbox]:
    """A sandbox whose sends keep their status until a test changes it, and which posts its webhooks to the receiver."""
    address = f"{served.url}/sendoso_default"
    with Sandbox(step=10**6, rate=0, webhook_url=address, webhook_secret=SECRET, webhook_retries=(0, 0.2)) as sandbox:
        extra = {"requests_per_second": 500, "timeout": 60, "webhook_secret": SECRET}
        login = {"host": sandbox.url, "login": "sandbox", "password": "sandbox"}
        set_connection("sendoso_default", {"conn_type": "sendoso", **login, "extra": extra})
        yield sandbox


def gets(sandbox: Sandbox) -> Counter[str]:
    return Counter(request.path for request in sandbox.requests if request.method == "GET")


def gift(sandbox: Sandbox, number: int = 0) -> str:
    recipient = {"first_name": "Ada", "last_name": "L", "email": f"ada{number}@example.com"}
    return str(SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=recipient, message="Hi").id)


@pytest.fixture
def batch(hears: Sandbox) -> Callable[[int], list[str]]:
    """Sends a batch of gifts under the ledger; returns their ids."""
    from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

    def make(count: int, **gift: Any) -> list[str]:
        people = [{"first_name": "Ada", "last_name": "L", "email": f"ada{n}@example.com"} for n in range(count)]
        chosen = gift or {"gift_id": "gift-donation-trees", "message": "Hi"}
        operator = BatchSendOperator(task_id="gifts", recipients=people, dedupe_scope="q4", **chosen)
        summary = operator.execute({"ti": TI()})
        assert summary["sent"] == count
        return SendosoHook().recorded_send_ids(dedupe_scope="q4")

    return make


class TI:
    dag_id, task_id, run_id, map_index = "dag", "gifts", "run-1", -1

    def xcom_push(self, key: str, value: Any) -> None:
        pass


def trigger(**arguments: Any) -> SendStatusTrigger:
    return SendStatusTrigger(**({"deadline": time.time() + 600, "poke_interval": 300.0} | arguments))


async def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.02)


async def quiet(sandbox: Sandbox) -> None:
    """Wait for a second without a request or a webhook: on a busy machine those of a send's beginning come late."""

    def seen() -> tuple[int, int]:
        return len(sandbox.requests), len(sandbox.webhooks)

    before, now = None, await asyncio.to_thread(seen)
    while before != now:
        await asyncio.sleep(1.0)
        before, now = now, await asyncio.to_thread(seen)


async def ended(wait: asyncio.Task[Any]) -> dict[str, Any]:
    return dict((await asyncio.wait_for(wait, 60)).payload)


def start(waiting: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(anext(waiting.run()))


# -- the status trigger ------------------------------------------------------------------------------------------------


async def test_a_webhook_wakes_a_trigger_that_would_have_polled_in_an_hour(hears: Sandbox) -> None:
    send_id = await asyncio.to_thread(gift, hears)
    wait = start(trigger(send_ids=[send_id], poke_interval=HOUR))
    await until(lambda: gets(hears)[f"/api/v3/sends/{send_id}"])
    woken_at = time.monotonic()
    await asyncio.to_thread(hears.finish, send_id, "delivered")
    event = await ended(wait)
    assert (event["status"], event["report"]["counts"]) == ("settled", {"delivered": 1})
    assert time.monotonic() - woken_at < 10


async def test_only_the_send_that_was_named_is_read(hears: Sandbox, batch: Callable[[int], list[str]]) -> None:
    ids = await asyncio.to_thread(batch, 30)
    wait = start(trigger(dedupe_scope="q4"))
    hook = SendosoHook()
    await until(lambda: len(hook.ledger.wakeups.gids(hook.config.account, ids)) == 30)
    await asyncio.sleep(0.5)  # the webhooks of the first statuses are heard, too
    before = await asyncio.to_thread(gets, hears)
    await asyncio.to_thread(hears.finish, ids[7], "delivered")
    await until(lambda: gets(hears) != before)
    await asyncio.sleep(0.5)
    assert await asyncio.to_thread(gets, hears) - before == Counter({f"/api/v3/sends/{ids[7]}": 1})
    noted = await asyncio.to_thread(lambda: {p.send_id: p.status for p in hook.recorded_sends(dedupe_scope="q4")})
    assert noted[ids[7]] == "delivered"
    wait.cancel()


@pytest.mark.parametrize("fault", ["webhook_twice", "webhook_replay", "webhook_wrong_signature", "webhook_late"])
async def test_whatever_happens_to_a_webhook_a_send_is_read_once_for_it(hears: Sandbox, fault: str) -> None:
    send_id, path = await asyncio.to_thread(gift, hears), "/api/v3/sends/"
    await until(lambda: hears.webhooks)
    wait = start(trigger(send_ids=[send_id], poke_interval=HOUR))
    await until(lambda: gets(hears)[path + send_id])
    await quiet(hears)
    before, tried = await asyncio.to_thread(lambda: (gets(hears)[path + send_id], len(hears.webhooks)))
    delays = {"webhook_replay": {"delay": 1.1}, "webhook_late": {"delay": 0.7}}
    await asyncio.to_thread(hears.fault, fault, **delays.get(fault, {}))
    await asyncio.to_thread(hears.finish, send_id, "shipped")
    await until(lambda: len(hears.webhooks) == tried + (1 if fault == "webhook_late" else 2))
    await until(lambda: gets(hears)[path + send_id] == before + 1)
    await asyncio.sleep(0.5)
    assert (await asyncio.to_thread(gets, hears))[path + send_id] == before + 1
    wait.cancel()


async def test_webhooks_in_the_wrong_order_leave_the_truth(hears: Sandbox) -> None:
    send_id = await asyncio.to_thread(gift, hears)
    wait = start(trigger(send_ids=[send_id], poke_interval=HOUR))
    await until(lambda: gets(hears)[f"/api/v3/sends/{send_id}"])
    await asyncio.to_thread(hears.fault, "webhook_out_of_order")
    await asyncio.to_thread(hears.finish, send_id, "shipped")
    await asyncio.sleep(0.3)
    await asyncio.to_thread(hears.finish, send_id, "delivered")
    assert (await ended(wait))["report"]["counts"] == {"delivered": 1}


async def test_a_lost_webhook_costs_until_the_rare_poll(
    hears: Sandbox, set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    send_id = await asyncio.to_thread(gift, hears)
    await asyncio.to_thread(hears.fault, "webhook_lost", times=100)
    monkeypatch.setattr(type(SendosoHook()), "rare_poll", 1.0)
    wait = start(trigger(send_ids=[send_id], poke_interval=1.0))
    await until(lambda: gets(hears)[f"/api/v3/sends/{send_id}"])
    await asyncio.to_thread(hears.finish, send_id, "delivered")
    assert (await ended(wait))["report"]["counts"] == {"delivered": 1}


async def test_without_webhooks_nothing_has_changed(
    hears: Sandbox, set_connection: Callable[..., None], asked: list[str]
) -> None:
    login = {"host": hears.url, "login": "sandbox", "password": "sandbox"}
    extra = {"requests_per_second": 500}
    set_connection("sendoso_default", {"conn_type": "sendoso", **login, "extra": extra})
    send_id = await asyncio.to_thread(gift, hears)
    del asked[:]
    wait = start(trigger(send_ids=[send_id], poke_interval=1.0))
    await until(lambda: gets(hears)[f"/api/v3/sends/{send_id}"] >= 2)
    assert not [statement for statement in asked if "wakeups" in statement.lower() and "INSERT" not in statement]
    await asyncio.to_thread(hears.finish, send_id, "delivered")
    assert (await ended(wait))["status"] == "settled"


async def test_a_wake_up_from_before_the_trigger_began_is_not_lost(hears: Sandbox) -> None:
    """The status was read by the sensor; what came before the triggerer took over is in the ledger."""
    ids = await asyncio.to_thread(lambda: [gift(hears, number) for number in range(2)])
    sensor = SendStatusSensor(task_id="arrived", send_id=ids, deferrable=True, poke_interval=HOUR)
    with pytest.raises(TaskDeferred) as deferred:
        await asyncio.to_thread(sensor.execute, {"ti": TI()})
    _, arguments = deferred.value.trigger.serialize()
    await asyncio.to_thread(lambda: [hears.finish(send_id, "delivered") for send_id in ids])
    await until(lambda: sum(attempt.status == 204 for attempt in hears.webhooks) == 4)
    assert (await ended(start(SendStatusTrigger(**arguments))))["report"]["counts"] == {"delivered": 2}


async def test_a_batch_that_has_grown_meanwhile_is_not_over(
    hears: Sandbox, batch: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(batch, 1)
    (first,) = await asyncio.to_thread(SendosoHook().recorded_send_ids, dedupe_scope="q4")
    wait = start(trigger(dedupe_scope="q4", poke_interval=HOUR))
    await until(lambda: gets(hears)[f"/api/v3/sends/{first}"])
    ids = await asyncio.to_thread(more, 2)
    await asyncio.to_thread(hears.finish, first, "delivered")
    (second,) = set(ids) - {first}
    await until(lambda: gets(hears)[f"/api/v3/sends/{second}"])
    assert not wait.done()
    await asyncio.to_thread(hears.finish, second, "delivered")
    assert (await ended(wait))["report"]["counts"] == {"delivered": 2}


def more(count: int) -> list[str]:
    """Send the scope's batch again, with more people."""
    from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

    people = [{"first_name": "Ada", "last_name": "L", "email": f"ada{n}@example.com"} for n in range(count)]
    operator = BatchSendOperator(
        task_id="gifts", recipients=people, dedupe_scope="q4", gift_id="gift-donation-trees", message="Hi"
    )
    operator.execute({"ti": TI()})
    return SendosoHook().recorded_send_ids(dedupe_scope="q4")


async def test_campaign_sends_are_woken_by_the_id_of_the_trackers_list(
    hears: Sandbox, batch: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.waiting.watch._PAUSE_PER_PAGE", 0.2)
    await asyncio.to_thread(lambda: batch(2, touch_id=102))
    wait = start(trigger(dedupe_scope="q4", poke_interval=HOUR))
    await until(lambda: gets(hears)["/api/v3/send"])
    for send in await asyncio.to_thread(hears.campaign_sends):
        await asyncio.to_thread(hears.finish, send.id, "Redeemed")
    assert (await ended(wait))["report"]["counts"] == {"delivered": 2}


async def test_the_trackers_list_is_not_read_at_every_webhook(hears: Sandbox, batch: Callable[..., list[str]]) -> None:
    await asyncio.to_thread(lambda: batch(5, touch_id=102))
    wait = start(trigger(dedupe_scope="q4", poke_interval=HOUR))
    await until(lambda: gets(hears)["/api/v3/send"])
    await asyncio.sleep(0.3)
    for send in await asyncio.to_thread(hears.campaign_sends):
        await asyncio.to_thread(hears.finish, send.id, "Opened")
        await asyncio.sleep(0.15)
    await asyncio.sleep(0.5)
    assert (await asyncio.to_thread(gets, hears))["/api/v3/send"] == 1  # for one page 36 seconds
    wait.cancel()


async def test_an_outage_of_sendoso_is_borne_as_long_as_without_webhooks(hears: Sandbox, served: Served) -> None:
    send_id = await asyncio.to_thread(gift, hears)
    wait = start(trigger(send_ids=[send_id], poke_interval=HOUR))
    await until(lambda: gets(hears)[f"/api/v3/sends/{send_id}"])
    await asyncio.to_thread(hears.fault, "error_before", times=1000, method="GET")
    before = (await asyncio.to_thread(gets, hears))[f"/api/v3/sends/{send_id}"]
    for number in range(12):
        await asyncio.to_thread(served.post, Webhook(told(f"sandbox-{send_id}"), id=f"msg_outage_{number}"))
        await asyncio.sleep(0.1)
    assert not wait.done()
    assert (await asyncio.to_thread(gets, hears))[f"/api/v3/sends/{send_id}"] - before <= 2
    wait.cancel()


async def test_a_triggerer_asks_the_ledger_once_for_all_its_triggers(hears: Sandbox) -> None:
    ids = await asyncio.to_thread(lambda: [gift(hears, number) for number in range(3)])
    waits = [start(trigger(send_ids=[send_id], poke_interval=HOUR)) for send_id in ids * 20]
    await until(lambda: all(gets(hears)[f"/api/v3/sends/{send_id}"] >= 20 for send_id in ids))
    await asyncio.sleep(0.5)
    looks: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        looks.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    await asyncio.sleep(1.0)
    event.remove(Engine, "before_cursor_execute", note)
    of_wakeups = [statement for statement in looks if "FROM sendoso_wakeups" in statement]
    assert 5 <= len(of_wakeups) <= 20  # a second, at a look in 0.05 s; sixty triggers would make a thousand
    assert len(hearing._hubs[asyncio.get_running_loop()]) == 1
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert not hearing._hubs[asyncio.get_running_loop()]


async def test_a_ledger_that_is_away_is_told_once_and_looked_into_again(
    hears: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow_provider_sendoso.exceptions import SendosoLedgerError
    from airflow_provider_sendoso.ledger.wakeups import Wakeups

    send_id = await asyncio.to_thread(gift, hears)
    wait = start(trigger(send_ids=[send_id], poke_interval=HOUR))
    await until(lambda: gets(hears)[f"/api/v3/sends/{send_id}"])
    await quiet(hears)  # a webhook that is heard before would start a round, which fails and is repeated in an hour
    recent, away = Wakeups.recent, [True]

    def maybe(self: Wakeups, *arguments: Any) -> Any:
        if away[0]:
            raise SendosoLedgerError("The ledger is away.")
        return recent(self, *arguments)

    monkeypatch.setattr(Wakeups, "recent", maybe)
    await asyncio.to_thread(hears.finish, send_id, "delivered")
    await until(lambda: any(attempt.status == 204 for attempt in hears.webhooks))
    await until(lambda: "Could not look for webhooks" in caplog.text)
    await asyncio.sleep(0.5)  # for more looks
    assert caplog.text.count("Could not look for webhooks") == 1
    away[0] = False
    assert (await ended(wait))["report"]["counts"] == {"delivered": 1}


# -- the status sensor -------------------------------------------------------------------------------------------------


class Clock:
    """Lets a sensor's pauses take no time, and does something in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, work: Callable[[int], None]) -> None:
        self.pauses: list[float] = []
        self._work, self._sleep = work, time.sleep
        module = next(
            cls.__module__ for cls in SendStatusSensor.__mro__ if "_get_next_poke_interval" in vars(cls)
            and "airflow_provider_sendoso" not in cls.__module__
        )  # fmt: skip
        monkeypatch.setattr(f"{module}.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        if seconds <= turns._PAUSE:
            self._sleep(seconds)  # not a sensor's pause, but that of a process that waits for its turn in a bucket
            return
        self.pauses.append(seconds)
        self._work(len(self.pauses))


def test_a_sensor_that_occupies_a_worker_looks_every_few_seconds_and_reads_what_was_named(
    hears: Sandbox, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    ids = [gift(hears, number) for number in range(3)]
    until(lambda: len(hears.webhooks) == 3)
    real_sleep, counts = time.sleep, list[int]()

    def work(pause: int) -> None:
        counts.append(sum(gets(hears).values()))
        if pause == 3:
            for send_id in ids:
                hears.finish(send_id, "delivered")
            end = time.monotonic() + 30
            while sum(attempt.status == 204 for attempt in hears.webhooks) < 6:
                assert time.monotonic() < end
                real_sleep(0.05)

    clock = Clock(monkeypatch, work)
    monkeypatch.setattr(hearing, "LOOK_EVERY", 5.0)
    sensor = SendStatusSensor(task_id="arrived", send_id=ids, deferrable=False, poke_interval=HOUR, timeout=86_400)
    assert sensor.execute({"ti": TI()}) == dict.fromkeys(ids, "delivered")
    assert set(clock.pauses) == {5.0}
    # A read for each at first, perhaps another for the webhooks that had just come, and none in the pokes after that.
    assert counts[-1] == counts[1]
    assert len(clock.pauses) <= 4


def test_a_rescheduled_sensor_reads_at_each_poke_what_was_named_since(
    hears: Sandbox, until: Callable[..., None]
) -> None:
    ids = [gift(hears, number) for number in range(3)]
    until(lambda: len(hears.webhooks) == 3)

    def poke() -> tuple[Any, Counter[str]]:
        """In a process of its own, as the scheduler begins one for every poke."""
        before = gets(hears)
        sensor = SendStatusSensor(
            task_id="arrived", send_id=ids, deferrable=False, poke_interval=300, mode="reschedule"
        )
        return sensor.poke({"ti": TI()}), gets(hears) - before

    batch_of_now(ids)
    assert sum(poke()[1].values()) == 3
    back(wakeups, wakeups.c.received_at, 60)
    back(sends, sends.c.status_at, 30)
    assert sum(poke()[1].values()) == 0  # five minutes later, nothing was named
    hears.finish(ids[1], "delivered")
    until(lambda: sum(attempt.status == 204 for attempt in hears.webhooks) == 4)
    assert poke()[1] == Counter({f"/api/v3/sends/{ids[1]}": 1})


def batch_of_now(ids: list[str]) -> None:
    """Put sends into the ledger, as if a batch had sent them."""
    from sqlalchemy import insert

    from airflow_provider_sendoso.ledger.records import State

    hook = SendosoHook()
    row = {"account": hook.config.account, "dedupe_scope": "q4", "state": State.SENT, "attempt": 1, "lease_until": 0.0}
    row |= {"batch_id": "b", "gift_id": "gift-mug", "payload_hash": "p", "created_at": time.time()}
    rows = [row | {"send_key": send_id, "send_id": send_id} for send_id in ids]
    hook.ledger._database.run(lambda connection: connection.execute(insert(sends), rows))


def back(table: Any, column: Any, seconds: float) -> None:
    older = update(table).values({column.name: column - seconds})
    SendosoHook().ledger._database.run(lambda connection: connection.execute(older))


# -- events ------------------------------------------------------------------------------------------------------------


async def test_a_webhook_ends_the_pause_of_an_event_wait(hears: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.waiting.watch._PAUSE_PER_PAGE", 0.1)
    send_id = await asyncio.to_thread(gift, hears)
    arguments = {"object": "sends", "events": ["status_changed"], "cursor_name": "c", "run": "r"}
    wait = start(
        SendosoEventWaitTrigger(**arguments, poke_interval=HOUR, deadline=time.time() + 600)  # type: ignore[arg-type]
    )
    await until(lambda: gets(hears)["/api/v3/sends"])
    await asyncio.sleep(0.3)
    await asyncio.to_thread(hears.finish, send_id, "delivered")
    report = (await ended(wait))["report"]
    assert [event["id"] for event in report["events"]] == [send_id]


async def test_a_webhook_ends_the_pause_of_an_asset_watchers_trigger(
    hears: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.waiting.watch._PAUSE_PER_PAGE", 0.1)
    send_id = await asyncio.to_thread(gift, hears)
    watcher = SendosoEventTrigger(object="sends", events=["status_changed"], poke_interval=HOUR)
    wait = start(watcher)
    await until(lambda: gets(hears)["/api/v3/sends"])
    await asyncio.sleep(0.3)
    await asyncio.to_thread(hears.finish, send_id, "delivered")
    payload = await ended(wait)
    assert [event["id"] for event in payload["events"]] == [send_id]


async def test_a_webhook_ends_the_pause_of_a_shared_poll(hears: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.waiting.watch._PAUSE_PER_PAGE", 0.1)
    kwargs = {"object": "sends", "events": ["created"], "poke_interval": HOUR}
    stream = SendosoEventTrigger.open_shared_stream(kwargs)
    assert (await asyncio.wait_for(anext(stream), 60)).rows == {}
    following = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.3)
    send_id = await asyncio.to_thread(gift, hears)
    assert list((await asyncio.wait_for(following, 60)).rows) == [send_id]
    await stream.aclose()  # type: ignore[attr-defined]
    assert not hearing._hubs[asyncio.get_running_loop()]


async def test_webhooks_do_not_hasten_the_poll_of_a_list_that_they_do_not_tell_of(hears: Sandbox) -> None:
    watcher = SendosoEventTrigger(object="touches", poke_interval=HOUR)
    wait = start(watcher)
    await until(lambda: gets(hears)["/api/v3/touches"])
    await asyncio.to_thread(gift, hears)
    await asyncio.sleep(0.5)
    assert (await asyncio.to_thread(gets, hears))["/api/v3/touches"] == 1
    wait.cancel()


async def test_a_poll_that_fails_is_repeated_after_the_poke_interval_and_not_after_the_rare_one(
    hears: Sandbox,
) -> None:
    await asyncio.to_thread(hears.fault, "error_before", times=1, method="GET", path="/api/v3/sends")
    wait = start(SendosoEventTrigger(object="sends", poke_interval=1.0))
    await until(lambda: gets(hears)["/api/v3/sends"] == 2)
    wait.cancel()


def test_an_event_sensor_in_a_worker_polls_when_a_send_has_changed(
    hears: Sandbox, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.waiting.watch._PAUSE_PER_PAGE", 0.0)
    send_id = gift(hears)
    until(lambda: hears.webhooks)
    real_sleep, counts = time.sleep, list[int]()

    def work(pause: int) -> None:
        counts.append(gets(hears)["/api/v3/sends"])
        if pause == 3:
            hears.finish(send_id, "delivered")
            end = time.monotonic() + 30
            while sum(attempt.status == 204 for attempt in hears.webhooks) < 2:
                assert time.monotonic() < end
                real_sleep(0.05)

    clock = Clock(monkeypatch, work)
    sensor = SendosoEventSensor(
        task_id="news", object="sends", events=["status_changed"], deferrable=False, poke_interval=60, timeout=86_400
    )
    report = sensor.execute({"ti": TI()})
    assert [event["id"] for event in report["events"]] == [send_id]
    assert counts[-1] == counts[1]
    assert len(clock.pauses) <= 4
