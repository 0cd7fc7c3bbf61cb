"""Claims and transitions: which run may post a send, and which run loses its claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ledger_workers
import pytest

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, Record, State, Wanted
from airflow_provider_sendoso.ledger.schema import LONGEST_SCOPE
from airflow_provider_sendoso.ledger.schema import sends as table
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.ledger.transitions import new_row
from airflow_provider_sendoso.models import Item, Kind, StatusReport


def batch(name: str = "batch-1", scope: str = "q4", recipient_key: str = "email") -> Batch:
    return Batch(name, "account", scope, recipient_key, "dag", "task", name, -1)


def want(key: str = "key", payload: str = "payload") -> Wanted:
    return Wanted(key, payload, Item("gift-mug"), None, kind=Kind.GIFT)


@pytest.fixture
def sends(opened: Ledger) -> SendLedger:
    return opened.sends


def claim(sends: SendLedger, owner: str, wanted: Wanted | None = None, name: str = "batch-1") -> Claim | Record:
    (found,) = sends.claim(batch(name), owner, 60, [wanted or want()]).values()
    return found


def had(found: Claim | Record) -> Claim:
    assert isinstance(found, Claim)
    return found


def row(sends: SendLedger, key: str = "key") -> Record:
    (record,) = [record for record in sends.records(*State) if record.send_key == key]
    return record


def finished(sends: SendLedger, owner: str, state: State, **details: Any) -> Claim:
    mine = had(claim(sends, owner))
    assert sends.begin_post(mine, 60)
    assert sends.finish(mine, state, **details)
    return mine


def test_a_new_send_is_claimed_posted_and_recorded(sends: SendLedger) -> None:
    finished(sends, "one", State.SENT, reason="accepted", send_id="id-1", report=StatusReport.of("pending"))
    record = row(sends)
    assert (record.state, record.send_id, record.batch_id, record.attempt) == (State.SENT, "id-1", "batch-1", 1)
    assert record.posted_at is not None


@pytest.mark.parametrize("state", [State.CLAIMED, State.POSTING, State.SENT, State.UNKNOWN, State.HELD])
def test_a_try_in_another_scope_than_an_earlier_try_that_may_have_sent_is_refused(
    sends: SendLedger, state: State
) -> None:
    mine = had(claim(sends, "one"))
    if state is not State.CLAIMED:
        assert sends.begin_post(mine, 60)
    if state in (State.SENT, State.UNKNOWN, State.HELD):
        assert sends.finish(mine, state, send_id="id-1" if state is State.SENT else None)
    for refused in (sends.check_scope, sends.open_batch):
        with pytest.raises(SendosoConfigError, match=r"has 1 sends in the scope 'q4' that went out or still may"):
            refused(batch(scope="q5"))
    assert sends.scopes("account") == []
    sends.open_batch(batch())
    sends.open_batch(batch("batch-2", scope="q5"))


@pytest.mark.parametrize("state", [State.READY, State.REFUSED])
def test_a_try_that_has_sent_nothing_does_not_bind_a_later_one_to_its_scope(sends: SendLedger, state: State) -> None:
    mine = had(claim(sends, "one"))
    assert sends.begin_post(mine, 60)
    assert sends.finish(mine, state)
    sends.open_batch(batch(scope="q5"))


def test_a_claim_that_has_lapsed_does_not_bind_a_later_try_to_its_scope(sends: SendLedger) -> None:
    sends.claim(batch(), "one", 0, [want()])
    sends.open_batch(batch(scope="q5"))


def test_a_claim_of_another_owner_with_a_live_lease_is_left_alone(sends: SendLedger) -> None:
    mine = had(claim(sends, "one"))
    seen = claim(sends, "two", name="batch-2")
    assert isinstance(seen, Record)
    assert (seen.state, seen.owner, seen.batch_id) == (State.CLAIMED, "one", "batch-1")
    assert 0 < seen.lease_left <= 60
    assert sends.begin_post(mine, 60)


def test_a_try_takes_over_the_claims_of_its_own_batch_and_of_no_other(sends: SendLedger) -> None:
    mine = had(claim(sends, "one"))
    (seen,) = sends.claim(batch("batch-2"), "two", 60, [want()], supersedes=True).values()
    assert isinstance(seen, Record)
    (taken,) = sends.claim(batch("batch-1"), "three", 60, [want()], supersedes=True).values()
    assert not sends.begin_post(mine, 60)
    assert sends.begin_post(had(taken), 60)


def test_a_lapsed_claim_is_taken_over_and_its_first_owner_can_no_longer_post_or_finish(
    sends: SendLedger, lapse: Callable[[], None]
) -> None:
    old = had(claim(sends, "one"))
    lapse()
    new = had(claim(sends, "two"))
    assert new.attempt == old.attempt + 1
    assert not sends.begin_post(old, 60)
    assert not sends.finish(old, State.SENT, send_id="wrong")
    assert not sends.post_again(old, 60)
    sends.renew("one", 600)
    sends.release("one")
    sends.reopen([old])
    record = row(sends)
    assert (record.state, record.owner, record.send_id) == (State.CLAIMED, "two", None)
    assert record.lease_left <= 60
    assert sends.begin_post(new, 60)


def test_a_claim_of_an_earlier_attempt_by_the_same_owner_can_no_longer_post_or_finish(sends: SendLedger) -> None:
    old = had(claim(sends, "one"))
    sends.release("one")
    new = had(claim(sends, "one"))
    assert not sends.begin_post(old, 60)
    assert sends.begin_post(new, 60)
    assert not sends.finish(old, State.READY)
    assert not sends.post_again(old, 60)
    assert row(sends).state is State.POSTING


def test_a_send_that_is_being_posted_is_left_alone_while_its_lease_lasts(sends: SendLedger) -> None:
    mine = had(claim(sends, "one"))
    assert sends.begin_post(mine, 60)
    seen = claim(sends, "two")
    assert isinstance(seen, Record)
    assert (seen.state, seen.owner) == (State.POSTING, "one")
    assert sends.post_again(mine, 60)


def test_a_lapsed_post_is_unknown_and_never_claimable(sends: SendLedger, lapse: Callable[[], None]) -> None:
    assert sends.begin_post(had(claim(sends, "one")), 60)
    assert isinstance(claim(sends, "two"), Record)  # live: somebody may be posting
    lapse()
    for owner in ("two", "three", "one"):
        seen = claim(sends, owner, want(payload=f"another of {owner}"))
        assert isinstance(seen, Record)
        assert (seen.state, seen.reason, seen.owner) == (State.UNKNOWN, "process_lost", "one")
        lapse()


@pytest.mark.parametrize("state", [State.SENT, State.UNKNOWN, State.HELD])
def test_what_may_have_gone_out_is_never_claimable(sends: SendLedger, lapse: Callable[[], None], state: State) -> None:
    mine = finished(sends, "one", state)
    lapse()
    sends.release("one")
    sends.reopen([mine])
    assert not sends.begin_post(mine, 60)
    for owner in ("one", "two"):
        seen = claim(sends, owner, want(payload="another"))
        assert isinstance(seen, Record)
        assert seen.state is state


@pytest.mark.parametrize("state", [State.READY, State.REFUSED])
def test_what_was_given_back_or_refused_is_not_posted_without_a_new_claim(sends: SendLedger, state: State) -> None:
    mine = finished(sends, "one", state)
    assert not sends.begin_post(mine, 60)
    assert row(sends).state is state


@pytest.mark.parametrize("state", [State.SENT, State.REFUSED, State.READY])
def test_a_late_answer_to_the_owner_of_the_attempt_replaces_unknown(
    sends: SendLedger, lapse: Callable[[], None], state: State
) -> None:
    mine = had(claim(sends, "one"))
    assert sends.begin_post(mine, 60)
    lapse()
    claim(sends, "two")
    assert row(sends).state is State.UNKNOWN
    assert sends.finish(mine, state, send_id="id-1")
    assert (row(sends).state, row(sends).send_id) == (state, "id-1")


def test_an_answer_is_not_replaced_by_a_later_one(sends: SendLedger) -> None:
    mine = finished(sends, "one", State.SENT, send_id="id-1")
    assert not sends.finish(mine, State.UNKNOWN)
    assert not sends.post_again(mine, 60)
    assert not sends.begin_post(mine, 60)
    assert row(sends).state is State.SENT


def test_a_transition_repeated_because_its_answer_was_lost_succeeds(sends: SendLedger) -> None:
    mine = had(claim(sends, "one"))
    assert had(claim(sends, "one")).attempt == mine.attempt + 1
    mine = had(claim(sends, "one"))
    assert sends.begin_post(mine, 60)
    assert sends.begin_post(mine, 60)
    assert sends.finish(mine, State.SENT, send_id="id-1")
    assert sends.finish(mine, State.SENT, send_id="id-1")


def test_a_refusal_stands_for_the_same_payload_only(sends: SendLedger) -> None:
    finished(sends, "one", State.REFUSED, reason="http_422")
    seen = claim(sends, "two")
    assert isinstance(seen, Record)
    assert (seen.state, seen.reason) == (State.REFUSED, "http_422")
    again = had(claim(sends, "two", want(payload="corrected"), name="batch-2"))
    assert again.attempt == 2
    assert (row(sends).payload_hash, row(sends).batch_id, row(sends).reason) == ("corrected", "batch-2", None)


def test_a_free_send_of_another_batch_is_claimed_with_this_batchs_content(sends: SendLedger) -> None:
    def insert(connection: Any) -> None:
        sends._database.insert_ignore(connection, table, [new_row(batch("batch-1"), want(payload="old"), 0.0)])

    sends._database.run(insert)
    had(claim(sends, "two", name="batch-2"))
    assert (row(sends).batch_id, row(sends).payload_hash) == ("batch-2", "payload")


def test_post_again_turns_a_post_that_was_not_sent_back_into_a_claim(sends: SendLedger) -> None:
    mine = had(claim(sends, "one"))
    assert sends.begin_post(mine, 60)
    assert sends.post_again(mine, 60)
    assert row(sends).state is State.CLAIMED
    assert sends.begin_post(mine, 60)


def test_release_gives_back_only_what_was_not_posted(sends: SendLedger) -> None:
    claims = sends.claim(batch(), "one", 60, [want("a"), want("b"), want("c")])
    assert sends.begin_post(had(claims["a"]), 60)
    sends.claim(batch(), "two", 60, [want("d")])
    sends.release("one")
    assert {record.send_key: record.state for record in sends.records(*State)} == {
        "a": State.POSTING,
        "b": State.READY,
        "c": State.READY,
        "d": State.CLAIMED,
    }
    assert isinstance(claim(sends, "two", want("b")), Claim)


def test_renew_extends_the_claims_of_the_owner_and_no_post(sends: SendLedger) -> None:
    claims = sends.claim(batch(), "one", 5, [want("a"), want("b")])
    assert sends.begin_post(had(claims["a"]), 5)
    sends.claim(batch(), "two", 5, [want("c")])
    sends.renew("one", 100)
    left = {record.send_key: record.lease_left for record in sends.records(*State)}
    assert left["a"] <= 5
    assert left["c"] <= 5
    assert 95 < left["b"] <= 100


def test_reopen_frees_refusals_and_nothing_else(sends: SendLedger) -> None:
    refused = finished(sends, "one", State.REFUSED)
    sends.reopen([refused])
    assert row(sends).state is State.READY
    assert isinstance(claim(sends, "two"), Claim)


def test_a_scope_remembers_its_recipient_key(sends: SendLedger) -> None:
    sends.open_batch(batch("batch-1", recipient_key="email"))
    sends.open_batch(batch("batch-2", recipient_key="email"))
    sends.open_batch(batch("batch-3", scope="another", recipient_key="customer_id"))
    with pytest.raises(SendosoConfigError, match=r"'q4' identifies recipients by 'email', this task by 'customer_id'"):
        sends.open_batch(batch("batch-4", recipient_key="customer_id"))


def test_a_scope_longer_than_its_column_is_refused(sends: SendLedger) -> None:
    sends.open_batch(batch(scope="x" * LONGEST_SCOPE))
    with pytest.raises(SendosoConfigError, match=f"longer than {LONGEST_SCOPE}"):
        sends.open_batch(batch(scope="x" * (LONGEST_SCOPE + 1)))


def test_a_batch_and_its_scope_exist_once_the_batch_is_opened(sends: SendLedger) -> None:
    assert not sends.batch_exists("account", "batch-1")
    assert not sends.scope_exists("account", "q4")
    sends.open_batch(batch())
    assert sends.batch_exists("account", "batch-1")
    assert not sends.batch_exists("another", "batch-1")
    assert sends.scope_exists("account", "q4")
    assert not sends.scope_exists("another account", "q4")


def test_records_are_read_over_several_pages(sends: SendLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.ledger.sends._PAGE", 4)
    keys = [f"key-{number:02}" for number in range(12)]
    sends.claim(batch(), "one", 60, [want(key) for key in reversed(keys)])
    assert [record.send_key for record in sends.records(*State)] == keys
    assert sends.states(batch_id="batch-1") == {State.CLAIMED: 12}
    assert list(sends.records(State.SENT)) == []


def test_three_processes_that_claim_overlapping_keys_in_any_order_claim_none_twice(
    url: str, opened: Ledger, at_once: Callable[..., list[Any]]
) -> None:
    keys = [f"key-{number:03}" for number in range(40)]
    shares = [(url, f"owner-{number}", keys[number * 5 : 30 + number * 5]) for number in range(3)]
    had_by_all = at_once(ledger_workers.claim_everything, shares)
    assert sorted(key for had_by_one in had_by_all for key in had_by_one) == keys
