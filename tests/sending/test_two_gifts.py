"""Other causes of a second gift than a kill: a clock that jumps, another organisation's list, two runs at a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import update
from trying import SCOPE, SENDS, FakeTI, Try, batch, one_try, people, posts, sendoso_connection

from airflow_provider_sendoso.batch.limits import Limits
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import clocks
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.runs.base import make_batch
from airflow_provider_sendoso.sandbox import Sandbox

RESEND: dict[str, Any] = {"on_absent": "resend", "settle_time": 900, "on_held": "continue"}
SETTLED: dict[str, Any] = {**RESEND, "method": "execute_after_settling"}


@pytest.fixture
def other_sandbox() -> Iterator[Sandbox]:
    """Another organisation at Sendoso."""
    with Sandbox(step=0.1, rate=0) as server:
        yield server


def execute(**changes: Any) -> None:
    """Run a try that ends before anything can be counted."""
    batch(**changes).execute({"ti": FakeTI("run-2")})


def on_the_ledger(statement: Any) -> None:
    SendosoHook().ledger._database.run(lambda connection: connection.execute(statement))


def database_clock_jumps(seconds: float) -> None:
    """Make everything in the ledger older by the database's clock, and by no other."""
    on_the_ledger(
        update(sends).values(lease_until=sends.c.lease_until - seconds, posted_at=sends.c.posted_at - seconds)
    )


# -- what proves that a send did not go out ------------------------------------------------------------------------


@pytest.mark.parametrize("other_machine", [False, True])
def test_a_database_clock_that_jumps_proves_no_send_absent(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, other_machine: bool
) -> None:
    sendoso.fault("drop_before", method="POST", path=SENDS)
    assert send() == Try("SendHeldError", {"sent": 4, "held": 1})
    database_clock_jumps(20 * 60)
    if other_machine:
        monkeypatch.setattr(clocks, "_boot", lambda: "another")
    assert send(run_id="run-2", **SETTLED) == Try("", {"already_sent": 4, "held": 1})
    assert posts(sendoso) == 5


def test_a_worker_clock_that_jumps_proves_no_send_absent(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker on another machine than the one that posted, whose clock is ahead."""
    sendoso.fault("drop_before", method="POST", path=SENDS)
    assert send() == Try("SendHeldError", {"sent": 4, "held": 1})
    on_the_ledger(update(sends).values(lease_until=0.0))
    now = clocks.time.time
    monkeypatch.setattr(clocks.time, "time", lambda: now() + 20 * 60)
    monkeypatch.setattr(clocks, "_boot", lambda: "another")
    assert send(run_id="run-2", **SETTLED) == Try("", {"already_sent": 4, "held": 1})
    assert posts(sendoso) == 5


def test_a_worker_and_database_clock_set_ahead_together_prove_no_send_absent(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is on the same machine, so that its clock and the worker's jump together."""
    sendoso.fault("drop_before", method="POST", path=SENDS)
    assert send() == Try("SendHeldError", {"sent": 4, "held": 1})
    database_clock_jumps(20 * 60)
    now = clocks.time.time
    monkeypatch.setattr(clocks.time, "time", lambda: now() + 20 * 60)
    assert send(run_id="run-2", **SETTLED) == Try("", {"already_sent": 4, "held": 1})
    assert posts(sendoso) == 5


def test_a_send_of_another_client_is_not_absent_because_it_is_missing_from_this_clients_list(
    sendoso: Sandbox,
    other_sandbox: Sandbox,
    send: Callable[..., Try],
    set_connection: Callable[..., None],
    an_hour_later: Callable[[], None],
) -> None:
    for name, server in (("sendoso_default", sendoso), ("sendoso_other", other_sandbox)):
        set_connection(name, sendoso_connection(server, account="acme", requests_per_second=1000))
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET", path=SENDS)
    assert one_try() == Try("SendHeldError", {"sent": 4, "held": 1})
    an_hour_later()
    other = {"sendoso_conn_id": "sendoso_other", **SETTLED}
    # The other client's list is complete, and shows sends of this ledger.
    assert one_try(people(9)[6:], run_id="run-2", **other) == Try("", {"sent": 3})
    assert one_try(run_id="run-3", **other) == Try("", {"already_sent": 4, "held": 1})
    assert posts(other_sandbox) == 3
    sendoso.clear_faults()
    assert one_try(run_id="run-4", **RESEND) == Try("", {"already_sent": 5})


# -- which ledger and account
# -------------------------------------------------------------------------------------------


def of_client(sandbox: Sandbox, login: str, **extra: Any) -> dict[str, Any]:
    return sendoso_connection(sandbox, requests_per_second=1000, **extra) | {"login": login}


def test_a_second_client_id_on_the_same_host_has_to_name_its_account(
    sendoso: Sandbox, send: Callable[..., Try], set_connection: Callable[..., None]
) -> None:
    assert send() == Try("", {"sent": 5})
    set_connection("sendoso_other", of_client(sendoso, "other"))
    for dry_run in (False, True):
        with pytest.raises(
            SendosoConfigError, match=r"'sendoso_default', which has another client ID.*set another acc"
        ):
            execute(sendoso_conn_id="sendoso_other", dry_run=dry_run)
    ok, said = SendosoHook("sendoso_other").test_connection()
    assert not ok
    assert "'sendoso_default'" in said
    assert posts(sendoso) == 5


def test_a_sandbox_on_another_port_is_the_same_host(
    sendoso: Sandbox, other_sandbox: Sandbox, send: Callable[..., Try], set_connection: Callable[..., None]
) -> None:
    assert send() == Try("", {"sent": 5})
    set_connection("sendoso_default", sendoso_connection(other_sandbox, requests_per_second=1000))
    assert one_try(run_id="run-2") == Try("", {"already_sent": 5})


def test_a_replaced_client_id_keeps_its_history_when_the_connection_names_the_account(
    sendoso: Sandbox, send: Callable[..., Try], set_connection: Callable[..., None]
) -> None:
    assert send() == Try("", {"sent": 5})
    account = SendosoHook().config.account
    ledger = SendosoHook().ledger
    ledger.accounts.check(account, "another client", named=True)
    with pytest.raises(SendosoConfigError, match=f'set "account": "{account}"'):
        ledger.accounts.check(account, "another client", named=False)


def test_a_second_client_id_that_registers_at_the_same_time_is_refused(send: Callable[..., Try]) -> None:
    accounts = SendosoHook().ledger.accounts
    accounts.register("app.sendoso.com", "first", "conn_a", named=False)
    accounts.register("app.sendoso.com", "first", "conn_b", named=False)
    with pytest.raises(SendosoConfigError, match="'conn_a', which has another client ID"):
        accounts.register("app.sendoso.com", "second", "conn_c", named=False)


def test_of_two_clients_that_register_an_account_at_once_one_is_refused(
    send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one registers between this one's look and its insert."""
    accounts, insert = SendosoHook().ledger.accounts, Database.insert_ignore

    def after_the_other(self: Database, connection: Any, table: Any, rows: list[dict[str, Any]]) -> None:
        insert(self, connection, table, [row | {"client": "first", "conn_id": "conn_a"} for row in rows])
        insert(self, connection, table, rows)

    monkeypatch.setattr(Database, "insert_ignore", after_the_other)
    with pytest.raises(SendosoConfigError, match="'conn_a', which has another client ID"):
        accounts.register("app.sendoso.com", "second", "conn_b", named=False)


@pytest.mark.parametrize("spelling", ["Acme-Corp", "ACME-CORP", "acme\u2013corp", "acme\u2011corp", "ａｃｍｅ-corp"])
def test_an_account_that_the_ledger_knows_under_another_spelling_is_refused(
    sendoso: Sandbox, send: Callable[..., Try], set_connection: Callable[..., None], spelling: str
) -> None:
    set_connection("sendoso_default", sendoso_connection(sendoso, account="acme-corp", requests_per_second=1000))
    assert one_try() == Try("", {"sent": 5})
    set_connection("sendoso_default", sendoso_connection(sendoso, account=spelling, requests_per_second=1000))
    with pytest.raises(SendosoConfigError, match=f"knows the account '{spelling}' as 'acme-corp'"):
        execute()
    assert posts(sendoso) == 5


@pytest.mark.sends_two
def test_two_deployments_with_the_same_names_have_batches_of_their_own(
    sendoso: Sandbox, send: Callable[..., Try], set_connection: Callable[..., None]
) -> None:
    assert send() == Try("", {"sent": 5})
    set_connection("sendoso_default", sendoso_connection(sendoso, deployment=" staging ", requests_per_second=1000))
    assert one_try() == Try("", {"already_sent": 5})
    set_connection("sendoso_default", sendoso_connection(sendoso, account="other", requests_per_second=1000))
    assert one_try() == Try("", {"sent": 5})
    assert len({record.batch_id for record in SendosoHook().ledger.sends.records(State.SENT)}) == 2


# -- limits, decided for what is posted ---------------------------------------------------------------------------


def test_sends_of_a_batch_count_towards_its_limits_when_its_query_no_longer_returns_their_rows(
    sendoso: Sandbox, send: Callable[..., Try]
) -> None:
    everybody = people(9)
    assert send(everybody[:4], max_sends=5) == Try("", {"sent": 4})
    assert send(everybody, max_sends=5) == Try("SendosoLimitError", {"sent": 4, "not_reached": 5})
    refused = send(everybody[4:], max_sends=5)
    assert refused == Try("SendosoLimitError", {"not_reached": 5})
    assert "It would make 9 sends, more than max_sends=5" in str(refused.raised)
    assert send(everybody[4:5], max_sends=5) == Try("", {"sent": 1})
    costly = send(everybody[5:6], max_cost=10)
    assert costly == Try("SendosoLimitError", {"not_reached": 1})
    assert posts(sendoso) == 5


def test_sends_that_will_be_repeated_are_part_of_dry_run_price_limit_and_approval(
    sendoso: Sandbox, send: Callable[..., Try], an_hour_later: Callable[[], None]
) -> None:
    sendoso.fault("drop_before", times=2, method="POST", path=SENDS)
    assert send(5) == Try("SendHeldError", {"sent": 3, "held": 2})
    an_hour_later()
    changes = {"run_id": "run-2", **RESEND}
    holding = batch(6, on_held="continue", dry_run=True).execute({"ti": FakeTI("run-2")})
    resending = batch(6, **RESEND, dry_run=True).execute({"ti": FakeTI("run-2")})
    assert resending["estimated_cost"] == 3 * holding["estimated_cost"] > 0
    assert resending["fingerprint"] != holding["fingerprint"]
    limited = send(6, max_sends=2, **changes)
    assert limited == Try("SendosoLimitError", {"already_sent": 3, "held": 2, "not_reached": 1})
    assert "It would make 3 sends" in str(limited.raised)
    assert send(6, approved_fingerprint=holding["fingerprint"], **changes).error == "SendosoLimitError"
    assert posts(sendoso) == 5
    approved = send(6, approved_fingerprint=resending["fingerprint"], max_sends=3, **changes)
    assert approved == Try("", {"sent": 3, "already_sent": 3})
    assert posts(sendoso) == 8


def test_rows_that_become_free_after_the_limits_were_checked_are_not_posted_by_that_try(
    sendoso: Sandbox, send: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run is posting five of six rows when the limits are checked; Sendoso refuses them afterwards."""
    others = execute_up_to_the_posts(people(5), run_id="run-1")
    check = Limits.why_refused

    def then_they_are_turned_away(self: Limits, *args: Any) -> str | None:
        why = check(self, *args)
        others()
        return why

    monkeypatch.setattr(Limits, "why_refused", then_they_are_turned_away)
    tried = send(6, run_id="run-2", max_sends=1, claim_timeout=5)
    assert tried == Try("SendosoNotReachedError", {"sent": 1, "not_reached": 5})
    monkeypatch.setattr(Limits, "why_refused", check)
    assert send(6, run_id="run-2", max_sends=1) == Try("SendosoLimitError", {"sent": 1, "not_reached": 5})
    assert posts(sendoso) == 1
    assert send(6, run_id="run-2", max_sends=6) == Try("", {"sent": 6})


def execute_up_to_the_posts(recipients: list[dict[str, Any]], run_id: str) -> Callable[[], None]:
    """Claim rows and commit POSTING, as another run does; returns a function that records their refusal."""
    ledger, account = SendosoHook().ledger, SendosoHook().config.account
    one = make_batch(SendosoHook().config, SCOPE, "email", "dag", "gifts", run_id)
    ledger.sends.open_batch(one)
    keys = [ledger.send_key(account, SCOPE, person["email"]) for person in recipients]
    claims = ledger.sends.claim(
        one, "owner", 60, [Wanted(key, "payload", Item("gift-mug"), None, kind=Kind.GIFT) for key in keys]
    )
    for claim in claims.values():
        assert isinstance(claim, Claim)
        assert ledger.sends.begin_post(claim, 60)
    return lambda: [ledger.sends.finish(claim, State.READY) for claim in claims.values()]  # type: ignore[return-value]
