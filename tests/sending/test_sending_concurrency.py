"""Concurrent POSTs: their number, the sends that an outage leaves unknown, and those in flight when a batch stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from trying import SENDS, Try, people, posts

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending.concurrency import MOST, Concurrency

READY_FOR_WORK = pytest.mark.parametrize("width", [1, 4, 16])


@pytest.fixture
def most_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts the sends being posted at the same moment."""
    lock, now, most = threading.Lock(), [0], [0]
    call = SendosoSession.call

    def counted(self: SendosoSession, request: Any, *given: Any) -> Any:
        if request.path != SENDS or request.method != "POST":
            return call(self, request, *given)
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        try:
            return call(self, request, *given)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(SendosoSession, "call", counted)
    return lambda: most[0]


@READY_FOR_WORK
def test_no_more_than_max_in_flight_are_posted_at_once(
    sendoso: Sandbox,
    send: Callable[..., Try],
    most_at_once: Callable[[], int],
    answers_wait: threading.Event,
    until: Callable[..., None],
    width: int,
) -> None:
    def answer_when_all_are_in() -> None:
        until(lambda: posts(sendoso) == 1 + width)
        answers_wait.set()

    # The first goes alone.
    sendoso.fault("slow", method="POST", path=SENDS, delay=0)
    sendoso.fault("slow", times=59, method="POST", path=SENDS, delay=1)
    sendoso_answers = threading.Thread(target=answer_when_all_are_in)
    sendoso_answers.start()
    assert send(60, max_in_flight=width) == Try("", {"sent": 60})
    sendoso_answers.join()
    assert most_at_once() == width


@READY_FOR_WORK
def test_posts_that_end_unknown_stop_the_batch_at_max_in_flight_or_five(
    sendoso: Sandbox, send: Callable[..., Try], width: int
) -> None:
    sendoso.fault("error_before", times=200, method="POST", path=SENDS, status=503)
    patience = max(width, 5)
    assert send(60, max_in_flight=width) == Try("SendosoError", {"held": patience, "not_reached": 60 - patience})
    assert posts(sendoso) == patience


def test_a_try_that_begins_in_an_outage_leaves_one_send_unknown(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    send(1)
    sendoso.fault("error_before", times=10_000, status=502)
    assert send(60, max_in_flight=8) == Try("SendosoServerError", {"sent": 1, "held": 1, "not_reached": 58})
    assert states() == {"SENT": 1, "UNKNOWN": 1, "READY": 48}


def test_a_batch_goes_on_after_an_outage_that_ends_during_the_backoff(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(1)
    sendoso.fault("error_after", times=2, method="POST", path=SENDS)
    sendoso.fault("error_before", times=8, method="GET", path="/api/v3/gifts")
    assert send(60, max_in_flight=2) == Try("", {"sent": 60})
    assert len(sendoso.sends) == 60
    assert [request.status for request in sendoso.requests if request.path == "/api/v3/gifts"].count(500) == 8


def test_the_claims_of_a_run_that_lives_do_not_lapse(send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is a million times as fast, a batch of five takes longer than a third of its lease."""
    renew, left = SendLedger.renew, []

    def renewed(self: SendLedger, owner: str, lease: float) -> None:
        renew(self, owner, lease)
        left.extend(record.lease_left for record in self.records(State.CLAIMED) if record.owner == owner)

    monkeypatch.setattr(SendLedger, "renew", renewed)
    fast = SimpleNamespace(monotonic=lambda: 1_000_000 * time.monotonic(), time=time.time)
    monkeypatch.setattr("airflow_provider_sendoso.sending.claiming.time", fast)
    assert send(lease=600) == Try("", {"sent": 5})
    assert left
    assert min(left) > 500


@pytest.mark.slow
@pytest.mark.parametrize("ledger_connection", ["postgresql"], indirect=True)
def test_an_outage_in_the_middle_of_five_thousand_leaves_a_handful_unknown(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a try waits for it, so that tries fail one after the other, as over ten minutes."""
    finish, finished = SendLedger.finish, []

    def break_down_at_two_thousand(*args: Any, **kwargs: Any) -> bool:
        finished.append(None)
        if len(finished) == 2000:
            sendoso.fault("error_after", times=3, method="POST", path=SENDS)
            sendoso.fault("error_before", times=100_000)
        return finish(*args, **kwargs)

    monkeypatch.setattr(SendLedger, "finish", break_down_at_two_thousand)
    recipients = people(5000)
    first = send(recipients, max_in_flight=None)
    assert first.error == "SendosoServerError"
    assert first.counts["held"] <= MOST
    for tries in (2, 3):
        assert send(recipients, max_in_flight=None).counts["held"] <= MOST + tries
    sendoso.clear_faults()
    last = send(recipients, max_in_flight=None, on_held="continue")
    assert last.error == ""
    assert last.counts["sent"] >= 5000 - MOST - 3
    assert len(sendoso.sends) == last.counts["sent"]
    assert sum(states().values()) == 5000
    assert states()["SENT"] == last.counts["sent"]


def test_a_killed_task_does_not_wait_out_a_long_retry_after(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sendoso.fault("throttle", times=50, method="POST", path=SENDS, retry_after=100)
    make, execute = SendosoSession.__init__, BatchSendOperator.execute

    def with_real_sleeps(self: SendosoSession, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self.sleep = time.sleep

    operators: list[BatchSendOperator] = []

    def remembered(self: BatchSendOperator, context: Any) -> Any:
        operators.append(self)
        return execute(self, context)

    def kill() -> None:
        while not posts(sendoso):
            time.sleep(0.01)
        operators[-1].on_kill()

    monkeypatch.setattr(SendosoSession, "__init__", with_real_sleeps)
    monkeypatch.setattr(BatchSendOperator, "execute", remembered)
    killer = threading.Thread(target=kill)
    killer.start()
    started = time.monotonic()
    assert send() == Try("SendosoNotReachedError", {"not_reached": 5})
    killer.join()
    assert time.monotonic() - started < 60
    assert states() == {"READY": 5}


def test_the_width_follows_the_latency_and_stays_within_bounds() -> None:
    width = Concurrency(10.0)
    assert width.limit == 4
    for _ in range(50):
        width.saw(0.01)
    assert width.limit == 2
    for _ in range(50):
        width.saw(0.8)
    assert width.limit == 9
    for _ in range(50):
        width.saw(30.0)
    assert width.limit == MOST
    assert Concurrency(10.0, fixed=3).limit == 3
