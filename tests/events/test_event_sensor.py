"""SendosoEventSensor: each event ends one run's wait, and the cursor survives tries, restarts and runs."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred
from sqlalchemy import select

from airflow_provider_sendoso.events.polling import MOST_HANDED, cursor_key
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError, SendosoServerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.schema import cursors
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor
from airflow_provider_sendoso.triggers.events import SendosoEventWaitTrigger
from airflow_provider_sendoso.waiting.watch import TRANSIENT_FAILURES

Launch = Callable[[int], None]


class TI:
    def __init__(self, run_id: str = "run-1", map_index: int = -1) -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "dag", "wait", run_id, map_index

    def xcom_push(self, key: str, value: Any) -> None:
        pass


def sensor(**arguments: Any) -> SendosoEventSensor:
    defaults = {"task_id": "wait", "object": "touches", "deferrable": False, "poke_interval": 0.01, "timeout": 600}
    return SendosoEventSensor(**(defaults | arguments))


def poke(run_id: str = "run-1", map_index: int = -1, **arguments: Any) -> dict[str, Any] | None:
    """One poll, in a process of its own."""
    report: dict[str, Any] | None = sensor(**arguments).poke({"ti": TI(run_id, map_index)}).xcom_value
    assert json.loads(json.dumps(report)) == report
    return report


def ids(report: dict[str, Any] | None) -> list[str]:
    return [] if report is None else [event["id"] for event in report["events"]]


async def defer(run_id: str = "run-1", **arguments: Any) -> dict[str, Any]:
    """Go through a deferral as Airflow does, the trigger in another process."""
    task = sensor(deferrable=True, **arguments)
    context: Any = {"ti": TI(run_id)}
    with pytest.raises(TaskDeferred) as deferred:
        await asyncio.to_thread(task.execute, context)
    path, given = deferred.value.trigger.serialize()
    assert path == "airflow_provider_sendoso.triggers.events.SendosoEventWaitTrigger"
    (event,) = [event async for event in SendosoEventWaitTrigger(**json.loads(json.dumps(given))).run()]
    report: dict[str, Any] = task.execute_complete(context, json.loads(json.dumps(event.payload)))
    return report


# -- what is an event --------------------------------------------------------------------------------------------------


def test_the_sensor_waits_for_a_row_that_was_not_there_at_the_first_poll(world: Sandbox, launch: Launch) -> None:
    assert poke() is None
    assert poke() is None
    launch(105)
    assert poke() == {
        "object": "touches",
        "counts": {"created": 1},
        "left": 0,
        "events": [
            {"object": "touches", "id": "105", "event": "created", "occurred_at": "2026-03-01T17:00:00+00:00"},
        ],
    }


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("groups", {"id": 13, "name": "Sales"}),
        ("return-addresses", {"id": 22, "name": "Grace Hopper"}),
        ("users", {"id": 4, "first_name": "Ada", "email": "ada@example.com"}),
    ],
)
def test_groups_return_addresses_and_users_have_events(world: Sandbox, name: str, row: dict[str, Any]) -> None:
    assert poke(object=name) is None
    world.add(name, row)
    report = poke(object=name)
    assert ids(report) == [str(row["id"])]
    assert not {"ada", "grace"} & set(str(report).casefold().replace("@", " ").split())


def test_sends_and_their_changes_are_events(world: Sandbox, send: Any) -> None:
    asked = {"object": "sends", "events": ["created", "status_changed"]}
    (old,) = send()
    assert poke(**asked) is None
    world.finish(old, "delivered")
    (new,) = send()
    report = poke(**asked)
    assert report is not None
    assert report["counts"] == {"created": 1, "status_changed": 1}
    happened = {(event["id"], event["event"], event["status"]) for event in report["events"]}
    assert happened == {(old, "status_changed", "delivered"), (new, "created", "pending")}
    (change,) = (event for event in report["events"] if event["id"] == old)
    assert change["previous_status"] == "pending"
    assert abs(time.time() - datetime.fromisoformat(change["occurred_at"]).timestamp()) < 60


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_the_send_tracker_is_polled_behind_many_old_sends(
    world: Sandbox, send_of_a_campaign: Callable[[], str], order: str
) -> None:
    world.order = order
    world.preload(2500, spacing=600)
    asked = {"object": "campaign_sends", "events": ["created", "status_changed"], "statuses": ["delivered"]}
    assert poke(**asked) is None
    first, second = send_of_a_campaign(), send_of_a_campaign()
    assert sorted(ids(poke(**asked))) == sorted([first, second])
    world.finish(second, "Redeemed")
    before = len(world.requests)
    report = poke("run-2", **asked)
    assert [(event["id"], event["status"]) for event in report["events"]] == [(second, "delivered")]  # type: ignore[index]
    assert (len(world.requests) - before < 5) is (order == "newest_first")


# -- the cursor --------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_where_the_last_one_ended(world: Sandbox, launch: Launch) -> None:
    poke("run-1")
    launch(105)
    assert ids(poke("run-1")) == ["105"]
    launch(106)  # between the runs
    assert ids(poke("run-2")) == ["106"]
    assert poke("run-3") is None


def test_a_retry_and_a_cleared_run_get_the_events_of_the_killed_try(world: Sandbox, launch: Launch) -> None:
    poke("run-1")
    launch(105)
    report = poke("run-1")
    launch(106)
    assert poke("run-1") == report
    assert ids(poke("run-2")) == ["106"]
    assert poke("run-1") == report
    for number in range(MOST_HANDED):
        launch(200 + number)
        assert ids(poke(f"later-{number}")) == [str(200 + number)]
    assert poke("run-1") is None


def test_events_beyond_one_report_go_to_the_next_run(
    world: Sandbox, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.events.differences.Cursor.take.__defaults__", (4,))
    poke("run-0")
    for number in range(10):
        launch(200 + number)
    reports = [poke(f"run-{number}") for number in range(1, 5)]
    assert [report and (len(report["events"]), report["left"]) for report in reports] == [(4, 6), (4, 2), (2, 0), None]
    assert len({row_id for report in reports for row_id in ids(report)}) == 10


def test_tasks_have_their_own_cursors_unless_they_share_a_cursor_name(world: Sandbox, launch: Launch) -> None:
    poke()
    poke(cursor_name="shared")
    launch(105)
    assert poke(map_index=3) is None  # its first
    assert ids(poke("run-2", cursor_name="shared")) == ["105"]
    assert poke("run-3", cursor_name="shared") is None
    assert ids(poke()) == ["105"]


def test_of_concurrent_runs_each_event_goes_to_one(world: Sandbox, launch: Launch) -> None:
    poke("run-0")
    found: list[str] = []
    over = threading.Event()

    def runs(worker: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            found.extend(ids(poke(f"run-{worker}-{number}")))

    with ThreadPoolExecutor() as workers:
        working = [workers.submit(runs, worker) for worker in range(4)]
        launched = [str(300 + number) for number in range(12)]
        for row_id in launched:
            launch(int(row_id))
            time.sleep(0.1)
        give_up = time.monotonic() + 300
        while len(found) < len(launched) and time.monotonic() < give_up:
            time.sleep(0.05)
        over.set()
        for each in working:
            each.result()
    assert sorted(found) == launched


def test_the_ledger_has_no_personal_data(world: Sandbox, send: Any, send_of_a_campaign: Callable[[], str]) -> None:
    send()
    send_of_a_campaign()
    for name in ("sends", "campaign_sends"):
        poke(object=name, events=["created", "status_changed"], cursor_name=name)
    poke(object="users")
    engine = SendosoHook().ledger._database.engine
    with engine.connect() as connection:
        rows = connection.execute(select(cursors)).all()
    assert len(rows) == 3
    assert "ada" not in str(rows).casefold()
    assert "grace" not in str(rows).casefold()


def test_cursor_keys_are_readable_short_and_unambiguous() -> None:
    assert cursor_key("touches", "app.sendoso.com", "dag/task").startswith("touches/app.sendoso.com/dag/task#")
    assert cursor_key("sends", "a/b", "c") != cursor_key("sends", "a", "b/c")
    assert len({cursor_key("sends", "a", "x" * 300 + end) for end in "ab"}) == 2
    assert len(cursor_key("sends", "a", "x" * 300)) == 190


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_the_sensor_ends_with_its_timeout(world: Sandbox) -> None:
    with pytest.raises(AirflowSensorTimeout):
        sensor(timeout=0.3).execute({"ti": TI()})


async def test_a_deferred_sensor_waits_in_the_triggerer(world: Sandbox, launch: Launch, polled: Any) -> None:
    waiting = asyncio.create_task(defer())
    await polled(3)
    assert not waiting.done()
    await asyncio.to_thread(launch, 105)
    assert ids(await waiting) == ["105"]
    assert ids(await asyncio.to_thread(poke)) == ["105"]  # the same run
    await asyncio.to_thread(launch, 106)
    assert ids(await defer("run-2")) == ["106"]


async def test_a_restarted_triggerer_goes_on_with_the_same_cursor_and_deadline(
    world: Sandbox, launch: Launch, polled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        await asyncio.to_thread(sensor(deferrable=True).execute, {"ti": TI()})
    _, given = deferred.value.trigger.serialize()
    killed = asyncio.create_task(anext(SendosoEventWaitTrigger(**given).run()))  # type: ignore[arg-type]
    await polled(3)
    killed.cancel()
    await asyncio.to_thread(launch, 105)
    event = await anext(SendosoEventWaitTrigger(**given).run())
    assert ids(event.payload["report"]) == ["105"]

    later = SimpleNamespace(time=lambda: time.time() + 599.8)
    monkeypatch.setattr("airflow_provider_sendoso.triggers.events.time", later)
    late = SendosoEventWaitTrigger(**given | {"run": "run-2"})
    event = await asyncio.wait_for(anext(late.run()), 60)
    assert event.payload == {"status": "timeout"}
    with pytest.raises(AirflowSensorTimeout, match="nothing new of touches"):
        sensor().execute_complete({}, event.payload)


def test_a_deferrable_retry_that_has_the_events_of_a_killed_try_does_not_defer(world: Sandbox, launch: Launch) -> None:
    poke()
    launch(105)
    report = poke()
    assert sensor(deferrable=True).execute({"ti": TI()}) == report


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_an_outage_is_waited_out_and_loses_nothing(world: Sandbox, launch: Launch) -> None:
    poke()
    launch(105)
    world.fault("status", status=503, times=TRANSIENT_FAILURES)
    assert ids(sensor().execute({"ti": TI()})) == ["105"]


def test_an_outage_without_end_is_an_error(world: Sandbox, launch: Launch) -> None:
    poke()
    launch(105)
    world.fault("status", status=503, times=100)
    with pytest.raises(SendosoServerError):
        sensor().execute({"ti": TI()})
    world.clear_faults()
    assert ids(poke()) == ["105"]


async def test_the_trigger_survives_a_short_outage_and_reports_a_long_one(world: Sandbox, launch: Launch) -> None:
    await asyncio.to_thread(poke)
    await asyncio.to_thread(launch, 105)
    world.fault("status", status=503, times=TRANSIENT_FAILURES)
    assert ids(await defer()) == ["105"]
    world.fault("status", status=503, times=100)
    with pytest.raises(SendosoError, match="503"):
        await defer("run-2")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"object": "gifts"}, "object holds 'gifts'"),
        ({"events": ["status_changed"]}, "only sends and campaign_sends"),
        ({"object": "sends", "events": "status_changed", "statuses": ["here"]}, "statuses holds 'here'"),
        ({"since": "soon"}, "since is 'soon'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(
    world: Sandbox, arguments: dict[str, Any], words: str
) -> None:
    for deferrable in (True, False):
        with pytest.raises(SendosoConfigError, match=words):
            sensor(**arguments, deferrable=deferrable).execute({"ti": TI()})
    assert [request for request in world.requests if request.method == "GET"] == []


def test_a_wait_on_the_vendors_sandbox_for_a_status_that_never_comes_is_refused(
    set_connection: Callable[..., None],
) -> None:
    host = "https://app.staging.sendo.so"
    set_connection("sendoso_default", {"conn_type": "sendoso", "host": host, "login": "l", "password": "p"})
    with pytest.raises(SendosoConfigError, match="never pass 'processing'"):
        sensor(object="sends", events=["status_changed"], statuses=["delivered"]).execute({"ti": TI()})


def test_without_a_ledger_the_error_has_the_line_to_set(sendoso: Sandbox) -> None:
    with pytest.raises(SendosoConfigError, match="AIRFLOW_CONN_SENDOSO_LEDGER="):
        sensor().execute({"ti": TI()})


@pytest.mark.parametrize("event", [None, {}, {"status": "events"}, {"status": "settled", "report": {}}])
def test_an_event_without_a_valid_report_fails_the_task(event: Any) -> None:
    with pytest.raises(SendosoError, match="says nothing about touches"):
        sensor().execute_complete({}, event)
