"""Guards of the protocol that no other test covers: each test fails if its guard is removed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update
from trying import SENDS, Try, posts

from airflow_provider_sendoso.client.pace import Turn
from airflow_provider_sendoso.exceptions import SendosoError, SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.ledger.spending import Fit
from airflow_provider_sendoso.models import GiftSend, Item, Kind, Recipient
from airflow_provider_sendoso.models.spending import SpendingLimits
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending import posting
from airflow_provider_sendoso.sending.jobs import Job
from airflow_provider_sendoso.sending.posting import Halted, Poster

LEASE = 75.0
BATCH = Batch("batch", "account", "q4", "email", "dag", "task", "run", -1)


@pytest.fixture
def ledger_connection(tmp_path: Any) -> dict[str, Any]:
    """The guards are statements of SQL and lines of Python, the same on every database."""
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets a poster's clock jump ahead, as if its process had been frozen for so long."""
    ahead = [0.0]
    now = posting.time.clock_gettime
    monkeypatch.setattr(posting.time, "clock_gettime", lambda which: now(which) + ahead[0])

    def jump(seconds: float) -> None:
        ahead[0] += seconds

    return jump


class Bench:
    """One claimed send and its poster; a test can act between the poster's steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hook = SendosoHook()
        self.ledger: Ledger = hook.ledger
        self.session = hook.session
        self.halted = False
        self.monkeypatch = monkeypatch
        self.ledger.sends.open_batch(BATCH)
        (claim,) = self.ledger.sends.claim(
            BATCH, "owner", 60, [Wanted("key", "p", Item("gift-mug"), None, kind=Kind.GIFT)]
        ).values()
        assert isinstance(claim, Claim)
        self.claim = claim
        self.poster = Poster(self.session, self.ledger, own_gift=True, lease=LEASE, halted=lambda: self.halted)

    def post(self) -> posting.Posted:
        recipient = Recipient(first_name="Ada", last_name="L", email="ada@example.com")
        send = GiftSend(gift_id="gift-donation-trees", recipient=recipient, message="Thank you")
        return self.poster.post(Job(1, "ada@example.com", send), self.claim)

    def state(self) -> State:
        return self.ledger.sends.read(["key"])["key"].state

    def lost(self) -> None:
        """Let the send be given up, as another run does once its lease has lapsed."""
        unknown = update(sends).values(state=State.UNKNOWN, lease_until=0.0)
        self.ledger._database.run(lambda connection: connection.execute(unknown))

    def around(self, name: str, wrapper: Callable[..., Any]) -> None:
        """Wrap a method of the ledger's sends: ``wrapper(call)`` calls the real one."""
        real = getattr(SendLedger, name)
        self.monkeypatch.setattr(
            SendLedger, name, lambda sends, *given, **more: wrapper(lambda: real(sends, *given, **more))
        )


@pytest.fixture
def bench(sendoso: Sandbox, ledger: Any, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_a_send_that_was_given_up_is_not_posted_again_by_its_attempt(bench: Bench, sendoso: Sandbox) -> None:
    """POST_AGAIN leads from POSTING alone: what was found of this attempt would be of two POSTs."""
    sendoso.fault("throttle", method="POST", path=SENDS, retry_after=0)
    bench.around("post_again", lambda call: (bench.lost(), call())[1])
    assert bench.post().result is None
    assert posts(sendoso) == 1
    # The outcome of the attempt is recorded all the same: Sendoso refused it.
    assert bench.state() is State.READY


def test_the_answer_that_it_may_not_be_posted_again_is_obeyed(bench: Bench, sendoso: Sandbox) -> None:
    sendoso.fault("throttle", method="POST", path=SENDS, retry_after=0)
    bench.around("post_again", lambda call: False)
    assert bench.post().result is None
    assert posts(sendoso) == 1


def test_the_lease_counts_from_before_the_commit(
    bench: Bench, sendoso: Sandbox, clock: Callable[[float], None]
) -> None:
    """A commit that took longer than the lease has left nothing of it: POSTING is committed anew."""
    begun: list[float] = []

    def slow(call: Callable[[], Any]) -> Any:
        done = call()
        begun.append(0.0)
        if len(begun) == 1:
            clock(2 * LEASE)
        return done

    bench.around("begin_post", slow)
    result = bench.post().result
    assert result is not None
    assert result.outcome == "sent"
    assert len(begun) == 2


def test_the_lease_is_looked_at_again_after_the_turn(
    bench: Bench, sendoso: Sandbox, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was frozen between the commit of POSTING and the POST, twice, commits it a third time."""
    turn, turns = bench.session.await_turn_to_send, []

    def frozen_after(send: Any, **more: Any) -> None:
        turn(send, **more)
        turns.append(1)
        if len(turns) < 3:
            clock(2 * LEASE)

    monkeypatch.setattr(bench.session, "await_turn_to_send", frozen_after)
    result = bench.post().result
    assert result is not None
    assert result.outcome == "sent"
    assert len(turns) == 3
    assert posts(sendoso) == 1


@pytest.mark.parametrize(("missed", "turns"), [(0, 1), (1, 2), (2, 3), (99, 3)])
def test_a_send_whose_slot_is_over_before_the_first_byte_takes_another(
    bench: Bench, sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch, missed: int, turns: int
) -> None:
    """POSTING is committed with each slot, and the POST is made once; with the third slot, however late it is."""
    turn, taken, committed = bench.session.await_turn_to_send, [], []

    def late(send: Any, **more: Any) -> Turn:
        turn(send, **more)
        taken.append(1)
        return Turn(time.monotonic() + (-1.0 if len(taken) <= missed else 60.0), at_once=True)

    monkeypatch.setattr(bench.session, "await_turn_to_send", late)
    bench.around("begin_post", lambda call: (call(), committed.append(1))[0])
    result = bench.post().result
    assert result is not None
    assert result.outcome == "sent"
    assert len(taken) == turns
    assert len(committed) >= turns
    assert posts(sendoso) == 1


def test_what_is_left_of_the_lease_covers_the_whole_request(
    bench: Bench, sendoso: Sandbox, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second of the lease is left after the commit of POSTING: the answer would come after another run's decision."""
    turn, turns = bench.session.await_turn_to_send, []

    def slow(send: Any, **more: Any) -> None:
        turn(send, **more)
        turns.append(1)
        if len(turns) == 1:
            clock(bench.poster.lease - 1)

    monkeypatch.setattr(bench.session, "await_turn_to_send", slow)
    result = bench.post().result
    assert result is not None
    assert result.outcome == "sent"
    assert len(turns) == 2


def test_a_post_begins_soon_after_its_commit_however_long_its_lease_is(
    bench: Bench, sendoso: Sandbox, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settle time counts from the end of the longest POST: one that began later could be listed after it."""
    bench.poster = Poster(bench.session, bench.ledger, own_gift=True, lease=3600.0, halted=lambda: False)
    turn, turns = bench.session.await_turn_to_send, []

    def asleep_after(send: Any, **more: Any) -> None:
        turn(send, **more)
        turns.append(1)
        if len(turns) == 1:
            clock(bench.poster.longest_post)

    monkeypatch.setattr(bench.session, "await_turn_to_send", asleep_after)
    result = bench.post().result
    assert result is not None
    assert result.outcome == "sent"
    assert len(turns) == 2
    assert bench.poster.longest_post < bench.poster.lease
    assert posts(sendoso) == 1


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts suspension")
def test_the_lease_goes_on_while_the_machine_sleeps(
    bench: Bench, sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asleep, begun = posting.time.clock_gettime, [0.0], []

    def clock_gettime(which: int) -> float:
        return now(which) + (asleep[0] if which == time.CLOCK_BOOTTIME else 0.0)

    def then_suspended(call: Callable[[], Any]) -> Any:
        done = call()
        begun.append(1)
        asleep[0] = 2 * bench.poster.lease
        return done

    monkeypatch.setattr(posting.time, "clock_gettime", clock_gettime)
    bench.around("begin_post", then_suspended)
    result = bench.post().result
    assert result is not None
    assert result.outcome == "sent"
    assert len(begun) >= 2


def test_the_lease_of_a_post_is_longer_than_the_post_can_take(bench: Bench) -> None:
    poster = Poster(bench.session, bench.ledger, own_gift=True, lease=10.0, halted=lambda: False)
    assert poster.lease > 2 * bench.session.config.timeout


def test_a_batch_that_is_being_stopped_begins_no_post(bench: Bench, sendoso: Sandbox) -> None:
    bench.halted = True
    with pytest.raises(Halted):
        bench.post()
    assert bench.state() is State.CLAIMED
    assert posts(sendoso) == 0


def test_posting_is_taken_back_where_no_post_follows(bench: Bench, sendoso: Sandbox, monkeypatch: Any) -> None:
    turn = bench.session.await_turn_to_send

    def then_halted(send: Any, **more: Any) -> None:
        turn(send, **more)
        raise Halted

    monkeypatch.setattr(bench.session, "await_turn_to_send", then_halted)
    with pytest.raises(Halted):
        bench.post()
    assert bench.state() is State.CLAIMED
    assert posts(sendoso) == 0


def test_posting_is_taken_back_where_its_commit_went_through_unanswered(bench: Bench, sendoso: Sandbox) -> None:
    """Noted before the commit: else a commit whose answer was lost would leave POSTING, and in the end a held send."""

    def unanswered(call: Callable[[], Any]) -> Any:
        call()
        raise SendosoLedgerError("the connection broke")

    bench.poster.session.pace.take = lambda send: False  # type: ignore[method-assign]
    bench.around("begin_post", unanswered)
    with pytest.raises(SendosoLedgerError):
        bench.post()
    assert bench.state() is State.CLAIMED
    assert posts(sendoso) == 0


def test_claims_are_given_back_only_when_nothing_is_in_flight_any_more(
    sendoso: Sandbox, send: Callable[..., Try], answers_wait: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a send between its claim and POSTING would be released while it is being posted."""
    release, order = SendLedger.release, []
    finish = SendLedger.finish

    def released(self: SendLedger, owner: str) -> None:
        order.append("released")
        release(self, owner)

    def finished(self: SendLedger, *given: Any, **more: Any) -> bool:
        order.append("finished")
        return finish(self, *given, **more)

    monkeypatch.setattr(SendLedger, "release", released)
    monkeypatch.setattr(SendLedger, "finish", finished)
    # The first is answered; then three are posted at once, and one of them gets the answer that stops the batch.
    sendoso.fault("slow", method="POST", path=SENDS, delay=0)
    sendoso.fault("slow", method="POST", path=SENDS, delay=1.0, times=2)
    sendoso.fault("status", method="POST", path=SENDS, status=403, times=9)
    threading.Timer(1.0, answers_wait.set).start()
    assert send(6, max_in_flight=3).error == "SendosoAuthError"
    # On a busy machine one more may be posted before the answer that stops the batch.
    assert len(order) >= 4
    assert order == ["finished"] * (len(order) - 1) + ["released"]


# -- nothing is logged between the two commits ---------------------------------------------------------------------


@pytest.fixture
def dead_supervisor() -> Iterator[list[str]]:
    """Every log line of a posting thread raises, as in a task whose supervisor has died; returns what was tried."""
    tried: list[str] = []

    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if threading.current_thread().name.startswith("sendoso-post"):
                tried.append(record.getMessage())
                raise BrokenPipeError

    handler = Raises(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("", "urllib3", "airflow_provider_sendoso")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield tried
    logging.getLogger().removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("body", [{"id": "s-1", "status": "wrapped by elves"}, {"send": {"id": "s-1", "status": "?"}}])
def test_whatever_the_answer_says_nothing_is_logged_before_it_is_recorded(
    sendoso: Sandbox, send: Callable[..., Try], dead_supervisor: list[str], caplog: Any, body: dict[str, Any]
) -> None:
    caplog.set_level(logging.DEBUG)
    sendoso.fault("status", method="POST", path=SENDS, status=201, body=body)
    assert send(1) == Try("", {"sent": 1})
    assert dead_supervisor == []
    (record,) = SendosoHook().ledger.sends.records(*State)
    assert (record.state, record.send_id) == (State.SENT, "s-1")
    assert "Sendoso has a status that is not known here" in caplog.text
    assert "urllib3" in caplog.text


def test_log_records_of_a_thread_that_does_not_post_are_not_withheld(send: Callable[..., Try], caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    assert send(1) == Try("", {"sent": 1})
    logging.getLogger("airflow_provider_sendoso.client.answers").warning("said at once")
    assert "said at once" in caplog.text


# -- refusals that are not the row's -------------------------------------------------------------------------------

PROXY_PAGE = "<html><body>Bad request</body></html>"


@pytest.mark.parametrize("status", [402, 421, 425])
def test_a_refusal_of_the_account_stops_the_batch_and_refuses_no_row(
    sendoso: Sandbox, send: Callable[..., Try], status: int
) -> None:
    sendoso.fault("status", times=50, method="POST", path=SENDS, status=status)
    assert send() == Try("SendosoApiError", {"not_reached": 5})
    assert posts(sendoso) == 1
    sendoso.clear_faults()
    assert send() == Try("", {"sent": 5})


@pytest.mark.parametrize(
    ("status", "body"), [(400, PROXY_PAGE), (422, ""), (404, PROXY_PAGE), (418, {"success": False})]
)
def test_a_refusal_that_may_not_concern_the_row_is_tried_again(
    sendoso: Sandbox, send: Callable[..., Try], status: int, body: Any
) -> None:
    rows = [
        {"first_name": "Ada", "last_name": "L", "email": f"ada{n}@example.com", "gift_id": "gift-donation-trees"}
        for n in range(12)
    ]
    sendoso.fault("status", times=10, method="POST", path=SENDS, status=status, body=body)
    assert send(rows, gift_id=None) == Try("SendosoNotReachedError", {"sent": 2, "not_reached": 10})
    assert send(rows, gift_id=None) == Try("", {"sent": 12})


def test_twenty_pages_of_a_proxy_stop_the_batch(sendoso: Sandbox, send: Callable[..., Try]) -> None:
    sendoso.fault("status", times=50, method="POST", path=SENDS, status=400, body=PROXY_PAGE)
    tried = send(25)
    assert tried == Try("SendosoBadRequestError", {"not_reached": 25})
    assert posts(sendoso) == 20
    assert isinstance(tried.raised, SendosoError)


def test_a_token_that_is_refused_after_five_throttled_tries_is_renewed_and_used(
    sendoso: Sandbox, send: Callable[..., Try]
) -> None:
    sendoso.fault("throttle", times=5, method="POST", path=SENDS, retry_after=0)
    sendoso.fault("status", method="POST", path=SENDS, status=401)
    assert send(1) == Try("", {"sent": 1})
    assert posts(sendoso) == 7


def test_an_answer_about_somebody_elses_send_is_not_taken_for_this_ones(
    sendoso: Sandbox, send: Callable[..., Try]
) -> None:
    body = {"send": {"id": "s-of-bob", "email": "bob@example.com", "status": "pending"}}
    sendoso.fault("status", method="POST", path=SENDS, status=201, body=body)
    tried = send(2)
    assert tried == Try("SendHeldError", {"sent": 1, "held": 1})
    assert "another_send" in str(tried.raised)
    assert SendosoHook().ledger.sends.find(SendosoHook().config.account, "s-of-bob") is None


def test_a_send_that_waits_for_room_in_a_limit_is_posted_only_after_its_commit(bench: Bench, sendoso: Sandbox) -> None:
    """The first commit of POSTING is refused, as another send has the last place; that one is refused by Sendoso."""
    wanted = Wanted("other", "p", Item("gift-mug"), None, kind=Kind.GIFT)
    (other,) = bench.ledger.sends.claim(BATCH, "another", 60, [wanted]).values()
    assert isinstance(other, Claim)
    fit = Fit(SpendingLimits(scope_max_sends=1), "no cost is limited", {})
    assert bench.ledger.sends.begin_post(other, 60, fit=fit)
    states: list[State] = []

    def refuse_the_other(call: Callable[[], Any]) -> Any:
        assert posts(sendoso) == 0
        assert bench.ledger.sends.finish(other, State.REFUSED, reason="http_422")
        return call()

    bench.around("check_fit", refuse_the_other)
    bench.around("finish", lambda call: (states.append(bench.state()), call())[1])
    recipient = Recipient(first_name="Ada", last_name="L", email="ada@example.com")
    send = GiftSend(gift_id="gift-donation-trees", recipient=recipient, message="Thank you")
    posted = bench.poster.post(Job(1, "ada@example.com", send), bench.claim, fit)
    assert posted.result is not None
    assert posted.result.outcome == "sent"
    assert states[-1] is State.POSTING
    assert bench.state() is State.SENT
