"""Waiting for a word of Sendoso's own, and for sends that Sendoso holds until a manager approves them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred
from sqlalchemy import update
from watchers import fire, trigger

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoStatusError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import StatusReport
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.waiting.goal import Goal
from airflow_provider_sendoso.waiting.watch import Watch

EGIFT = 102
WAYS = ["poke", "reschedule", "deferrable"]


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.triggers.sendoso._SHORTEST_PAUSE", 0.02)


class TI:
    """A task instance that remembers the links that its task pushes."""

    dag_id, task_id, run_id, map_index = "dag", "arrived", "run-1", -1

    def __init__(self) -> None:
        self.pushed: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append((key, value))

    @property
    def on_hold_links(self) -> list[Any]:
        return [value for key, value in self.pushed if key == "sendoso_on_hold_link"]


@pytest.fixture
def egifts(patient: Sandbox, ledger: Any) -> Callable[[int], str]:
    """Sends eGifts of a campaign; returns the batch's id."""

    def send(people: int) -> str:
        recipients = [{"email": f"ada{number}@example.com"} for number in range(people)]
        operator = BatchSendOperator(task_id="gifts", recipients=recipients, touch_id=EGIFT, dedupe_scope="q4")
        return str(operator.execute({"ti": TI()})["batch_id"])

    return send


def sensor(**arguments: Any) -> SendStatusSensor:
    return SendStatusSensor(**({"task_id": "arrived", "deferrable": False, "poke_interval": 0.01} | arguments))


def look(way: str, ti: TI | None = None, **arguments: Any) -> Any:
    """One look of a sensor in a new process; its result, or ``None`` if it goes on waiting."""
    context: Any = {"ti": ti or TI()}
    if way != "deferrable":
        return sensor(mode=way, **arguments).poke(context).xcom_value
    try:
        return sensor(deferrable=True, **arguments).execute(context)
    except TaskDeferred:
        return None


def look_until_over(way: str, **arguments: Any) -> Any:
    """Look as often as the sends take to be due again."""
    until = time.monotonic() + 30
    while (result := look(way, **arguments)) is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    return result


def records() -> list[Record]:
    return list(SendosoHook().ledger.sends.records(*State))


def finish(sandbox: Sandbox, *words: str) -> None:
    for accepted, word in zip(sandbox.campaign_sends(), words, strict=True):
        sandbox.finish(accepted.id, word)


# -- words of Sendoso's own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("target", ["redeemed", "Used/Redeemed", "USED"])
def test_an_egift_that_was_opened_is_not_redeemed(
    patient: Sandbox, egifts: Callable[[int], str], way: str, target: str
) -> None:
    batch_id = egifts(2)
    finish(patient, "Opened", "Redeemed")
    wanted = {"batch_id": batch_id, "target_statuses": (target,)}
    assert look(way, **wanted) is None
    assert sorted(str(record.status_word) for record in records()) == ["Opened", "Redeemed"]
    finish(patient, "Used", "Redeemed")
    result = look_until_over(way, **wanted)
    assert (result["reached"], result["failed"], result["counts"]) == (2, 0, {"delivered": 2})


async def test_a_trigger_waits_for_a_word(patient: Sandbox, egifts: Callable[[int], str]) -> None:
    batch_id = await asyncio.to_thread(egifts, 2)
    await asyncio.to_thread(finish, patient, "Opened", "Redeemed")
    waiting = asyncio.ensure_future(fire(trigger(batch_id=batch_id, target_statuses=["redeemed"])))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await asyncio.to_thread(finish, patient, "Redeemed", "Redeemed")
    assert (await waiting)["report"]["reached"] == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_word_that_a_send_has_had_counts(patient: Sandbox, egifts: Callable[[int], str], way: str) -> None:
    """Also where the later looks of another process no longer see it."""
    batch_id = egifts(2)
    for accepted in patient.campaign_sends():
        patient.finish(accepted.id, "Offer Sent")
    assert look(way, batch_id=batch_id, target_statuses=("offer sent", "redeemed"))["reached"] == 2
    finish(patient, "Sent", "Sent")
    wanted = {"batch_id": batch_id, "target_statuses": ("initiated",)}
    assert look(way, **wanted)["reached"] == 2


@pytest.mark.parametrize("way", WAYS)
def test_an_egift_that_expires_is_never_redeemed(patient: Sandbox, egifts: Callable[[int], str], way: str) -> None:
    batch_id = egifts(2)
    finish(patient, "Redeemed", "Expired and Credited")
    with pytest.raises(SendosoStatusError, match="1 of 2 sends failed or came back"):
        look(way, batch_id=batch_id, target_statuses=("redeemed",))
    assert look(way, batch_id=batch_id, target_statuses=("redeemed",), failed_statuses=())["reached"] == 1


def test_a_word_may_be_a_failure(patient: Sandbox, egifts: Callable[[int], str]) -> None:
    batch_id = egifts(1)
    finish(patient, "Insufficient Funds")
    with pytest.raises(SendosoStatusError, match="1 of 1 sends failed"):
        look("poke", batch_id=batch_id, failed_statuses=("failed", "returned", "insufficient funds"))


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("redemed", "did you mean 'redeemed'"),
        ("insuficient funds", "did you mean 'insufficient funds'"),
        ("lost", None),
    ],
)
@pytest.mark.parametrize("argument", ["target_statuses", "failed_statuses"])
def test_a_word_in_no_list_is_refused_with_near_names(
    patient: Sandbox, word: str, meant: str | None, argument: str
) -> None:
    with pytest.raises(SendosoConfigError, match=f"{argument} has '{word}'.*, which is neither a status") as refused:
        sensor(send_id="s-1", **{argument: (word,)}).execute({})
    assert ("did you mean" in str(refused.value)) is (meant is not None)
    assert (meant or "") in str(refused.value)
    assert patient.requests == []


# -- on hold at Sendoso ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["Insufficient Funds", "suspicious_email"])
@pytest.mark.parametrize("way", WAYS)
def test_a_send_on_hold_is_waited_for_and_said_once(
    patient: Sandbox, egifts: Callable[[int], str], way: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch_id, ti = egifts(2), TI()
    finish(patient, "Redeemed", word)
    caplog.set_level(logging.INFO, "airflow_provider_sendoso")
    for _ in range(3):
        assert look(way, ti, batch_id=batch_id) is None
    [record] = [record for record in records() if record.status == "pending"]
    assert record.status_word == word
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert [text for text in warnings if "on hold" in text] == [
        f"1 send is on hold at Sendoso ({word}: 1): {record.send_id}. A manager approves or cancels such a send in "
        "Sendoso's Send Tracker. Once approved it goes out, so do not send it again."
    ]
    assert set(ti.on_hold_links) == {patient.url}
    finish(patient, "Redeemed", "Redeemed")
    assert look_until_over(way, batch_id=batch_id)["on_hold"] == 0


def test_every_look_counts_what_is_on_hold_and_the_button_goes_with_it(
    patient: Sandbox, egifts: Callable[[int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id, ti = egifts(1), TI()
    waiting = sensor(batch_id=batch_id)
    for word, button in [("Sent", ""), ("Suspicious Email", patient.url), ("Sent", "")]:
        finish(patient, word)
        assert not waiting.poke({"ti": ti})
        assert ti.on_hold_links[-1] == button
    assert ti.on_hold_links == ["", patient.url, ""]


async def test_the_trigger_says_it_once_and_reports_it(
    patient: Sandbox, egifts: Callable[[int], str], caplog: pytest.LogCaptureFixture
) -> None:
    batch_id = await asyncio.to_thread(egifts, 2)
    await asyncio.to_thread(finish, patient, "Suspicious Email", "Redeemed")
    event = await fire(trigger(seconds=1, batch_id=batch_id))
    [held] = [record for record in await asyncio.to_thread(records) if record.status == "pending"]
    assert event["status"] == "timeout"
    assert (event["report"]["on_hold"], event["report"]["on_hold_ids"]) == (1, [held.send_id])
    assert sum("A manager approves" in entry.getMessage() for entry in caplog.records) == 1
    ti = TI()
    with pytest.raises(
        AirflowSensorTimeout, match=rf"1 of them on hold at Sendoso\. On hold: {held.send_id}; a manager"
    ):
        sensor(batch_id=batch_id).execute_complete({"ti": ti}, event)  # type: ignore[typeddict-item]
    assert ti.on_hold_links == [patient.url]


def test_the_button_of_the_first_look_goes_when_a_deferred_wait_ends(
    patient: Sandbox, egifts: Callable[[int], str]
) -> None:
    """The task ends in another process than that of its first look."""
    batch_id, ti = egifts(1), TI()
    finish(patient, "Suspicious Email")
    assert look("deferrable", ti, batch_id=batch_id) is None
    report = {"sends": 1, "reached": 1, "counts": {"delivered": 1}, "failed": 0, "failed_ids": [], "statuses": None}
    ended = sensor(batch_id=batch_id, deferrable=True)
    ended.execute_complete({"ti": ti}, {"status": "settled", "report": report | {"on_hold": 0}})  # type: ignore[typeddict-item]
    assert ti.on_hold_links == [patient.url, ""]


def test_a_failure_says_which_of_the_sends_are_on_hold(patient: Sandbox, egifts: Callable[[int], str]) -> None:
    """Or else whoever reads it sends them again."""
    batch_id = egifts(2)
    finish(patient, "Suspicious Email", "Bounced")
    with pytest.raises(SendosoStatusError, match=r"2 of 2 sends failed or came back .*, 1 of them on hold at Sendoso"):
        look("poke", batch_id=batch_id, failed_statuses=("failed", "suspicious email"))


def test_the_words_of_a_wait_outlive_what_another_process_has_read(patient: Sandbox) -> None:
    watch = Watch()
    watch.recall("s-1", None, 0.0, None)
    watch.note("s-1", StatusReport.of("pending", "paused"), 10.0)
    watch.recall("s-1", StatusReport.of("processing", "packed"), 0.0, 20.0)
    assert watch.open(Goal.parse(("paused",), ())) == []


def test_an_event_of_the_release_before_is_understood(patient: Sandbox, egifts: Callable[[int], str]) -> None:
    """A trigger may have been started by it."""
    report = {"sends": 1, "reached": 1, "counts": {"delivered": 1}, "failed": 0, "failed_ids": [], "statuses": None}
    result = sensor(batch_id=egifts(1)).execute_complete({}, {"status": "settled", "report": report})
    assert result["reached"] == 1


def test_a_send_on_hold_that_an_older_release_took_for_failed_is_looked_up_again(
    patient: Sandbox, egifts: Callable[[int], str]
) -> None:
    batch_id = egifts(1)
    finish(patient, "Suspicious Email")
    assert look("poke", batch_id=batch_id) is None
    older = update(sends).values(status="failed", status_words=None)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(older))
    assert [record.status for record in records()] == [None]
    assert look("poke", batch_id=batch_id) is None
    assert [(record.status, record.status_word) for record in records()] == [("pending", "Suspicious Email")]


@pytest.mark.parametrize("word", ["suspicious email", "insufficient funds"])
@pytest.mark.parametrize("taken_for_failed", [True, False])
def test_a_send_on_hold_is_never_replaced(
    patient: Sandbox, ledger: Any, sent_batch: Callable[..., dict[str, Any]], word: str, taken_for_failed: bool
) -> None:
    sent_batch(word)
    [old] = patient.sends
    if taken_for_failed:
        older = update(sends).values(status="failed", status_words=None)
        SendosoHook().ledger._database.run(lambda connection: connection.execute(older))
    recipient = {"first_name": "Ada", "last_name": "L", "email": "ada0@example.com"}
    again = SendGiftOperator(
        task_id="again",
        recipient=recipient,
        gift_id="gift-donation-trees",
        message="Hi",
        dedupe_scope="q4",
        resend_of=old.id,
    )
    with pytest.raises(SendosoConfigError, match=rf"which is on hold at Sendoso \('{word}'\).*Nothing was sent"):
        again.execute({"ti": TI()})
    assert len(patient.sends) == 1
    patient.finish(old.id, "cancelled")
    again.execute({"ti": TI()})
    assert len(patient.sends) == 2


def test_a_batch_says_which_of_its_sends_sendoso_holds(
    patient: Sandbox, ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    people = ["ada+suspicious@example.com", "grace@example.com", "jean+suspicious@example.com"]
    recipients = [{"first_name": "A", "last_name": "B", "email": email} for email in people]
    gift = {"gift_id": "gift-donation-trees", "message": "Hi", "dedupe_scope": "q4"}
    summary = BatchSendOperator(task_id="gifts", recipients=recipients, **gift).execute({"ti": TI()})
    assert summary["sent"] == 3
    [text] = [entry.getMessage() for entry in caplog.records if "A manager approves" in entry.getMessage()]
    assert text.startswith("2 sends are on hold at Sendoso (suspicious email: 2): send-")
    assert {record.status_word for record in records()} == {"suspicious email", "pending"}
