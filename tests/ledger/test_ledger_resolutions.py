"""Decisions about sends of unknown outcome: recorded once, and only if the send has not changed since it was read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ledger_workers
import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, Record, State, Wanted
from airflow_provider_sendoso.ledger.resolutions import LONGEST_NAME, LONGEST_WHY
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import Item, Kind, StatusReport

BATCH = Batch("batch-1", "account", "q4", "email", "dag", "task", "run-1", -1)
BY = {"resolved_by": "ada", "why": "looked"}


def post(ledger: Ledger, key: str = "key", lease: float = 60) -> Claim:
    """Claim a send, and begin to post it."""
    claim = ledger.sends.claim(
        BATCH, "owner", lease, [Wanted(key, "payload", Item("gift-mug"), "C-1", kind=Kind.GIFT)]
    )[key]
    assert isinstance(claim, Claim)
    assert ledger.sends.begin_post(claim, lease)
    return claim


def read(ledger: Ledger, key: str = "key") -> Record:
    return ledger.sends.read([key])[key]


@pytest.fixture
def unknown(opened: Ledger) -> Callable[..., Record]:
    """Makes a send whose outcome is not known, and whose lease has lapsed, or not."""

    def make(key: str = "key", lapsed: bool = True) -> Record:
        assert opened.sends.finish(post(opened, key), State.UNKNOWN, reason="http_500")
        if lapsed:
            by_key = update(sends).where(sends.c.send_key == key).values(lease_until=0.0)
            opened._database.run(lambda connection: connection.execute(by_key))
        return read(opened, key)

    return make


@pytest.mark.parametrize("hold", [False, True])
def test_a_held_or_unknown_send_that_was_found_becomes_sent_with_its_id(
    opened: Ledger, unknown: Callable[..., Record], hold: bool
) -> None:
    record = unknown()
    if hold:
        opened.resolutions.hold([record])
        record = read(opened)
    assert opened.resolutions.resolve(record, State.SENT, send_id="id-1", report=StatusReport.of("shipped"), **BY)

    now = read(opened)
    assert (now.state, now.send_id, now.status, now.reason) == (State.SENT, "id-1", "shipped", None)
    (written,) = opened.resolutions.history("key")
    assert (written.from_state, written.to_state) == (State.HELD if hold else State.UNKNOWN, State.SENT)
    assert (written.send_id, written.resolved_by, written.why) == ("id-1", "ada", "looked")
    assert abs(written.resolved_at - time.time()) < 60


def test_a_send_resolved_as_not_sent_can_be_claimed_and_posted(opened: Ledger, unknown: Callable[..., Record]) -> None:
    assert opened.resolutions.resolve(unknown(), State.READY, **BY)
    assert read(opened).state is State.READY
    assert opened.sends.finish(post(opened), State.SENT, send_id="id-2")
    assert [written.to_state for written in opened.resolutions.history("key")] == [State.READY]


def test_every_decision_is_kept_in_order(opened: Ledger, unknown: Callable[..., Record]) -> None:
    assert opened.resolutions.resolve(unknown(), State.READY, **BY)
    assert opened.resolutions.resolve(unknown(), State.SENT, **BY)
    assert [written.to_state for written in opened.resolutions.history("key")] == [State.READY, State.SENT]
    assert opened.resolutions.history("another") == []


def test_long_names_and_reasons_are_cut_to_their_columns(opened: Ledger, unknown: Callable[..., Record]) -> None:
    assert opened.resolutions.resolve(unknown(), State.SENT, resolved_by="a" * 999, why="b" * 999)
    (written,) = opened.resolutions.history("key")
    assert (len(written.resolved_by), len(written.why)) == (LONGEST_NAME, LONGEST_WHY)


@pytest.mark.parametrize("state", [State.CLAIMED, State.POSTING, State.UNKNOWN, State.HELD, State.REFUSED])
def test_only_sent_and_ready_are_valid_decisions(opened: Ledger, unknown: Callable[..., Record], state: State) -> None:
    with pytest.raises(ValueError, match="resolved to SENT or READY"):
        opened.resolutions.resolve(unknown(), state, **BY)


@pytest.mark.parametrize("to_state", [State.SENT, State.READY])
def test_a_decision_about_a_send_whose_state_has_changed_since_it_was_read_is_refused(
    opened: Ledger, unknown: Callable[..., Record], to_state: State
) -> None:
    record = unknown()
    opened.resolutions.hold([record])
    assert not opened.resolutions.resolve(record, to_state, **BY)
    assert read(opened).state is State.HELD
    assert opened.resolutions.history("key") == []


@pytest.mark.parametrize("to_state", [State.SENT, State.READY])
def test_a_decision_about_a_send_whose_owner_has_answered_since_it_was_read_is_refused(
    opened: Ledger, to_state: State, lapse: Callable[[], None]
) -> None:
    claim = post(opened)
    opened.sends.finish(claim, State.UNKNOWN)
    lapse()
    record = read(opened)
    assert opened.sends.finish(claim, State.SENT, send_id="id-1")
    assert not opened.resolutions.resolve(record, to_state, **BY)
    assert (read(opened).state, read(opened).send_id) == (State.SENT, "id-1")


def test_an_answer_that_comes_after_the_decision_is_not_recorded(opened: Ledger, lapse: Callable[[], None]) -> None:
    claim = post(opened)
    opened.sends.finish(claim, State.UNKNOWN)
    lapse()
    assert opened.resolutions.resolve(read(opened), State.READY, **BY)
    assert not opened.sends.finish(claim, State.SENT, send_id="id-1")
    assert read(opened).state is State.READY


@pytest.mark.parametrize("to_state", [State.SENT, State.READY])
def test_a_decision_about_an_earlier_attempt_is_refused_although_the_state_is_the_same(
    opened: Ledger, unknown: Callable[..., Record], to_state: State
) -> None:
    """The send is in the same state, but was posted again after the person looked at it."""
    record = unknown()
    assert opened.resolutions.resolve(record, State.READY, **BY)
    again = unknown()
    assert (again.state, again.attempt) == (record.state, record.attempt + 1)
    assert not opened.resolutions.resolve(record, to_state, **BY)
    assert read(opened).state is State.UNKNOWN
    assert len(opened.resolutions.history("key")) == 1


@pytest.mark.parametrize("hold", [False, True])
def test_a_send_whose_lease_still_runs_is_not_resolved_as_not_sent(
    opened: Ledger, unknown: Callable[..., Record], lapse: Callable[[], None], hold: bool
) -> None:
    record = unknown(lapsed=False)
    if hold:
        opened.resolutions.hold([record])
        record = read(opened)
    assert not opened.resolutions.resolve(record, State.READY, **BY)
    assert read(opened).state is record.state
    assert opened.resolutions.history("key") == []
    lapse()
    assert opened.resolutions.resolve(record, State.READY, **BY)


def test_a_send_that_was_found_is_resolved_as_sent_while_its_lease_still_runs(
    opened: Ledger, unknown: Callable[..., Record]
) -> None:
    assert opened.resolutions.resolve(unknown(lapsed=False), State.SENT, send_id="id-1", **BY)


@pytest.mark.parametrize("state", [State.CLAIMED, State.POSTING, State.SENT, State.REFUSED, State.READY])
def test_a_send_that_is_neither_unknown_nor_held_is_not_resolved(
    opened: Ledger, lapse: Callable[[], None], state: State
) -> None:
    if state is State.CLAIMED:
        opened.sends.claim(BATCH, "owner", 60, [Wanted("key", "payload", Item("gift-mug"), None, kind=Kind.GIFT)])
    else:
        claim = post(opened)
        if state is not State.POSTING:
            assert opened.sends.finish(claim, state)
    lapse()
    assert not opened.resolutions.resolve(read(opened), State.SENT, **BY)
    if state is State.REFUSED:
        assert opened.resolutions.resolve(read(opened), State.READY, **BY)
        return
    assert not opened.resolutions.resolve(read(opened), State.READY, **BY)
    assert read(opened).state is state
    assert opened.resolutions.history("key") == []


def test_the_second_of_two_decisions_about_one_record_is_refused(
    opened: Ledger, unknown: Callable[..., Record]
) -> None:
    record = unknown()
    assert opened.resolutions.resolve(record, State.SENT, send_id="id-1", **BY)
    assert not opened.resolutions.resolve(record, State.READY, **BY)
    assert not opened.resolutions.resolve(record, State.SENT, send_id="id-2", **BY)
    assert (read(opened).state, read(opened).send_id) == (State.SENT, "id-1")
    assert len(opened.resolutions.history("key")) == 1


def test_of_eight_concurrent_decisions_one_is_recorded(
    opened: Ledger, unknown: Callable[..., Record], url: str, at_once: Callable[..., list[Any]]
) -> None:
    unknown()
    won = at_once(ledger_workers.resolve, [(url, "key", f"person-{number}") for number in range(8)])
    assert won.count(True) == 1
    (written,) = opened.resolutions.history("key")
    assert written.resolved_by == f"person-{won.index(True)}"


@pytest.mark.parametrize("to_state", [State.SENT, State.READY])
def test_a_decision_whose_commit_was_repeated_because_its_answer_was_lost_is_recorded_once(
    opened: Ledger, unknown: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, to_state: State
) -> None:
    record = unknown()
    once, runs = opened._database.once, []

    def lose_the_answer(work: Any) -> Any:
        result = once(work)
        runs.append(result)
        if len(runs) == 1:
            raise OperationalError("COMMIT", {}, ConnectionError("server closed the connection"))
        return result

    monkeypatch.setattr(opened._database, "once", lose_the_answer)
    assert opened.resolutions.resolve(record, to_state, **BY)
    monkeypatch.undo()
    assert runs == [True, True]
    assert read(opened).state is to_state
    assert len(opened.resolutions.history("key")) == 1


def test_hold_leaves_sends_alone_that_have_changed_since_they_were_read(
    opened: Ledger, unknown: Callable[..., Record]
) -> None:
    still, sent, again = unknown("key-1"), unknown("key-2"), unknown("key-3")
    assert opened.resolutions.resolve(sent, State.SENT, **BY)
    assert opened.resolutions.resolve(again, State.READY, **BY)
    unknown("key-3")
    opened.resolutions.hold([again, sent, still])
    states = [read(opened, key).state for key in ("key-1", "key-2", "key-3")]
    assert states == [State.HELD, State.SENT, State.UNKNOWN]
    assert read(opened, "key-1").reason == "http_500"


def test_a_post_whose_lease_has_lapsed_becomes_unknown_without_another_claim(
    opened: Ledger, lapse: Callable[[], None]
) -> None:
    claim = post(opened)
    opened.sends.lapse(account="account")
    assert read(opened).state is State.POSTING
    lapse()
    opened.sends.lapse(account="another")
    assert read(opened).state is State.POSTING
    opened.sends.lapse(account="account")
    assert (read(opened).state, read(opened).reason) == (State.UNKNOWN, "process_lost")
    assert opened.sends.finish(claim, State.SENT, send_id="late")


def test_sends_are_found_by_a_prefix_of_their_key_and_batches_by_their_id(
    opened: Ledger, unknown: Callable[..., Record]
) -> None:
    opened.sends.open_batch(BATCH)
    for key in ("abcdef01", "abcdef02"):
        unknown(key)
    assert [record.send_key for record in opened.sends.read_prefix("account", "abcdef01")] == ["abcdef01"]
    assert len(opened.sends.read_prefix("account", "abcdef")) == 2
    assert opened.sends.read_prefix("another", "abcdef") == []
    assert opened.sends.batch("batch-1") == BATCH
    assert opened.sends.batch("batch-2") is None
