"""Failures around a token request: each is a clear error, and none wastes a refresh token."""

from __future__ import annotations

import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text

from airflow_provider_sendoso.client.endpoints import me_request
from airflow_provider_sendoso.client.retrying import ATTEMPTS
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoConnectionError,
    SendosoLedgerError,
    SendosoRateLimitError,
    SendosoServerError,
)
from airflow_provider_sendoso.ledger import Ledger, database, sessions
from airflow_provider_sendoso.ledger import tokens as token_store

TOKEN = {"path": "/oauth/token"}

# What does not depend on the database is tried on one.
on_sqlite = pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)


on_sql = pytest.mark.parametrize("ledger_connection", ["sqlite", "postgresql"], indirect=True)
"""What only a database has: sessions that may not write, locks, and tables that others can see."""


@pytest.fixture
def impatient(monkeypatch):
    """A ledger that does not answer is given up soon instead of after a minute."""
    monkeypatch.setattr(database.Database.run, "__defaults__", (0.4, None))
    monkeypatch.setattr(token_store.LedgerTokenStore._update, "__kwdefaults__", {"patience": 0.4})
    monkeypatch.setattr(token_store, "_STORE_PATIENCE", 0.4)
    monkeypatch.setattr(sessions, "BUSY_TIMEOUT_MS", 200)
    monkeypatch.setattr(sessions, "LOCK_TIMEOUT_MS", 300)


# The token endpoint.


def status(code: int, body) -> tuple[str, dict]:
    return "status", {"status": code, "body": body}


@on_sqlite
@pytest.mark.parametrize(
    ("fault", "error", "words", "tries"),
    [
        (("error_before", {"status": 500}), SendosoServerError, "answered 500", ATTEMPTS),
        (("error_before", {"status": 503}), SendosoServerError, "answered 503", ATTEMPTS),
        (("garbage", {"accept": False}), SendosoServerError, "an HTML page, perhaps of a proxy", ATTEMPTS),
        (("redirect", {"location": "/sign-in"}), SendosoServerError, "answered 302", ATTEMPTS),
        (("drop_before", {}), SendosoConnectionError, "got no answer from Sendoso", ATTEMPTS),
        (("throttle", {"retry_after": 600}), SendosoRateLimitError, "answered 429", 1),
        (status(200, {"token_type": "Bearer"}), SendosoServerError, "without an access_token", ATTEMPTS),
        (status(200, {"access_token": None}), SendosoServerError, "without an access_token", ATTEMPTS),
        (status(200, {"access_token": ""}), SendosoServerError, "without an access_token", ATTEMPTS),
        (status(200, ["access_token"]), SendosoServerError, "without an access_token", ATTEMPTS),
        (status(400, {"error": "unauthorized_client"}), SendosoAuthError, "unauthorized_client.*login", 1),
        (status(400, {"error": "invalid_request"}), SendosoAuthError, "invalid_request", 1),
        (status(400, "invalid_grant"), SendosoAuthError, "400.*grant_type", 1),
        (status(401, {"success": False}), SendosoAuthError, r"\(401\).*password", 1),
        (status(403, {"error": ["invalid_grant"]}), SendosoAuthError, r"\(403\)", 1),
        (status(404, {"error": "invalid_grant"}), Exception, "answered 404", 1),
    ],
    ids=repr,
)
def test_an_error_of_the_token_endpoint_spends_no_refresh_token(
    make_session, make_config, sandbox, token_requests, fault, error, words, tries
):
    name, options = fault
    seed = sandbox.issue_refresh_token()
    session = make_session(make_config(seed))
    sandbox.fault(name, times=20, **TOKEN, **options)
    with pytest.raises(error, match=words) as raised:
        session.token()
    assert seed not in str(raised.value)
    assert len(token_requests()) == tries  # what may pass is tried a few times, the rest once
    sandbox.clear_faults()
    assert make_session(make_config(seed)).token()
    assert len(token_requests()) == tries + 1


@on_sqlite
def test_a_500_that_passes_is_retried(make_session, make_config, sandbox, token_requests):
    sandbox.fault("error_before", times=2, **TOKEN)
    assert make_session(make_config(sandbox.issue_refresh_token())).token()
    assert token_requests() == [500, 500, 200]


def test_a_failed_renewal_gives_its_claim_back_at_once(make_session, make_config, sandbox):
    """The process that fails releases the claim, so that the next one need not wait for a lease to end."""
    config = make_config(sandbox.issue_refresh_token())
    sandbox.fault("error_before", times=ATTEMPTS, **TOKEN)
    with pytest.raises(SendosoServerError):
        make_session(config, lease=600).token()
    started = time.monotonic()
    assert make_session(config, lease=600).token()
    assert time.monotonic() - started < 60


@on_sqlite
def test_a_host_that_is_down_spends_no_refresh_token(make_session, make_config, sandbox, token_requests):
    config = make_config(sandbox.issue_refresh_token())
    sandbox.stop()
    with pytest.raises(SendosoConnectionError, match="got no answer from Sendoso"):
        make_session(config).token()
    sandbox.start()
    assert make_session(config).token()
    assert token_requests() == [200]


@on_sqlite
def test_a_wrong_secret_is_an_auth_error_without_the_secret(
    make_session, make_config, sandbox, token_requests, connection
):
    config = make_config(sandbox.issue_refresh_token())
    wrong = config.model_validate(
        {**config.model_dump(), "client_secret": "wrong-secret", "refresh_token": config.refresh_token}
    )
    with pytest.raises(SendosoAuthError, match=r"invalid_client.*login \(client ID\), password") as raised:
        make_session(wrong).token()
    assert "wrong-secret" not in str(raised.value)
    assert make_session(config).token()
    assert token_requests() == [401, 200]


def test_a_wrong_secret_in_another_connection_leaves_the_stored_token_as_it_is(
    make_session, make_config, sandbox, make_engine, token_requests
):
    """Somebody mistyped a second connection to the same client: the good row is left as it is."""
    config = make_config(sandbox.issue_refresh_token())
    token = make_session(config).token()
    with make_engine().connect() as database_connection:
        before = database_connection.execute(text("SELECT ciphertext FROM sendoso_tokens")).scalar()
    wrong = config.model_validate(
        {**config.model_dump(), "client_secret": "wrong-secret", "refresh_token": "something"}
    )
    with pytest.raises(SendosoAuthError, match="invalid_client"):
        make_session(wrong).token()
    with make_engine().connect() as database_connection:
        assert database_connection.execute(text("SELECT ciphertext FROM sendoso_tokens")).scalar() == before
    assert make_session(config).token() == token
    assert token_requests() == [200, 401]


@on_sqlite
def test_a_client_that_was_revoked_and_restored_keeps_its_refresh_token(
    make_session, make_config, sandbox, token_requests
):
    """The client is gone while its tokens are in use; put back, the refresh token still works."""
    config = make_config(sandbox.issue_refresh_token())
    session = make_session(config)
    session.token()
    sandbox._app.tokens.client_id = "another"
    sandbox.revoke_tokens()
    with pytest.raises(SendosoAuthError, match="invalid_client"):
        session.read(me_request())
    sandbox._app.tokens.client_id = "sandbox"
    assert session.read(me_request()).status == 200
    assert token_requests() == [200, 401, 200]


@on_sqlite
@pytest.mark.parametrize(
    "expires_in", [None, "soon", "7200", "", -5, 0, [], {}, True, float("inf"), float("nan"), 1e-9, 10**18], ids=repr
)
def test_any_expires_in_gives_a_working_token(make_session, make_config, make_engine, sandbox, expires_in):
    """And the refresh token that came with it is stored: the next renewal works."""
    config = make_config(sandbox.issue_refresh_token())
    issue = sandbox._app.tokens._issue
    sandbox._app.tokens._issue = lambda scope: issue(scope) | {"expires_in": expires_in}
    session = make_session(config)
    session.token()
    assert session.read(me_request()).status == 200
    sandbox.revoke_tokens()
    assert make_session(config).read(me_request()).status == 200


@on_sqlite
def test_a_grant_without_expires_in_lasts_two_hours(make_session, make_config, sandbox):
    """Two hours are published, and taken where the answer does not say."""
    issue = sandbox._app.tokens._issue
    sandbox._app.tokens._issue = lambda scope: {k: v for k, v in issue(scope).items() if k != "expires_in"}
    session = make_session(make_config())
    session.token()
    stored = session.tokens._store.read()
    assert stored is not None
    assert 6800 < stored[1] < 7000


# This machine's clock.


@pytest.mark.parametrize("wrong_by", [-3600.0, 3600.0])
def test_a_worker_clock_that_is_an_hour_wrong_changes_no_renewal(
    make_session, make_config, sandbox, monkeypatch, token_requests, wrong_by
):
    """Only the database's clock and monotonic time decide: no renewal too many, no token too old."""
    config = make_config(sandbox.issue_refresh_token())
    right = make_session(config)
    token = right.token()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + wrong_by)
    wrong = make_session(config)
    assert wrong.token() == token
    assert token_requests() == [200]
    renewed = wrong.renew(token)
    monkeypatch.undo()
    assert make_session(config).token() == renewed
    assert right.renew(token) == renewed
    assert token_requests() == [200, 200]


# The ledger.


@on_sql
def test_a_read_only_ledger_spends_no_refresh_token(
    impatient, session_on, make_config, make_engine, book, ledger_url, sandbox, token_requests
):
    config = make_config(sandbox.issue_refresh_token())
    if ledger_url.startswith("sqlite"):
        engine = create_engine(ledger_url, hide_parameters=True)
        event.listen(engine, "connect", lambda dbapi, record: dbapi.execute("PRAGMA query_only = ON"))
    else:
        options = {"options": "-c default_transaction_read_only=on"}
        engine = create_engine(ledger_url, hide_parameters=True, connect_args=options)
    with pytest.raises(SendosoLedgerError, match=r"(?i)read-?only"):
        session_on(Ledger(engine), config).token()
    engine.dispose()
    assert token_requests() == []  # nobody was asked for what could not have been stored
    assert session_on(book, config).token()
    assert token_requests() == [200]


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.db"
    Ledger(create_engine(f"sqlite:///{path}"))
    return path


def pages_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA page_count").fetchone()[0]
    finally:
        connection.close()


@pytest.mark.parametrize("spare", range(6))
def test_a_full_ledger_spends_no_refresh_token(
    impatient, session_on, make_config, sandbox, sqlite_file, token_requests, spare
):
    """With any amount of free space, the tokens (2,400 characters) are either stored, or not requested at all."""
    issue = sandbox._app.tokens._issue
    sandbox._app.tokens._issue = lambda scope: issue(scope) | {"access_token": secrets.token_urlsafe(1800)}
    engine = create_engine(f"sqlite:///{sqlite_file}", hide_parameters=True)
    most = pages_of(sqlite_file) + spare
    event.listen(engine, "connect", lambda dbapi, record: dbapi.execute(f"PRAGMA max_page_count = {most}"))
    seed = sandbox.issue_refresh_token()
    config = make_config(seed)
    full = Ledger(engine)
    token, refused = None, None
    try:
        token = session_on(full, config).token()
    except SendosoLedgerError as error:
        refused = str(error)
    assert token or (refused and "full" in refused and token_requests() == [])
    roomy = Ledger(create_engine(f"sqlite:///{sqlite_file}", hide_parameters=True))
    assert token in (None, session_on(roomy, config).token())
    assert session_on(roomy, config).renew(session_on(roomy, config).token())
    assert set(token_requests()) == {200}


def test_the_full_ledgers_of_these_tests_refuse_a_claim_or_grant_it(impatient, sqlite_file, make_config):
    """The full ledgers of the test above include some that refuse a claim and some that grant it."""
    outcomes = set()
    for spare in (0, 5):
        engine = create_engine(f"sqlite:///{sqlite_file}", hide_parameters=True)
        most = pages_of(sqlite_file) + spare
        event.listen(engine, "connect", lambda dbapi, record, most=most: dbapi.execute(f"PRAGMA max_page_count={most}"))
        try:
            outcomes.add(Ledger(engine).tokens(make_config().identity, "s").claim("me", 1.0))
        except SendosoLedgerError:
            outcomes.add("full")
    assert outcomes == {"full", True}


@on_sql
def test_a_locked_ledger_spends_no_refresh_token(
    impatient, session_on, make_config, make_engine, book, ledger, sandbox, token_requests
):
    config = make_config(sandbox.issue_refresh_token())
    session = session_on(Ledger(make_engine()), config)
    with make_engine().connect() as holder:
        if ledger["conn_type"] == "sqlite":
            holder.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            holder.execute(text("LOCK TABLE sendoso_tokens IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(SendosoLedgerError, match=r"(?i)lock"):
            session.token()
        holder.exec_driver_sql("ROLLBACK")
    assert token_requests() == []
    assert session.token()


@on_sql
def test_a_missing_table_of_the_ledger_spends_no_refresh_token(
    impatient, session_on, make_config, make_engine, ledger, sandbox, token_requests
):
    """Dropped or deleted while the process lives; and with it back, the same refresh token works."""
    config = make_config(sandbox.issue_refresh_token())
    engine = make_engine()
    session = session_on(Ledger(engine), config)
    with make_engine().begin() as connection:
        connection.execute(text("ALTER TABLE sendoso_tokens RENAME TO gone"))
    with pytest.raises(SendosoLedgerError, match="sendoso_tokens"):
        session.token()
    assert token_requests() == []
    with make_engine().begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO sendoso_tokens"))
    assert session.token()


@on_sql
def test_a_missing_database_spends_no_refresh_token(
    impatient, session_on, make_config, make_engine, ledger, sandbox, token_requests
):
    config = make_config(sandbox.issue_refresh_token())
    engine = make_engine()
    session = session_on(Ledger(engine), config)
    engine.dispose()
    if ledger["conn_type"] == "sqlite":
        path = Path(ledger["host"])
        path.rename(path.with_suffix(".away"))
        path.mkdir()
    else:
        admin = create_engine(engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": ledger["schema"]},
            )
            connection.execute(text(f"ALTER DATABASE {ledger['schema']} RENAME TO {ledger['schema']}_away"))
    with pytest.raises(SendosoLedgerError, match="could not be read or written") as raised:
        session.token()
    assert "sandbox" not in re.sub(r"test_\w+", "", str(raised.value))
    assert token_requests() == []
    if ledger["conn_type"] == "sqlite":
        path.rmdir()
        path.with_suffix(".away").rename(path)
    else:
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {ledger['schema']}_away RENAME TO {ledger['schema']}"))
        admin.dispose()
    assert session.token()


@on_sql
def test_a_ledger_that_goes_away_between_grant_and_store_is_reported_as_a_lost_refresh_token(
    impatient, make_session, make_config, make_engine, sandbox, monkeypatch, token_requests
):
    """The one case in which a person is needed, and the error says so."""
    session = make_session(make_config(sandbox.issue_refresh_token()))
    store = session.tokens._store

    def store_nothing(*arguments):
        with make_engine().begin() as connection:
            connection.execute(text("ALTER TABLE sendoso_tokens RENAME TO gone"))
        try:
            return real(*arguments)
        finally:
            with make_engine().begin() as connection:
                connection.execute(text("ALTER TABLE gone RENAME TO sendoso_tokens"))

    real = store.store
    monkeypatch.setattr(store, "store", store_nothing)
    with pytest.raises(SendosoLedgerError, match="authorise again"):
        session.token()
    assert token_requests() == [200]


@contextmanager
def away(ledger_url: str) -> Iterator[None]:
    """Let a bucket's folder be a file, so that nothing can be read or written."""
    folder = Path(ledger_url.removeprefix("file://"))
    folder.rename(folder.with_suffix(".away"))
    folder.touch()
    yield
    folder.unlink()
    folder.with_suffix(".away").rename(folder)


in_a_bucket = pytest.mark.parametrize("ledger_connection", ["bucket"], indirect=True)


@in_a_bucket
def test_a_bucket_that_is_away_spends_no_refresh_token(
    impatient, session_on, make_config, book, ledger_url, sandbox, token_requests
):
    session = session_on(book, make_config(sandbox.issue_refresh_token()))
    with away(ledger_url), pytest.raises(SendosoLedgerError, match=r"\(bucket\) could not be read or written"):
        session.token()
    assert token_requests() == []
    assert session.token()


@in_a_bucket
def test_a_bucket_that_goes_away_between_grant_and_store_is_reported_as_a_lost_refresh_token(
    impatient, make_session, make_config, ledger_url, sandbox, monkeypatch, token_requests
):
    session = make_session(make_config(sandbox.issue_refresh_token()))
    store = session.tokens._store
    real = store.store

    def store_nothing(*arguments):
        with away(ledger_url):
            return real(*arguments)

    monkeypatch.setattr(store, "store", store_nothing)
    with pytest.raises(SendosoLedgerError, match="authorise again"):
        session.token()
    assert token_requests() == [200]


def test_a_ledger_that_goes_between_grant_and_store_costs_client_credentials_nothing(
    impatient, make_session, make_config, sandbox, monkeypatch, token_requests
):
    session = make_session(make_config())

    def fail(*arguments):
        monkeypatch.undo()
        raise SendosoLedgerError("The ledger (any) could not be read or written: gone.")

    monkeypatch.setattr(session.tokens._store, "store", fail)
    with pytest.raises(SendosoLedgerError) as raised:
        session.token()
    assert "authorise" not in str(raised.value)
    assert session.token()
