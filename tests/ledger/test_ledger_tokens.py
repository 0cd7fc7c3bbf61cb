"""The token in the ledger: a whole deployment makes one request for it, and it is encrypted at rest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ledger_workers
import pytest
from sqlalchemy import func, select, update

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.schema import tokens
from airflow_provider_sendoso.ledger.tokens import LedgerTokenStore
from airflow_provider_sendoso.sandbox import Sandbox

CLIENT = ("https://app.sendoso.com", "client", "client_credentials", "")


@pytest.fixture
def store(opened: Ledger) -> LedgerTokenStore:
    return opened.tokens(CLIENT, "secret")


def keep(store: LedgerTokenStore, token: str, renew_after: float = 100) -> None:
    assert store.claim("owner", 60)
    store.store("owner", token, renew_after)
    store.release("owner")


def lapse(opened: Ledger) -> None:
    opened._database.run(lambda connection: connection.execute(update(tokens).values(lease_until=0.0)))


def test_a_stored_token_is_read_with_the_time_it_has_left(store: LedgerTokenStore) -> None:
    assert store.read() is None
    keep(store, "token-1")
    read = store.read()
    assert read is not None
    assert read[0] == "token-1"
    assert 95 < read[1] <= 100


def test_neither_token_nor_secret_nor_client_is_readable_at_rest(store: LedgerTokenStore, opened: Ledger) -> None:
    keep(store, "token-in-clear")
    rows = opened._database.run(lambda connection: connection.execute(select(tokens)).fetchall())
    assert len(rows) == 1
    assert not any(text in str(rows) for text in ("token-in-clear", "secret", "client"))


def test_after_a_changed_client_secret_the_old_token_is_unreadable_and_a_new_one_is_stored(
    store: LedgerTokenStore, opened: Ledger
) -> None:
    keep(store, "token-1")
    changed = opened.tokens(CLIENT, "another secret")
    assert changed.read() is None
    keep(changed, "token-2")
    assert changed.read()[0] == "token-2"  # type: ignore[index]


def test_a_damaged_ciphertext_is_read_as_no_token(store: LedgerTokenStore, opened: Ledger) -> None:
    keep(store, "token-1")
    opened._database.run(lambda connection: connection.execute(update(tokens).values(ciphertext="x" * 100)))
    assert store.read() is None


@pytest.mark.parametrize("place", range(4))
def test_another_host_client_grant_or_scope_has_a_token_of_its_own(opened: Ledger, place: int) -> None:
    keep(opened.tokens(CLIENT, "secret"), "token-1")
    other = tuple("other" if number == place else part for number, part in enumerate(CLIENT))
    assert opened.tokens(other, "secret").read() is None


def test_one_owner_claims_the_renewal_until_its_lease_lapses(store: LedgerTokenStore, opened: Ledger) -> None:
    assert store.claim("one", 60)
    assert store.claim("one", 60)
    assert not store.claim("two", 60)
    store.release("two")
    assert not store.claim("two", 60)
    lapse(opened)
    assert store.claim("two", 60)


def test_an_owner_renews_its_claim_until_another_owner_has_claimed(store: LedgerTokenStore, opened: Ledger) -> None:
    assert not store.renew("one", 60)  # nobody has the claim yet
    assert store.claim("one", 60)
    lapse(opened)
    assert store.renew("one", 60)  # lapsed, but no other process has taken it
    assert not store.claim("two", 60)
    lapse(opened)
    assert store.claim("two", 60)
    assert not store.renew("one", 60)
    store.release("two")
    assert not store.renew("one", 60)  # another process may have renewed: the tokens that were read are old


def test_an_owner_that_lost_its_claim_clears_nothing(store: LedgerTokenStore) -> None:
    keep(store, "token-1")
    assert not store.clear("owner")
    assert store.read() is not None
    assert store.claim("owner", 60)
    assert store.clear("owner")
    assert store.read() is None


def test_a_claim_reserves_the_bytes_that_the_token_will_need(store: LedgerTokenStore, opened: Ledger) -> None:
    """If PostgreSQL could compress these bytes, a claim would succeed although the token does not fit."""
    bytes_of = func.pg_column_size if opened._database.dialect == "postgresql" else func.length

    def room() -> int | None:
        return opened._database.run(lambda connection: connection.execute(select(bytes_of(tokens.c.room))).scalar())

    assert store.claim("one", 60)
    assert (room() or 0) >= 8192
    assert store.store("one", "token-1", 100)
    assert room() is None
    assert store.renew("one", 60)  # as before a second request
    assert (room() or 0) >= 8192
    store.release("one")
    assert room() is None


def test_an_owner_that_lost_its_claim_stores_nothing(store: LedgerTokenStore) -> None:
    assert store.claim("two", 60)
    store.store("one", "zombie's token", 100)
    assert store.read() is None


def test_an_owner_that_lost_its_claim_does_not_release_the_next_ones(store: LedgerTokenStore) -> None:
    assert store.claim("two", 60)
    store.release("one")
    assert not store.claim("three", 60)


def test_eight_processes_ask_for_one_token(
    sendoso: Sandbox, ledger: dict[str, Any], at_once: Callable[..., list[Any]]
) -> None:
    connections = {"sendoso_default": sendoso_connection(sendoso), "sendoso_ledger": ledger}
    received = at_once(ledger_workers.token, [(connections,)] * 8)
    assert len(set(received)) == 1
    assert [request.path for request in sendoso.requests] == ["/oauth/token"]


def test_eight_threads_that_meet_a_revoked_token_renew_it_once(sendoso: Sandbox, ledger: dict[str, Any]) -> None:
    stale = SendosoHook().session.token()
    sendoso.revoke_tokens()
    with ThreadPoolExecutor(8) as pool:
        renewed = list(pool.map(lambda _: SendosoHook().session.renew(stale), range(8)))
    assert len(set(renewed)) == 1
    assert stale not in renewed
    assert len(sendoso.requests) == 2


def test_a_token_encrypted_under_an_old_client_secret_costs_one_request(
    sendoso: Sandbox, ledger: dict[str, Any]
) -> None:
    hook = SendosoHook()
    client = (hook.config.base_url, "sandbox", "client_credentials", "")
    keep(hook.ledger.tokens(client, "the secret of last year"), "a token of last year")
    assert hook.session.token() != "a token of last year"
    assert [request.path for request in sendoso.requests] == ["/oauth/token"]


def sendoso_connection(sandbox: Sandbox, **extra: Any) -> dict[str, Any]:
    return {
        "conn_type": "sendoso",
        "host": sandbox.url,
        "login": "sandbox",
        "password": "sandbox",
        "extra": {"requests_per_second": 500, "timeout": 60} | extra,
    }
