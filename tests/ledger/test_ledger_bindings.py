"""Binding campaign sends to ids of Sendoso's list: one id for a send, one send for an id, and both find the send."""

from __future__ import annotations

import ledger_workers
import pytest

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.models import Item, Kind, StatusReport

BATCH = Batch("batch", "account", "q4", "email", "dag", "task", "run", -1)


def post(ledger: Ledger, who: str, state: State, send_id: str | None = None, account: str = "account") -> str:
    """Send a campaign as a batch does it; return the send's key."""
    batch = Batch("batch", account, "q4", "email", "dag", "task", "run", -1)
    key = ledger.send_key(account, "q4", who)
    wanted = Wanted(
        key, "payload", Item(touch_id="102"), None, email_hash=ledger.email_hash(account, who), kind=Kind.CAMPAIGN
    )
    (claim,) = ledger.sends.claim(batch, "owner", 60, [wanted]).values()
    assert isinstance(claim, Claim)
    assert ledger.sends.begin_post(claim, 60)
    assert ledger.sends.finish(claim, state, send_id=send_id)
    return key


def bound(ledger: Ledger) -> dict[str | None, str | None]:
    return {record.send_id: record.bound_id for record in ledger.sends.records(*State)}


def test_a_send_keeps_its_first_id_and_no_id_is_bound_to_two_sends(opened: Ledger) -> None:
    first, second = post(opened, "ada", State.SENT, "tracking:A"), post(opened, "grace", State.SENT, "tracking:B")
    assert opened.bindings.bind(first, "7")
    assert opened.bindings.bind(first, "7")  # repeated, as after a commit whose answer was lost
    assert not opened.bindings.bind(first, "8")
    assert not opened.bindings.bind(second, "7")
    assert bound(opened) == {"tracking:A": "7", "tracking:B": None}
    assert opened.bindings.bound_among("account", ["7", "8"]) == {"7"}
    assert opened.bindings.bound_among("another", ["7"]) == set()


def test_only_an_accepted_send_is_bound(opened: Ledger) -> None:
    assert not opened.bindings.bind(post(opened, "ada", State.UNKNOWN), "7")
    assert not opened.bindings.bind("nobody", "7")
    assert bound(opened) == {None: None}


def test_two_accounts_may_each_have_a_send_of_the_same_id(opened: Ledger) -> None:
    for account in ("account", "another"):
        assert opened.bindings.bind(post(opened, "ada", State.SENT, f"tracking:{account}", account), "7")


def test_an_accepted_send_without_a_tracking_code_takes_its_bound_id_as_send_id(opened: Ledger) -> None:
    assert opened.bindings.bind(post(opened, "ada", State.SENT), "7")
    assert bound(opened) == {"7": "7"}


def test_of_eight_processes_that_bind_one_id_to_different_sends_one_succeeds(
    opened: Ledger, url: str, at_once: object
) -> None:
    keys = [post(opened, f"ada{number}", State.SENT, f"tracking:{number}") for number in range(8)]
    done = at_once(ledger_workers.bind, [(url, key, "7") for key in keys])  # type: ignore[operator]
    assert sorted(done) == [False] * 7 + [True]
    assert list(bound(opened).values()).count("7") == 1


def test_a_send_found_by_reconciling_or_by_a_person_is_bound(opened: Ledger) -> None:
    post(opened, "ada", State.UNKNOWN)
    post(opened, "grace", State.UNKNOWN)
    ada, grace = opened.sends.records(State.UNKNOWN)
    assert opened.resolutions.resolve(ada, State.SENT, resolved_by="reconcile", why="found", send_id="7")
    # The database itself refuses an id that another send has.
    with pytest.raises(SendosoLedgerError):
        opened.resolutions.resolve(grace, State.SENT, resolved_by="ada", why="looked", send_id="7")
    assert opened.resolutions.resolve(grace, State.SENT, resolved_by="ada", why="looked", send_id="tracking:B")
    assert bound(opened) == {"7": "7", "tracking:B": None}


def test_tracking_code_and_bound_id_both_find_a_send_and_both_note_its_status(opened: Ledger) -> None:
    opened.bindings.bind(post(opened, "ada", State.SENT, "tracking:A"), "7")
    for name in ("tracking:A", "7"):
        record = opened.sends.find("account", name)
        assert record is not None
        assert (record.send_id, record.bound_id) == ("tracking:A", "7")
        assert [known.send_id for known in opened.sends.progress_of("account", [name])] == [name]
    opened.sends.note_statuses("account", {"7": StatusReport.of("shipped")})
    assert [known.status for known in opened.sends.progress_of("account", ["tracking:A"])] == ["shipped"]
    opened.sends.note_statuses("account", {"tracking:A": StatusReport.of("delivered")})
    assert [known.status for known in opened.sends.progress_of("account", ["7"])] == ["delivered"]


def test_who_may_have_been_sent_a_campaign_is_found_by_the_hash_of_the_email(opened: Ledger) -> None:
    for number in range(5):
        post(opened, f"ada{number}@x.org", State.SENT, f"tracking:{number}")
    post(opened, "grace@x.org", State.UNKNOWN)
    post(opened, "hina@x.org", State.REFUSED)
    names = ("ADA1@x.org", "grace@x.org", "hina@x.org", "kahu@x.org")
    hashes = [opened.email_hash("account", name) for name in names]
    found = opened.bindings.perhaps_sent("account", hashes)
    assert {record.send_id for record in found} == {"tracking:1", None}
    assert opened.bindings.perhaps_sent("another", hashes) == []
    assert {record.send_id for record in opened.bindings.newest("account", Kind.CAMPAIGN, 2)} == {
        "tracking:4",
        "tracking:3",
    }
    assert opened.bindings.newest("another", Kind.CAMPAIGN, 2) == []
