"""The chain of refresh tokens: its start, the order of tries, sleeping processes, and encryption in the ledger."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from airflow_provider_sendoso.client.endpoints import me_request
from airflow_provider_sendoso.client.oauth import Tokens
from airflow_provider_sendoso.client.tokens import TokenManager
from airflow_provider_sendoso.exceptions import SendosoAuthError
from airflow_provider_sendoso.ledger.tokens import LedgerTokenStore
from airflow_provider_sendoso.sandbox import Sandbox


def overdue(make_engine) -> None:
    """Let every token be due for renewal."""
    with make_engine().begin() as connection:
        connection.execute(text("UPDATE sendoso_tokens SET renew_at = 0"))


def dump(engine) -> str:
    """Everything that is in the database, as text."""
    with engine.connect() as connection:
        rows = [
            row
            for table in inspect(engine).get_table_names()
            for row in connection.execute(text(f"SELECT * FROM {table}"))
        ]
    return repr(rows)


# Seed and store.


def test_the_connection_only_seeds_the_store(make_session, make_config, make_engine, sandbox, token_requests):
    config = make_config(sandbox.issue_refresh_token())
    seen = set()
    for _ in range(4):  # a deployment's life in fast motion: each its own process, each after the token was due
        seen.add(make_session(config).token())
        overdue(make_engine)
    assert len(seen) == 4
    assert token_requests() == [200] * 4  # the seed worked once; from then on the store's newer ones


def test_a_fresh_token_is_shared_without_a_request(make_session, make_config, sandbox, token_requests):
    config = make_config(sandbox.issue_refresh_token())
    assert len({make_session(config).token() for _ in range(5)}) == 1
    assert token_requests() == [200]


def test_the_store_wins_over_a_new_refresh_token_in_the_connection(
    make_session, make_config, make_engine, sandbox, token_requests
):
    make_session(make_config(sandbox.issue_refresh_token())).token()
    overdue(make_engine)
    replacement = sandbox.issue_refresh_token()
    make_session(make_config(replacement)).token()
    assert token_requests() == [200, 200]
    # The connection's was left alone: it still works at the sandbox.
    make_session(make_config(replacement, scope="public")).token()
    assert token_requests() == [200, 200, 200]


def test_a_dead_stored_refresh_token_is_followed_by_the_connections_once(
    make_session, make_config, make_engine, sandbox, token_requests
):
    first = make_session(make_config(sandbox.issue_refresh_token()))
    first.token()
    sandbox.reset()  # Sendoso has forgotten all; what the store holds is dead
    overdue(make_engine)
    replacement = sandbox.issue_refresh_token()
    assert make_session(make_config(replacement)).token()
    assert token_requests() == [400, 200]
    overdue(make_engine)
    assert make_session(make_config(replacement)).token()
    assert token_requests() == [400, 200, 200]


def test_without_a_living_refresh_token_there_is_one_error_and_no_second_request(
    make_session, make_config, make_engine, sandbox, token_requests
):
    make_session(make_config(sandbox.issue_refresh_token())).token()
    sandbox.reset()
    overdue(make_engine)
    config = make_config("made-up-refresh-token")
    session = make_session(config)
    with pytest.raises(SendosoAuthError, match="airflow sendoso authorize") as raised:
        session.token()
    assert token_requests() == [400, 400]  # the store's, then the connection's
    for again in (session, make_session(config), make_session(config)):
        with pytest.raises(SendosoAuthError, match="airflow sendoso authorize"):
            again.token()
    assert token_requests() == [400, 400]
    assert "made-up" not in str(raised.value)

    assert make_session(make_config(sandbox.issue_refresh_token())).token()
    assert token_requests() == [400, 400, 200]


def test_without_any_refresh_token_the_error_names_the_command_to_run(make_session, make_config, token_requests):
    with pytest.raises(SendosoAuthError, match="airflow sendoso authorize"):
        make_session(make_config(grant_type="refresh_token")).token()
    assert token_requests() == []


def test_a_401_in_every_process_renews_the_token_once(make_session, make_config, sandbox, token_requests):
    config = make_config(sandbox.issue_refresh_token())
    sessions = [make_session(config) for _ in range(5)]
    [stale] = {session.token() for session in sessions}
    sandbox.revoke_tokens()
    assert len({session.renew(stale) for session in sessions} - {stale}) == 1
    assert token_requests() == [200, 200]


def test_a_token_is_renewed_before_it_expires(make_session, make_config, make_engine, sandbox, token_requests):
    """Two hours of life: five minutes before its end it is due, and not a minute earlier."""
    session = make_session(make_config())
    token = session.token()
    stored = session.tokens._store.read()
    assert stored is not None
    assert 7200 - 300 - 5 < stored[1] <= 7200 - 300
    overdue(make_engine)
    assert make_session(make_config()).token() != token
    assert token_requests() == [200, 200]


def test_a_token_that_another_process_stored_before_the_claim_is_used(
    make_session, make_config, sandbox, token_requests
):
    config = make_config(sandbox.issue_refresh_token())
    session, theirs = make_session(config), []

    class Late:
        """A store whose first claim comes after another process has renewed the token."""

        def __getattr__(self, name):
            return getattr(session.tokens._store, name)

        def claim(self, owner, lease):
            if not theirs:
                theirs.append(make_session(config).token())
            return session.tokens._store.claim(owner, lease)

    assert TokenManager(config, Late(), session.paced, lease=LEASE).get() == theirs[0]
    assert token_requests() == [200]


# Sleeping through the lease.

LEASE = 60.0
"""Seconds; within a test no lease lapses by itself."""


class Sleeper:
    """A store whose ``store`` sleeps beforehand, until somebody else has done what they do meanwhile."""

    def __init__(self, store, meanwhile) -> None:
        self._store = store
        self._meanwhile = [meanwhile]

    def __getattr__(self, name):
        return getattr(self._store, name)

    def store(self, owner, text, renew_after):
        if self._meanwhile:
            self._meanwhile.pop()()
        return self._store.store(owner, text, renew_after)


def sleeping(session, config, meanwhile) -> TokenManager:
    return TokenManager(config, Sleeper(session.tokens._store, meanwhile), session.paced, lease=LEASE)


def test_tokens_stored_after_a_sleep_are_kept_when_nobody_came(
    make_session, make_config, sandbox, lapse, token_requests
):
    config = make_config(sandbox.issue_refresh_token())
    manager = sleeping(make_session(config), config, lapse)
    token = manager.get()
    assert make_session(config).token() == token
    assert token_requests() == [200]


def test_tokens_stored_after_a_sleep_are_kept_when_another_process_found_the_refresh_token_spent(
    make_session, make_config, make_engine, sandbox, lapse, token_requests
):
    """The sleeper has the only living refresh token, and the other had to give up: the sleeper's is kept."""
    config = make_config(sandbox.issue_refresh_token())

    def meanwhile() -> None:
        lapse()
        with pytest.raises(SendosoAuthError):
            make_session(config, lease=LEASE).token()

    token = sleeping(make_session(config), config, meanwhile).get()
    assert token_requests() == [200, 400]
    assert make_session(config).token() == token
    overdue(make_engine)
    assert make_session(config).token() != token
    assert token_requests() == [200, 400, 200]


def test_tokens_of_another_process_stored_during_a_sleep_are_kept(
    make_session, make_config, make_engine, sandbox, lapse, token_requests
):
    """Both chains are valid; the stored one stays, both processes use it, and it can be renewed."""
    config, other = make_config(sandbox.issue_refresh_token()), make_config(sandbox.issue_refresh_token())
    make_session(config).token()
    overdue(make_engine)
    theirs = []

    def meanwhile() -> None:
        lapse()
        theirs.append(make_session(other, lease=LEASE).token())

    token = sleeping(make_session(config), config, meanwhile).get()
    assert [token] == theirs
    assert token_requests() == [200, 200, 400, 200]  # the store's is spent by the sleeper; the other's own is not
    overdue(make_engine)
    assert make_session(config).token() != token
    assert token_requests() == [200, 200, 400, 200, 200]


def test_tokens_are_stored_after_a_sleep_once_the_claim_of_a_dead_process_has_lapsed(
    make_session, make_config, make_engine, sandbox, book, lapse, token_requests
):
    """Another process has the claim: its end is waited for, and then the valid tokens are stored."""
    config = make_config(sandbox.issue_refresh_token())
    store = book.tokens(config.identity, "sandbox")
    lapses = []

    def meanwhile() -> None:
        lapse()
        lapses.append(time.monotonic() + 0.6)
        assert store.claim("another", 0.6)

    token = sleeping(make_session(config), config, meanwhile).get()
    assert time.monotonic() >= lapses[0] - 0.05
    assert make_session(config).token() == token
    overdue(make_engine)
    assert make_session(config).token() != token
    assert token_requests() == [200, 200]


def test_a_token_of_another_process_stored_during_a_sleep_is_used(make_session, make_config, lapse, token_requests):
    config = make_config()
    theirs = []

    def meanwhile() -> None:
        lapse()
        theirs.append(make_session(config, lease=LEASE).token())

    token = sleeping(make_session(config), config, meanwhile).get()
    assert token_requests() == [200, 200]
    assert theirs != [token]
    assert make_session(config).token() in (token, *theirs)


def test_a_process_that_slept_over_a_refusal_uses_the_tokens_that_another_has_renewed(
    make_session, make_config, make_engine, sandbox, lapse, token_requests
):
    """It has no other refresh token to try, and does not ask for a person."""
    config = make_config(sandbox.issue_refresh_token())
    make_session(config).token()
    sandbox.reset()
    overdue(make_engine)
    theirs = []

    def meanwhile() -> None:
        lapse()
        theirs.append(make_session(make_config(sandbox.issue_refresh_token()), lease=LEASE).token())

    assert sleeping(make_session(config), config, meanwhile).get() == theirs[0]
    assert token_requests() == [400, 400, 200]


# Waiting through the lease.


class FrozenPace:
    """A pace whose first slot comes up only when the process has been frozen and others have done what they do."""

    lead = 0.0

    def __init__(self, pace, meanwhile) -> None:
        self._pace = pace
        self._meanwhile = [meanwhile]

    def __getattr__(self, name):
        return getattr(self._pace, name)

    def reserve(self, *, poll):
        if self._meanwhile:
            self._meanwhile.pop()()
        return self._pace.reserve(poll=poll)


def frozen(make_session, config, meanwhile):
    session = make_session(config, lease=LEASE)
    session.pace = FrozenPace(session.pace, meanwhile)
    return session


def test_a_process_frozen_before_its_request_uses_the_tokens_that_another_renewed(
    make_session, make_config, make_engine, sandbox, lapse, token_requests
):
    """The refresh token that was read under the claim is used up by then: the new tokens are read instead."""
    config = make_config(sandbox.issue_refresh_token())
    theirs = []

    def meanwhile() -> None:
        lapse()
        theirs.append(make_session(config, lease=LEASE).token())

    assert frozen(make_session, config, meanwhile).token() == theirs[0]
    assert token_requests() == [200]
    overdue(make_engine)
    assert make_session(config).token() != theirs[0]
    assert token_requests() == [200, 200]


def test_a_process_frozen_after_a_401_does_not_reuse_the_refused_token(
    make_session, make_config, sandbox, lapse, token_requests
):
    """The store still holds the refused token, which is not returned again."""
    config = make_config(sandbox.issue_refresh_token())
    stale = make_session(config).token()

    def meanwhile() -> None:
        lapse()
        store = make_session(config).tokens._store
        assert store.claim("another", LEASE)
        store.release("another")

    assert frozen(make_session, config, meanwhile).renew(stale) != stale
    assert token_requests() == [200, 200]


def test_a_process_frozen_before_its_request_waits_for_the_claim_of_another(
    make_session, make_config, book, sandbox, lapse, token_requests
):
    """The other process has not renewed yet, or never will: its claim is waited for like any other."""
    config = make_config(sandbox.issue_refresh_token())
    store = book.tokens(config.identity, "sandbox")
    lapses = []

    def meanwhile() -> None:
        lapse()
        lapses.append(time.monotonic() + 0.6)
        assert store.claim("another", 0.6)

    assert frozen(make_session, config, meanwhile).token()
    assert time.monotonic() >= lapses[0] - 0.05
    assert token_requests() == [200]


def test_a_process_frozen_before_its_request_renews_its_own_claim(
    make_session, make_config, sandbox, lapse, answers_wait, until, token_requests
):
    """The lease has lapsed, but the claim is still this process's: it is renewed, and the request may take its time."""
    config = make_config(sandbox.issue_refresh_token())
    sandbox.fault("slow", delay=1, path="/oauth/token")
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(frozen(make_session, config, lapse).token)
        until(token_requests)
        # With the old lease it would take the claim, and be refused.
        theirs = pool.submit(make_session(config, lease=LEASE).token)
        with pytest.raises(TimeoutError):
            theirs.result(0.3)
        answers_wait.set()
        assert ours.result() == theirs.result()
    assert token_requests() == [200]


def test_a_refused_refresh_token_leaves_room_for_the_next_grant(
    make_session, make_config, make_engine, sandbox, monkeypatch, token_requests
):
    """Having it stored as spent has given up the room; before the connection's is tried there is room again."""
    make_session(make_config(sandbox.issue_refresh_token())).token()
    sandbox.reset()
    overdue(make_engine)
    session = make_session(make_config(sandbox.issue_refresh_token()))
    rooms = []

    def watched(*given, real=session._exchange):
        with make_engine().connect() as connection:
            rooms.append(connection.execute(text("SELECT length(room) FROM sendoso_tokens")).scalar())
        return real(*given)

    monkeypatch.setattr(session, "_exchange", watched)
    assert session.token()
    assert token_requests() == [400, 200]
    assert rooms == [8192, 8192]


# At rest.


def test_no_token_is_in_the_database_in_plain_text(make_session, make_config, make_engine, sandbox, ledger):
    seed = sandbox.issue_refresh_token()
    session = make_session(make_config(seed))
    session.token()
    session.renew(session.token())
    tokens = session.tokens.stored()
    secrets = [seed, tokens.access_token, tokens.refresh_token]
    assert all(secrets)

    engine = make_engine()
    everything = dump(engine)
    assert "gAAAA" in everything  # what is encrypted is in there
    for secret in secrets:
        assert secret not in everything
    if ledger["conn_type"] == "sqlite":
        # An open connection keeps the log of what was written from being folded into the file; 2.11 keeps none open.
        files = b"".join(path.read_bytes() for end in ("", "-wal") if (path := Path(ledger["host"] + end)).exists())
        assert b"sendoso_tokens" in files
        for secret in secrets:
            assert secret.encode() not in files


def test_an_encrypted_token_can_be_read_back(make_session, make_config, make_engine, sandbox):
    """Shows that the test above did not pass merely because no tokens were stored."""
    config = make_config(sandbox.issue_refresh_token())
    one, other = make_session(config), make_session(config)
    token = one.token()
    assert other.tokens.stored().access_token == token
    assert other.tokens.stored().refresh_token is not None


def test_a_changed_client_secret_makes_the_stored_token_unreadable(
    make_session, make_config, make_engine, sandbox, token_requests, book
):
    config = make_config(sandbox.issue_refresh_token())
    make_session(config).token()
    assert book.tokens(config.identity, "sandbox").read() is not None
    assert book.tokens(config.identity, "another").read() is None  # no error, and no plaintext

    sandbox._app.tokens.client_secret = "rotated"
    seed = sandbox.issue_refresh_token()
    rotated = type(config)(
        **{**config.model_dump(exclude={"client_secret", "refresh_token"})}, client_secret="rotated", refresh_token=seed
    )
    token = make_session(rotated).token()
    assert make_session(rotated).token() == token
    assert token_requests() == [200, 200]


def test_two_ledgers_do_not_share_a_key(make_config, make_session, book):
    """A row copied into another ledger cannot be read there: the key is salted with the ledger's own."""
    config = make_config()
    make_session(config).token()
    other = type(book.identity)(book.identity.ledger_uuid, b"\0" * 32)
    stranger = LedgerTokenStore(book._database, other, config.identity, "sandbox")
    assert book.tokens(config.identity, "sandbox").read() is not None
    assert stranger.read() is None


def test_no_repr_has_a_secret(make_session, make_config, sandbox):
    seed = sandbox.issue_refresh_token()
    config = make_config(seed)
    session = make_session(config)
    token = session.token()
    stored = session.tokens.stored()
    shown = " ".join(map(repr, (config, session, session.tokens, stored, session.tokens._store)))
    for secret in (seed, token, stored.refresh_token):
        assert secret not in shown


# Masking.


def test_every_token_is_masked_before_it_is_used(make_config, make_session, make_engine, sandbox, monkeypatch):
    """Masked before it is stored, and before a request carries it; whether it was granted or read from the ledger."""
    seed = sandbox.issue_refresh_token()
    config = make_config(seed)
    masked: list[str] = []
    session = make_session(config, mask=masked.append)
    exchange, store = session._exchange, session.tokens._store
    used = []

    def watched(request, token, over_at):
        carried = [token, (request.json or {}).get("refresh_token")]
        used.extend(carried)
        assert all(secret in masked for secret in carried if secret not in (None, seed))
        return exchange(request, token, over_at)

    def stored(owner, written, renew_after, real=store.store):
        tokens = Tokens.load(written)
        assert {tokens.access_token, tokens.refresh_token} <= set(masked)
        return real(owner, written, renew_after)

    monkeypatch.setattr(session, "_exchange", watched)
    monkeypatch.setattr(store, "store", stored)
    first = session.token()
    session.renew(first)
    second = session.token()
    session.read(me_request())
    assert {first, second} <= set(masked)
    assert second in used
    assert len(set(masked)) == 4  # two access tokens, two refresh tokens

    elsewhere: list[str] = []
    other = make_session(config, mask=elsewhere.append)
    assert other.token() == second
    assert set(elsewhere) == {second, session.tokens.stored().refresh_token}


# Several clients in one ledger.


def test_tokens_of_different_clients_and_scopes_do_not_mix(
    make_session, make_config, sandbox, make_engine, token_requests
):
    """Every scope, grant type, client and host has its own tokens."""
    of_a_person = make_config(sandbox.issue_refresh_token())
    narrow = make_config(sandbox.issue_refresh_token(), scope="public")
    own = make_config()
    tokens = [make_session(config).token() for config in (of_a_person, narrow, own)]
    assert len(set(tokens)) == 3
    assert [make_session(config).token() for config in (of_a_person, narrow, own)] == tokens
    assert token_requests() == [200, 200, 200]
    with make_engine().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sendoso_tokens")).scalar() == 3


def test_tokens_of_different_hosts_do_not_mix(make_session, make_config, sandbox):
    with Sandbox(rate=0) as staging:
        here = make_config(sandbox.issue_refresh_token())
        there = here.model_copy(
            update={"base_url": staging.url, "refresh_token": None, "grant_type": "client_credentials"}
        )
        tokens = [make_session(config).token() for config in (here, there, here, there)]
        assert tokens[:2] == tokens[2:]
        assert tokens[0] != tokens[1]
        make_session(here).tokens.revoke()
        assert make_session(there).token() == tokens[1]
