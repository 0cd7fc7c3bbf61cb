"""One trigger waits for thousands of sends with few requests, small arguments and a small event, and misses none."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from watchers import Onlooker, fire, gets, largest_effort, trigger

from airflow_provider_sendoso.exceptions import SendosoLedgerError, SendosoStatusError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.account import Account
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger
from airflow_provider_sendoso.waiting.watch import TRANSIENT_FAILURES

Sent = Callable[..., list[str]]
Recorded = Callable[..., list[str]]
InLedger = Callable[[], Counter[str | None]]

LIST = "/api/v3/sends"


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.triggers.sendoso._SHORTEST_PAUSE", 0.02)


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def ledger_connection(request: pytest.FixtureRequest, empty_ledger: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return empty_ledger(request.param)


# What does not depend on the database is tried on one.
on_sqlite = pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)


def asked(sandbox: Sandbox) -> list[str]:
    """The requests to Sendoso: the id that each asked for, or ``""`` for a page of the list."""
    return [r.path.removeprefix(LIST).lstrip("/") for r in sandbox.requests if r.path.startswith(LIST)]


def sensor(**arguments: Any) -> SendStatusSensor:
    return SendStatusSensor(**({"task_id": "arrived", "deferrable": False, "poke_interval": 0.01} | arguments))


def deferred(**arguments: Any) -> SendStatusTrigger:
    with pytest.raises(TaskDeferred) as caught:
        sensor(deferrable=True, **arguments).execute({})
    waiting = caught.value.trigger
    assert isinstance(waiting, SendStatusTrigger)
    return waiting


def again(waiting: SendStatusTrigger) -> SendStatusTrigger:
    """The trigger as another triggerer deserialises it."""
    return SendStatusTrigger(**json.loads(json.dumps(waiting.serialize()[1])))


# -- a batch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [{"batch_id": "batch-1"}, {"dedupe_scope": "q4"}])
async def test_a_thousand_sends_settle_with_ten_requests(
    recorded: Recorded, patient: Sandbox, in_ledger: InLedger, by: dict[str, str]
) -> None:
    await asyncio.to_thread(recorded, 1000, "delivered")
    event = await fire(trigger(**by))
    assert (event["status"], event["report"]["reached"]) == ("settled", 1000)
    assert asked(patient) == [""] * 10
    assert in_ledger() == {"delivered": 1000}


async def test_sends_under_way_are_asked_for_again_and_arrived_ones_are_not(
    recorded: Recorded, patient: Sandbox, in_ledger: InLedger
) -> None:
    await asyncio.to_thread(recorded, 250, "delivered")
    left = await asyncio.to_thread(recorded, 5, "shipped")
    began = time.monotonic()
    task = asyncio.create_task(fire(trigger(batch_id="batch-1", poke_interval=0.05)))
    while asked(patient)[3:] == [] and not task.done():  # noqa: ASYNC110  # nobody sets an event at a request
        await asyncio.sleep(0.1)
    for send_id in left:
        await asyncio.to_thread(patient.finish, send_id, "returned")
    event = await task
    assert event["report"]["counts"] == {"delivered": 250, "returned": 5}
    assert set(event["report"]["failed_ids"]) == set(left)
    assert asked(patient)[:3] == [""] * 3
    assert set(asked(patient)[3:]) == set(left)
    # Rounds of 0.05 s, and a shipped send is asked in every twelfth.
    assert max(Counter(asked(patient)[3:]).values()) <= 2 + (time.monotonic() - began) / (12 * 0.05)
    assert in_ledger() == {"delivered": 250, "returned": 5}


@on_sqlite
async def test_a_batch_may_grow_while_it_is_waited_for(recorded: Recorded, patient: Sandbox) -> None:
    (first,) = await asyncio.to_thread(recorded, 1)
    task = asyncio.create_task(fire(trigger(batch_id="batch-1")))
    while asked(patient) == [] and not task.done():  # noqa: ASYNC110 - nobody sets an event at a request
        await asyncio.sleep(0.01)
    await asyncio.to_thread(recorded, 20, "delivered")
    while "" not in asked(patient) and not task.done():  # noqa: ASYNC110 - the list: so it has heard of the twenty
        await asyncio.sleep(0.01)
    await asyncio.to_thread(patient.finish, first, "delivered")
    assert (await task)["report"]["counts"] == {"delivered": 21}


@on_sqlite
async def test_ten_thousand_sends_make_a_small_event_and_known_final_statuses_are_not_asked_for(
    recorded: Recorded, patient: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(recorded, 10_000, known="returned")
    event: dict[str, Any] = {}
    onlooker = Onlooker()
    onlooker.watch(monkeypatch, Database, "run")

    async def run() -> None:
        event.update(await fire(trigger(batch_id="batch-1")))

    effort = await largest_effort(run())
    assert asked(patient) == []
    assert onlooker.seen == {"run": True}
    assert (event["report"]["failed"], len(event["report"]["failed_ids"])) == (10_000, 100)
    assert len(json.dumps(event)) < 10_000
    assert effort < 0.25


# -- a restart ---------------------------------------------------------------------------------------------------------


async def test_a_trigger_restarted_midway_asks_only_for_the_sends_that_are_left(
    recorded: Recorded, patient: Sandbox
) -> None:
    ids = await asyncio.to_thread(recorded, 300, "delivered")
    patient.fault("status", status=404, method="GET", path=LIST)  # once: it is not asked for again
    first = trigger(batch_id="batch-1")
    task = asyncio.create_task(fire(first))
    while len(asked(patient)) < 100:  # noqa: ASYNC110 - what is waited for is at the other end of a socket
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before = asked(patient)
    assert before.count("") == 1
    assert len(before) < 300

    patient.fault("status", status=404, method="GET", path=LIST)
    event = await fire(again(first))
    assert event["report"]["counts"] == {"delivered": 300}
    counted = Counter(asked(patient))
    assert counted.pop("") == 2
    assert set(counted) == set(ids)
    assert counted.total() <= len(ids) + 1  # but for the one that was on its way


# -- the list ----------------------------------------------------------------------------------------------------------


@on_sqlite
async def test_rows_repeated_by_a_list_that_grows_count_once(
    recorded: Recorded, patient: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await asyncio.to_thread(recorded, 500, "delivered")
    sends = Account.sends

    def grow(self: Account) -> Any:
        newest = sends(self)[-1]
        for _ in range(7):
            self.accept(newest.body, newest.client_id)
        return sends(self)

    monkeypatch.setattr(Account, "sends", grow)
    event = await fire(trigger(batch_id="batch-1"))
    assert event["report"]["counts"] == {"delivered": len(ids)}
    assert asked(patient) == [""] * 6


@on_sqlite
async def test_sends_missed_by_a_list_that_shrinks_are_asked_for_by_id(
    recorded: Recorded, patient: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(recorded, 500, "delivered")
    sends, calls = Account.sends, []

    def shrink(self: Account) -> Any:
        calls.append(self)
        everything = sends(self)
        return everything[: len(everything) - 7 * (len(calls) - 1)]

    monkeypatch.setattr(Account, "sends", shrink)
    event = await fire(trigger(batch_id="batch-1"))
    assert event["report"]["counts"] == {"delivered": 500}
    one_by_one = [name for name in asked(patient) if name]
    assert len(one_by_one) == len(set(one_by_one)) == 4 * 7
    assert asked(patient).count("") == 5


# -- lists of ids ------------------------------------------------------------------------------------------------------


async def test_ten_thousand_ids_make_small_trigger_arguments(
    recorded: Recorded, patient: Sandbox, in_ledger: InLedger
) -> None:
    ids = await asyncio.to_thread(recorded, 300, "delivered")
    ids += await asyncio.to_thread(recorded, 9_700, batch_id="batch-2", known="delivered")
    waiting = await asyncio.to_thread(lambda: deferred(send_id=ids))
    assert gets(patient) == 0  # many are left to the triggerer
    assert len(json.dumps(waiting.serialize())) < 1000
    event = await fire(again(waiting))
    assert (event["status"], event["report"]["counts"]) == ("settled", {"delivered": 10_000})
    assert event["report"]["statuses"] is None
    assert len(json.dumps(event)) < 10_000
    assert set(asked(patient)) == {""}
    assert in_ledger() == {"delivered": 10_000}
    result = sensor(send_id=ids).execute_complete({}, event)
    assert (result["sends"], result["reached"], result["failed_ids"]) == (10_000, 10_000, [])


async def test_a_list_of_sends_that_the_ledger_does_not_know_is_kept_and_followed(
    sent: Sent, ledger: Any, patient: Sandbox
) -> None:
    ids = await asyncio.to_thread(sent, *["delivered"] * 101)
    waiting = await asyncio.to_thread(lambda: deferred(send_id=ids))
    assert waiting.send_ids is None
    event = await fire(again(waiting))
    assert event["report"]["counts"] == {"delivered": 101}
    assert asked(patient).count("") == 2 + 101  # the sends themselves were posted there


@pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)
async def test_a_list_of_a_hundred_returns_a_status_for_each(recorded: Recorded, patient: Sandbox) -> None:
    ids = await asyncio.to_thread(recorded, 100, "delivered")
    waiting = await asyncio.to_thread(lambda: deferred(send_id=ids))
    assert waiting.send_ids == ids
    assert (await fire(waiting))["report"]["statuses"] == dict.fromkeys(ids, "delivered")


async def test_without_a_ledger_the_list_itself_is_the_argument(sent: Sent, patient: Sandbox) -> None:
    ids = await asyncio.to_thread(sent, *["delivered"] * 101)
    waiting = await asyncio.to_thread(lambda: deferred(send_id=ids))
    assert waiting.send_ids == ids
    assert (await fire(waiting))["report"]["counts"] == {"delivered": 101}


@on_sqlite
async def test_a_list_that_is_not_in_the_ledger_is_an_error_that_the_next_try_mends(
    patient: Sandbox, ledger: Any
) -> None:
    event = await fire(trigger(list_id="nobody"))
    assert (event["status"], event["retryable"]) == ("error", True)
    assert "not in this ledger" in event["message"]


# -- sends that do not answer ------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize("which", [0, 2, 4])
async def test_one_send_that_always_fails_does_not_end_the_wait(
    recorded: Recorded, patient: Sandbox, in_ledger: InLedger, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a failure a send is not asked about for a quarter of its age, so for longer each time.
    monkeypatch.setattr("airflow_provider_sendoso.waiting.watch._OF_ITS_AGE", 0.0)
    ids = await asyncio.to_thread(recorded, 5, "delivered")
    patient.fault("error_before", times=TRANSIENT_FAILURES + 3, path=f"{LIST}/{ids[which]}")
    event = await fire(trigger(batch_id="batch-1"))
    assert (event["status"], event["report"]["counts"]) == ("settled", {"delivered": 5})
    assert asked(patient).count(ids[which]) == TRANSIENT_FAILURES + 4
    assert len(asked(patient)) == TRANSIENT_FAILURES + 4 + 4


@on_sqlite
async def test_a_wait_gives_up_when_nothing_answers(recorded: Recorded, patient: Sandbox) -> None:
    await asyncio.to_thread(recorded, 200)
    patient.fault("error_before", times=10_000, method="GET", path="/api")
    event = await fire(trigger(batch_id="batch-1"))
    assert (event["status"], event["retryable"]) == ("error", True)
    # A round tries the list and a few sends, not all two hundred.
    assert gets(patient) == 6 * (TRANSIENT_FAILURES + 1)


@on_sqlite
@pytest.mark.parametrize("deferrable", [True, False])
def test_an_id_that_sendoso_does_not_know_counts_as_failed(recorded: Recorded, deferrable: bool) -> None:
    ids = [*recorded(3, "delivered"), "send-nobody"]
    with pytest.raises(SendosoStatusError, match=r"1 of 4 sends failed.*1 not_found.*send-nobody") as caught:
        sensor(send_id=ids, deferrable=deferrable).execute({})
    assert isinstance(caught.value, AirflowFailException)
    result = sensor(send_id=ids, deferrable=deferrable, min_delivered=0.75).execute({})
    assert result == dict.fromkeys(ids[:3], "delivered") | {"send-nobody": "not_found"}


# -- the deadline ------------------------------------------------------------------------------------------------------


def takes_minutes(sandbox: Sandbox) -> None:
    """Two thousand sends that are asked one by one, a tenth of a second each."""
    sandbox.fault("status", status=404, method="GET", path=LIST)
    sandbox.fault("slow", times=10_000, delay=0.1, method="GET", path=LIST)


@on_sqlite
async def test_the_deadline_ends_a_round_that_takes_longer(
    recorded: Recorded, patient: Sandbox, in_ledger: InLedger
) -> None:
    await asyncio.to_thread(recorded, 2000, "delivered")
    for seconds in (2, 10, 100):  # until there are answers by then, however busy the machine is
        patient.clear_faults()
        takes_minutes(patient)
        started = time.monotonic()
        event = await fire(trigger(seconds, batch_id="batch-1"))
        assert time.monotonic() - started < seconds + 60
        assert event["status"] == "timeout"
        if event["report"]["reached"]:
            break
    # The statuses that were read by then are not lost.
    assert in_ledger()["delivered"] == event["report"]["reached"] > 0


# -- the sensor's own pokes --------------------------------------------------------------------------------------------


def test_a_poke_asks_only_for_what_is_due(recorded: Recorded, patient: Sandbox, in_ledger: InLedger) -> None:
    recorded(300, "shipped")
    waiting = sensor(batch_id="batch-1", poke_interval=300)
    assert not waiting.poke({})
    assert asked(patient) == [""] * 3
    assert in_ledger() == {"shipped": 300}
    assert not waiting.poke({})
    # Nor does one of another process, whose memory is the ledger.
    assert not sensor(batch_id="batch-1", poke_interval=300, mode="reschedule").poke({})
    assert asked(patient) == [""] * 3


@on_sqlite
def test_a_sensor_that_pokes_waits_for_many_sends_with_few_requests(
    recorded: Recorded, patient: Sandbox, in_ledger: InLedger
) -> None:
    recorded(290, "delivered")
    recorded(10, "returned")
    result = sensor(batch_id="batch-1", min_delivered=0.9).execute({})
    assert (result["sends"], result["reached"], result["failed"]) == (300, 290, 10)
    assert asked(patient) == [""] * 3
    assert in_ledger() == {"delivered": 290, "returned": 10}


@on_sqlite
def test_a_poke_does_not_take_longer_than_the_timeout(recorded: Recorded, patient: Sandbox) -> None:
    recorded(2000, "delivered")
    takes_minutes(patient)
    started = time.monotonic()
    assert not sensor(batch_id="batch-1", timeout=0.5).poke({})
    assert time.monotonic() - started < 60


@on_sqlite
def test_the_first_look_of_a_deferrable_sensor_asks_for_a_few_only(recorded: Recorded, patient: Sandbox) -> None:
    recorded(11, "delivered")
    assert deferred(batch_id="batch-1").batch_id == "batch-1"
    assert gets(patient) == 0
    # The ledger knows all statuses, so the wait is over at once.
    recorded(5000, batch_id="batch-2", known="delivered")
    assert sensor(batch_id="batch-2", deferrable=True).execute({})["reached"] == 5000
    assert gets(patient) == 0


@on_sqlite
async def test_a_ledger_that_fails_for_a_moment_does_not_keep_a_wait_from_ending(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(recorded, 3, known="delivered")
    read, calls = SendosoHook.recorded_sends, []

    def fail_first(*arguments: Any, **where: Any) -> Any:
        calls.append(where)
        if len(calls) <= 2:
            raise SendosoLedgerError("no")
        return read(*arguments, **where)

    monkeypatch.setattr(SendosoHook, "recorded_sends", fail_first)
    assert (await fire(trigger(batch_id="batch-1")))["status"] == "settled"


@on_sqlite
def test_a_ledger_that_cannot_be_written_to_does_not_stop_a_wait(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(3, "delivered")

    def refuse(*arguments: Any) -> None:
        raise SendosoLedgerError("no")

    monkeypatch.setattr(SendosoHook, "note_statuses", refuse)
    assert sensor(batch_id="batch-1").execute({})["reached"] == 3
