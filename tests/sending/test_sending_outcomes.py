"""The protocol of a send, one POST at a time, for every answer that there is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from trying import SENDS, Try, people, posts

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.sandbox import Sandbox

# -- one answer that promises nothing: the send is held, the others go on ----------------------------------------------

PROMISES_NOTHING = [
    # fault, its options, whether Sendoso accepted the send
    ("drop_before", {}, False),
    ("drop_after", {}, True),
    ("error_before", {"status": 500}, False),
    ("error_before", {"status": 503}, False),
    ("error_after", {"status": 502}, True),
    ("garbage", {"accept": True}, True),
    ("garbage", {"accept": False}, False),
    ("truncate", {}, True),
    ("redirect", {"location": SENDS}, False),
    ("slow", {"delay": 0.8, "accept_first": True}, True),
    ("slow", {"delay": 0.8, "accept_first": False}, True),
    ("status", {"status": 408}, False),
    ("status", {"status": 409}, False),
    ("status", {"status": 200, "body": {"success": False}}, False),
    ("status", {"status": 201, "body": {}}, False),
    ("status", {"status": 200, "body": []}, False),
]


@pytest.mark.parametrize(("fault", "options", "accepted"), PROMISES_NOTHING)
def test_a_send_without_a_known_outcome_is_found_or_held_and_never_posted_again(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    late_answers: threading.Event,
    until: Callable[..., None],
    fault: str,
    options: dict[str, Any],
    accepted: bool,
) -> None:
    sendoso.fault(fault, method="POST", path=SENDS, **options)
    late = options.get("accept_first") is False
    if accepted and not late:
        assert send() == Try("", {"sent": 5})
        assert states() == {"SENT": 5}
    else:
        assert send() == Try("SendHeldError", {"sent": 4, "held": 1})
        assert states() == {"SENT": 4, "HELD": 1}
    if late:
        late_answers.set()
        until(lambda: len(sendoso.sends) == 5)  # by now Sendoso has accepted or refused the send
    if accepted:
        assert send() == Try("", {"sent": 5})
        assert send(run_id="run-2") == Try("", {"already_sent": 5})
    else:
        assert send() == Try("SendHeldError", {"sent": 4, "held": 1})
        assert send(run_id="run-2", on_held="continue") == Try("", {"already_sent": 4, "held": 1})
    assert posts(sendoso) == 5
    assert len(sendoso.sends) == 4 + accepted


# -- one answer that means "not sent": tried again, and nobody else notices --------------------------------------------

THROTTLED = [1, 0, None, "soon", 120, "a date"]


@pytest.mark.parametrize("retry_after", THROTTLED)
def test_a_throttled_send_is_posted_again(
    sendoso: Sandbox, send: Callable[..., Try], retry_after: float | str | None
) -> None:
    if retry_after == "a date":  # made here, for the name of a test must not change from one worker to the next
        retry_after = format_datetime(datetime.now(UTC) + timedelta(seconds=90))
    sendoso.fault("throttle", times=2, method="POST", path=SENDS, retry_after=retry_after)
    assert send() == Try("", {"sent": 5})
    assert len(sendoso.sends) == 5
    assert posts(sendoso) == 7


def test_a_token_that_is_revoked_in_the_middle_is_renewed_once(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, finished = SendLedger.finish, []

    def revoke_after_two(*args: Any, **kwargs: Any) -> bool:
        finished.append(args)
        if len(finished) == 2:
            sendoso.revoke_tokens()
        return finish(*args, **kwargs)

    monkeypatch.setattr(SendLedger, "finish", revoke_after_two)
    assert send() == Try("", {"sent": 5})
    assert len(sendoso.sends) == 5
    assert [request.path for request in sendoso.requests].count("/oauth/token") == 2
    assert [request.status for request in sendoso.requests].count(401) == 1


# -- answers that concern every row: stop, give the claims back, and let a later try send them -------------------------

STOPS = [
    ("status", {"status": 401}, "SendosoAuthError", 2),
    ("status", {"status": 403}, "SendosoAuthError", 1),
    ("status", {"status": 404}, "SendosoNotFoundError", 1),
    ("throttle", {"retry_after": 1}, "SendosoRateLimitError", 6),
    ("throttle", {"retry_after": None}, "SendosoRateLimitError", 6),
]


@pytest.mark.parametrize(("fault", "options", "error", "requests"), STOPS)
def test_what_is_not_the_rows_fault_stops_the_batch_and_costs_nobody_a_gift(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    fault: str,
    options: dict[str, Any],
    error: str,
    requests: int,
) -> None:
    sendoso.fault(fault, times=50, method="POST", path=SENDS, **options)
    assert send() == Try(error, {"not_reached": 5})
    assert posts(sendoso) == requests
    assert states() == {"READY": 5}
    sendoso.clear_faults()
    assert send() == Try("", {"sent": 5})
    assert len(sendoso.sends) == 5


def test_a_long_retry_after_is_not_waited_out(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    sendoso.fault("throttle", method="POST", path=SENDS, retry_after=3600)
    assert send() == Try("SendosoRateLimitError", {"not_reached": 5})
    assert posts(sendoso) == 1
    assert states() == {"READY": 5}


def test_an_error_of_the_gift_that_a_row_names_refuses_that_row_alone(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    rows = [person | {"gift_id": "gift-donation-trees"} for person in people(5)]
    rows[1]["gift_id"] = "gift-plant"  # ships to the US only
    rows[1] |= {"address_line1": "1 Main St", "city": "London", "postal_code": "E1 6AN", "country": "GB"}
    assert send(rows, gift_id=None) == Try("", {"sent": 4, "refused": 1})
    assert states() == {"SENT": 4, "REFUSED": 1}


def test_a_refused_row_is_posted_again_only_with_another_content(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    sendoso.fault("status", method="POST", path=SENDS, status=422)
    assert send() == Try("", {"sent": 4, "refused": 1})
    assert send() == Try("", {"sent": 4, "refused": 1})
    assert send(run_id="run-2") == Try("", {"already_sent": 4, "refused": 1})
    assert posts(sendoso) == 5
    assert send(run_id="run-3", message="Thank you so much") == Try("", {"already_sent": 4, "sent": 1})
    assert posts(sendoso) == 6
    assert states() == {"SENT": 5}


def test_twenty_equal_refusals_stop_the_batch_and_refuse_no_row(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    sendoso.fault("status", times=30, method="POST", path=SENDS, status=422)
    assert send(25) == Try("SendosoUnprocessableError", {"not_reached": 25})
    assert posts(sendoso) == 20
    assert states() == {"READY": 25}
    sendoso.clear_faults()
    assert send(25) == Try("", {"sent": 25})


def test_nineteen_equal_refusals_are_nineteen_refused_rows(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    sendoso.fault("status", times=19, method="POST", path=SENDS, status=422)
    assert send(25) == Try("", {"refused": 19, "sent": 6})


def test_refusals_in_other_words_do_not_add_up(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    for number in range(24):
        body = {"success": False, "message": f"Reason {number % 2}"}
        sendoso.fault("status", method="POST", path=SENDS, status=422, body=body)
    assert send(25) == Try("", {"refused": 24, "sent": 1})


# -- outages -----------------------------------------------------------------------------------------------------------


def test_unknown_outcomes_in_a_row_stop_the_batch_before_an_outage_becomes_a_campaign_of_held_sends(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    sendoso.fault("error_before", times=50, method="POST", path=SENDS, status=503)
    first = send(12)
    assert first == Try("SendosoError", {"held": 5, "not_reached": 7})
    assert posts(sendoso) == 5
    assert states() == {"HELD": 5, "READY": 7}
    sendoso.clear_faults()
    assert send(12) == Try("SendHeldError", {"held": 5, "sent": 7})
    assert len(sendoso.sends) == 7


def test_unknown_outcomes_between_good_ones_do_not_stop_the_batch(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    for _ in range(2):
        sendoso.fault("error_before", times=4, method="POST", path=SENDS)
        sendoso.fault("slow", delay=0, method="POST", path=SENDS)
    assert send(14) == Try("SendHeldError", {"held": 8, "sent": 6})


def test_an_outage_of_everything_holds_one_send_and_leaves_the_rest_for_a_retry(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    send(1)
    sendoso.fault("error_before", times=100, status=502)
    assert send() == Try("SendosoServerError", {"sent": 1, "held": 1, "not_reached": 3})
    assert posts(sendoso) == 2
    assert states() == {"SENT": 1, "UNKNOWN": 1, "READY": 3}
    sendoso.clear_faults()
    assert send() == Try("SendHeldError", {"sent": 4, "held": 1})


def test_while_sendoso_is_down_no_send_is_held(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]]
) -> None:
    assert send(1) == Try("", {"sent": 1})
    sendoso.stop()
    assert send() == Try("SendosoConnectionError", {"sent": 1, "not_reached": 4})
    assert states() == {"SENT": 1, "READY": 4}
    sendoso.start()
    assert send() == Try("", {"sent": 5})
    assert len(sendoso.sends) == 5


def test_a_batch_goes_on_when_sendoso_comes_back_in_time(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(1)
    sendoso.stop()
    post_again = SendLedger.post_again

    def start_and_post_again(*args: Any) -> bool:
        sendoso.start()
        return post_again(*args)

    monkeypatch.setattr(SendLedger, "post_again", start_and_post_again)
    assert send() == Try("", {"sent": 5})


# -- the process and the ledger fail -----------------------------------------------------------------------------------


def test_an_interrupted_batch_waits_for_what_is_in_flight_and_gives_the_other_claims_back(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    answers_wait: threading.Event,
    until: Callable[..., None],
) -> None:
    class TaskTimeoutError(BaseException):
        """Like Airflow's, raised by a signal handler wherever the main thread is."""

    def interrupt(*_: Any) -> None:
        answers_wait.set()
        raise TaskTimeoutError

    def interrupt_when_two_are_in_flight() -> None:
        until(lambda: posts(sendoso) == 4)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    send(1)
    sendoso.fault("slow", method="POST", path=SENDS, delay=0)
    sendoso.fault("slow", times=10, method="POST", path=SENDS, delay=1, accept_first=True)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupter = threading.Thread(target=interrupt_when_two_are_in_flight)
    interrupter.start()
    try:
        with pytest.raises(TaskTimeoutError):
            send(max_in_flight=2)
    finally:
        interrupter.join()
        signal.signal(signal.SIGALRM, before)
    assert states() == {"SENT": 4, "READY": 1}
    sendoso.clear_faults()
    assert send() == Try("", {"sent": 5})
    assert len(sendoso.sends) == 5


def test_an_outcome_that_cannot_be_recorded_is_logged_as_hash_and_id_and_never_sent_again(
    sendoso: Sandbox,
    send: Callable[..., Try],
    states: Callable[[], dict[str, int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def down(*args: Any, **kwargs: Any) -> bool:
        raise SendosoLedgerError("The ledger is down.")

    with monkeypatch.context() as patch:
        patch.setattr(SendLedger, "finish", down)
        failed = send()
    assert (failed.error, failed.counts) == ("SendosoLedgerError", {"held": 1, "not_reached": 4})
    assert "A gift may have gone out" in str(failed.raised)
    assert len(sendoso.sends) == 1
    assert states() == {"POSTING": 1, "READY": 4}
    assert sendoso.sends[0].id in caplog.text
    assert "@example.com" not in caplog.text
    # The next try cannot know whether that process is still alive, so it sends to all other recipients.
    assert send(claim_timeout=0) == Try("SendosoNotReachedError", {"sent": 4, "not_reached": 1})
    assert len(sendoso.sends) == 5


def test_a_ledger_that_is_down_before_the_post_sends_nothing(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: Any, **kwargs: Any) -> bool:
        raise SendosoLedgerError("The ledger is down.")

    with monkeypatch.context() as patch:
        patch.setattr(SendLedger, "begin_post", down)
        assert send() == Try("SendosoLedgerError", {"not_reached": 5})
    assert posts(sendoso) == 0
    assert send() == Try("", {"sent": 5})


def test_a_claim_that_is_lost_before_the_post_posts_nothing(
    sendoso: Sandbox, send: Callable[..., Try], states: Callable[[], dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_post, lost = SendLedger.begin_post, []

    def lose_the_first(self: SendLedger, claim: Any, lease: float, *transaction: Any) -> bool:
        if not lost:
            lost.append(claim)
            return False
        return begin_post(self, claim, lease, *transaction)

    monkeypatch.setattr(SendLedger, "begin_post", lose_the_first)
    assert send() == Try("", {"sent": 5})
    assert posts(sendoso) == 5
    assert states() == {"SENT": 5}
