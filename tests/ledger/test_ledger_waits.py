"""The data of waits in the ledger: the statuses of sends, and lists of ids."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.models import Item, Kind, StatusReport

BATCH = Batch("batch", "account", "q4", "email", "dag", "task", "run", -1)


def send(ledger: Ledger, *send_ids: str, batch: Batch = BATCH) -> None:
    """Make a send as a batch does."""
    for send_id in send_ids:
        key = ledger.send_key(batch.account, batch.dedupe_scope, send_id)
        (claim,) = ledger.sends.claim(
            batch, "owner", 60, [Wanted(key, "payload", Item("gift-mug"), None, kind=Kind.GIFT)]
        ).values()
        assert isinstance(claim, Claim)
        assert ledger.sends.begin_post(claim, 60)
        ledger.sends.finish(claim, State.SENT, send_id=send_id)


def reports(**statuses: str) -> dict[str, StatusReport]:
    return {send_id: StatusReport.of(status) for send_id, status in statuses.items()}


def statuses(ledger: Ledger, **where: str) -> dict[str, str | None]:
    return {known.send_id: known.status for known in ledger.sends.progress(**where)}


def test_noted_statuses_are_read_back_with_their_age(opened: Ledger) -> None:
    send(opened, "a", "b", "c")
    assert {known.noted_ago for known in opened.sends.progress(batch_id="batch")} == {None}
    opened.sends.note_statuses("account", reports(**{"a": "shipped", "b": "delivered", "nobody": "failed"}))
    assert statuses(opened, batch_id="batch") == {"a": "shipped", "b": "delivered", "c": None}
    assert statuses(opened, account="account", dedupe_scope="q4") == {"a": "shipped", "b": "delivered", "c": None}
    for known in opened.sends.progress(batch_id="batch"):
        assert 0 <= known.made_ago < 60
        assert known.noted_ago is None or 0 <= known.noted_ago < 60


def test_a_status_noted_late_does_not_replace_a_final_status(opened: Ledger) -> None:
    send(opened, "a", "b")
    opened.sends.note_statuses("account", reports(**{"a": "delivered", "b": "pending"}))
    opened.sends.note_statuses("account", reports(**{"a": "shipped", "b": "shipped"}))
    assert statuses(opened, batch_id="batch") == {"a": "delivered", "b": "shipped"}
    opened.sends.note_statuses("account", reports(**{"a": "returned"}))
    assert statuses(opened, batch_id="batch") == {"a": "returned", "b": "shipped"}


def test_a_status_that_was_read_before_a_later_one_was_noted_does_not_set_it_back(opened: Ledger) -> None:
    send(opened, "a", "b")
    opened.sends.note_statuses("account", reports(**{"a": "shipped", "b": "pending"}))
    opened.sends.note_statuses("account", reports(**{"a": "processing", "b": "processing"}), age=20.0)
    assert statuses(opened, batch_id="batch") == {"a": "shipped", "b": "processing"}
    # Sendoso itself may set a status back, as for a gift that is out of stock.
    opened.sends.note_statuses("account", reports(**{"a": "processing"}))
    assert statuses(opened, batch_id="batch") == {"a": "processing", "b": "processing"}


def test_statuses_are_noted_and_found_only_for_sends_of_the_account(opened: Ledger) -> None:
    send(opened, "a")
    opened.sends.note_statuses("another", reports(**{"a": "failed"}))
    assert statuses(opened, batch_id="batch") == {"a": None}
    assert list(opened.sends.progress_of("another", ["a"])) == []
    assert [known.send_id for known in opened.sends.progress_of("account", ["nobody", "a"])] == ["a"]


def test_a_send_that_was_not_sent_is_not_waited_for(opened: Ledger) -> None:
    opened.sends.claim(BATCH, "owner", 60, [Wanted("key", "payload", Item("gift-mug"), None, kind=Kind.GIFT)])
    assert statuses(opened, batch_id="batch") == {}


def test_sends_beyond_one_page_and_one_statement_are_noted_and_found(
    opened: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.ledger.sends._PAGE", 3)
    monkeypatch.setattr("airflow_provider_sendoso.ledger.statements._AT_ONCE", 2)
    ids = [f"send-{number}" for number in range(9)]
    send(opened, *ids)
    opened.sends.note_statuses("account", reports(**dict.fromkeys(ids, "shipped")))
    assert statuses(opened, batch_id="batch") == dict.fromkeys(ids, "shipped")
    assert {known.send_id for known in opened.sends.progress_of("account", ids)} == set(ids)


def test_a_list_of_ten_thousand_ids_is_kept(opened: Ledger) -> None:
    ids = [f"send-{number:032}" for number in range(10_000)]
    list_id = opened.send_lists.keep(ids, 60)
    assert opened.send_lists.read(list_id) == ids
    assert opened.send_lists.keep(ids, 60) != list_id


def test_a_list_that_was_never_kept_is_an_error(opened: Ledger) -> None:
    with pytest.raises(SendosoLedgerError, match="nobody is not in this ledger"):
        opened.send_lists.read("nobody")


def test_a_list_past_its_expiry_is_dropped(opened: Ledger) -> None:
    old = opened.send_lists.keep(["a"], -90_000)
    new = opened.send_lists.keep(["b"], 60)
    with pytest.raises(SendosoLedgerError):
        opened.send_lists.read(old)
    assert opened.send_lists.read(new) == ["b"]


def test_a_thousand_statuses_take_a_few_statements(opened: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    run = opened._database.run

    def counted(*arguments):
        runs.append(arguments)
        return run(*arguments)

    monkeypatch.setattr(opened._database, "run", counted)
    opened.sends.note_statuses("account", reports(**{f"send-{number}": "shipped" for number in range(1000)}))
    assert len(runs) == 2
