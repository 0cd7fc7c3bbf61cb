"""Accounts that share a ledger: none sees, changes or counts a send of another."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.models import Item, Kind, StatusReport

WHO = "ada@example.com"


def batch(account: str, scope: str = "q4", recipient_key: str = "email") -> Batch:
    return Batch("batch", account, scope, recipient_key, "dag", "task", "run", -1)


def sent(ledger: Ledger, account: str) -> str:
    """Send a campaign under an account; return the send's key."""
    key = ledger.send_key(account, "q4", WHO)
    hashed = ledger.email_hash(account, WHO)
    wanted = Wanted(key, "payload", Item(touch_id="102"), None, email_hash=hashed, kind=Kind.CAMPAIGN)
    (claim,) = ledger.sends.claim(batch(account), "owner", 60, [wanted]).values()
    assert isinstance(claim, Claim)
    assert ledger.sends.begin_post(claim, 60)
    assert ledger.sends.finish(claim, State.SENT, send_id=f"tracking:{account}")
    return key


def test_no_query_of_an_account_shows_or_changes_a_send_of_another(opened: Ledger) -> None:
    theirs = sent(opened, "theirs")
    opened.sends.open_batch(batch("theirs"))
    opened.sends.open_batch(replace(batch("theirs", "theirs alone"), batch_id="another"))
    opened.sends.open_batch(Batch("batch-2", "ours", "q4", "email", "dag", "task", "run", -1))
    assert opened.bindings.bind(theirs, "7")

    assert opened.sends.find("ours", "7") is None
    assert opened.sends.read_prefix("ours", theirs[:12]) == []
    assert list(opened.sends.progress_of("ours", ["7"])) == []
    assert opened.sends.scopes("ours") == ["q4"]
    assert [counts.sends for counts in opened.sends.scope_counts("ours")] == [{}]
    assert not opened.sends.batch_exists("ours", "batch")
    assert not opened.sends.scope_exists("ours", "theirs alone")
    opened.sends.check_scope(batch("ours", "theirs alone", "customer_id"))
    assert opened.sends.perhaps_sent(batch("ours")).total() == 0
    assert opened.bindings.bound_among("ours", ["7"]) == set()
    assert opened.bindings.perhaps_sent("ours", [opened.email_hash("theirs", WHO)]) == []
    assert opened.bindings.newest("ours", Kind.CAMPAIGN, 9) == []

    opened.sends.note_status("ours", "7", StatusReport.of("delivered"))
    opened.sends.note_statuses("ours", {"7": StatusReport.of("delivered")})
    assert opened.sends.read([theirs])[theirs].status is None
    assert opened.bindings.bind(sent(opened, "ours"), "7")


def test_no_two_recipients_have_one_key(opened: Ledger) -> None:
    recipients = [
        ("acme", "q4", WHO),
        ("acme2", "q4", WHO),
        ("acme", "q", f"4{WHO}"),
        ("acme", f"q4{WHO}", ""),
        ("acmeq", "4", WHO),
        ("", "", f"acmeq4{WHO}"),
    ]
    assert len({opened.send_key(*recipient) for recipient in recipients}) == len(recipients)
    replaced = [("acme", "s-1"), ("acme2", "s-1"), ("acme", "s-11"), ("acmes", "-1")]
    assert len({opened.send_key(account, "q4", WHO, send_id) for account, send_id in replaced}) == len(replaced)
