"""Opening a ledger: its tables are made once, and a database that cannot be a ledger is refused with a clear error."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ledger_workers
import pytest
from sqlalchemy import create_engine, event, inspect, select, text, update

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError, SendosoLimitError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.ddl import ddl
from airflow_provider_sendoso.ledger.overview import EVERYTHING
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import SCHEMA_VERSION, USABLE_SINCE, identity, metadata
from airflow_provider_sendoso.ledger.spending import Capped, Fit
from airflow_provider_sendoso.models import Item, Kind, StatusReport
from airflow_provider_sendoso.models.spending import SpendingLimits

OF_PAGES = ("totals", "when", "open")
BATCH = Batch("batch", "account", "q4", "email", "dag", "task", "run", -1)


on_sql = pytest.mark.parametrize("ledger_connection", ["sqlite", "postgresql", "mysql"], indirect=True)
"""Tables that were altered by hand; those of a bucket are each process's own (``test_bucket_schema.py``)."""


def test_eight_processes_that_open_a_new_database_at_once_create_one_ledger(
    url: str, at_once: Callable[..., list[Any]]
) -> None:
    uuids = at_once(ledger_workers.ledger_uuid, [(url,)] * 8)
    assert len(set(uuids)) == 1


def test_a_ledger_opened_again_has_the_same_identity_and_hash_key(url: str) -> None:
    first, second = ledger_workers.open_ledger(url), ledger_workers.open_ledger(url)
    assert first.identity == second.identity
    assert first.identity.digest("a", "bc") == second.identity.digest("a", "bc") != first.identity.digest("ab", "c")


def test_two_ledgers_hash_the_same_recipient_differently(tmp_path: Path) -> None:
    one, other = (ledger_workers.open_ledger(f"sqlite:///{tmp_path}/{name}.db") for name in "ab")
    assert one.identity.digest("send", "ada@example.com") != other.identity.digest("send", "ada@example.com")


def test_identity_does_not_show_its_hash_key(opened: Ledger) -> None:
    assert opened.identity.hash_key.hex() not in repr(opened.identity)
    assert "hash_key" not in repr(opened.identity)


def test_every_table_of_the_ledger_has_the_prefix_sendoso(opened: Ledger) -> None:
    names = inspect(opened._database.engine).get_table_names()
    assert names
    assert [name for name in names if not name.startswith("sendoso_")] == []


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(opened: Ledger, url: str) -> None:
    newer = update(identity).values(schema_version=SCHEMA_VERSION + 1)
    opened._database.run(lambda connection: connection.execute(newer))
    with pytest.raises(SendosoConfigError, match=rf"schema version {SCHEMA_VERSION + 1}.*Upgrade the provider"):
        ledger_workers.open_ledger(url)


@pytest.fixture
def version_1(opened: Ledger) -> Ledger:
    """A ledger as version 1 made it, with a send of unknown outcome in it."""
    claim = opened.sends.claim(BATCH, "owner", 60, [Wanted("key", "payload", Item("gift-mug"), "C-1", kind=Kind.GIFT)])[
        "key"
    ]
    assert isinstance(claim, Claim)
    opened.sends.begin_post(claim, 60)
    opened.sends.finish(claim, State.UNKNOWN, reason="http_500")

    def take_back(connection: Any) -> None:
        connection.execute(text("DROP TABLE sendoso_resolutions"))
        connection.execute(text("DROP TABLE sendoso_lists"))
        connection.execute(text("DROP TABLE sendoso_cursors"))
        connection.execute(text("ALTER TABLE sendoso_sends DROP COLUMN resend_of"))
        connection.execute(text("ALTER TABLE sendoso_ledger DROP COLUMN tables_version"))
        connection.execute(update(identity).values(schema_version=1))

    opened._database.run(take_back)
    return opened


def layout(ledger: Ledger) -> dict[str, Any]:
    """Tables with their columns and indexes."""
    found = inspect(ledger._database.engine)
    return {
        table: (
            sorted((column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)),
            sorted((str(index["name"]), tuple(index["column_names"])) for index in found.get_indexes(table)),
            found.get_pk_constraint(table)["constrained_columns"],
        )
        for table in found.get_table_names()
    }


@on_sql
def test_a_ledger_of_version_1_is_upgraded_in_place(version_1: Ledger, url: str) -> None:
    upgraded = ledger_workers.open_ledger(url)
    assert upgraded.identity == version_1.identity
    (record,) = upgraded.sends.records(*State)
    assert (record.send_key, record.state, record.reason, record.row_ref) == ("key", State.UNKNOWN, "http_500", "C-1")
    assert record.resend_of is None
    assert upgraded.resolutions.resolve(record, State.SENT, resolved_by="ada", why="looked", send_id="id-1")
    assert len(upgraded.resolutions.history("key")) == 1

    version = upgraded._database.run(lambda connection: connection.execute(select(identity.c.schema_version)).scalar())
    assert version == USABLE_SINCE
    assert ledger_workers.open_ledger(url).identity == version_1.identity


@on_sql
def test_an_upgraded_ledger_looks_like_a_new_one(url: str, request: pytest.FixtureRequest, opened: Ledger) -> None:
    new = layout(opened)
    request.getfixturevalue("version_1")
    assert layout(opened) != new
    assert layout(ledger_workers.open_ledger(url)) == new


@on_sql
def test_a_failed_send_of_version_5_has_no_status_because_it_may_be_on_hold(opened: Ledger, url: str) -> None:
    for key, status in (("one", "failed"), ("two", "returned")):
        (claim,) = opened.sends.claim(
            BATCH, "owner", 60, [Wanted(key, "payload", Item("gift-mug"), None, kind=Kind.GIFT)]
        ).values()
        assert isinstance(claim, Claim)
        opened.sends.begin_post(claim, 60)
        opened.sends.finish(claim, State.SENT, send_id=key, report=StatusReport.of(status))

    def take_back(connection: Any) -> None:
        connection.execute(text("ALTER TABLE sendoso_sends DROP COLUMN status_words"))
        connection.execute(text("UPDATE sendoso_ledger SET tables_version = 5"))

    opened._database.run(take_back)
    upgraded = ledger_workers.open_ledger(url)
    statuses = {record.send_key: (record.status, record.status_word) for record in upgraded.sends.records(State.SENT)}
    assert statuses == {"one": (None, None), "two": ("returned", None)}
    # Looked up again, the send is on hold; a worker of the release before then writes a later status without its word.
    upgraded.sends.note_statuses("account", {"one": StatusReport.of("pending", "Suspicious Email")})
    assert [upgraded.sends.read([key])[key].status_word for key in ("one", "two")] == ["Suspicious Email", None]
    older = text("UPDATE sendoso_sends SET status = 'shipped' WHERE send_key = 'one'")
    upgraded._database.run(lambda connection: connection.execute(older))
    one = upgraded.sends.read(["one"])["one"]
    assert (one.status, one.status_word) == ("shipped", None)


@on_sql
def test_what_a_ledger_of_version_6_has_sent_counts_in_limits(opened: Ledger, url: str) -> None:
    (claim,) = opened.sends.claim(
        BATCH, "owner", 60, [Wanted("one", "payload", Item("gift"), None, email_hash="ada", kind=Kind.GIFT)]
    ).values()
    assert isinstance(claim, Claim)
    opened.sends.begin_post(claim, 60)
    opened.sends.finish(claim, State.SENT, send_id="id-1")

    def take_back(connection: Any) -> None:
        connection.execute(text("DROP TABLE sendoso_spending"))
        for index in ("sendoso_sends_person", "sendoso_sends_posted", "sendoso_sends_totals"):
            of = " ON sendoso_sends" if connection.dialect.name == "mysql" else ""
            connection.execute(text(f"DROP INDEX {index}{of}"))
        for column in ("cost", "currency"):
            connection.execute(text(f"ALTER TABLE sendoso_sends DROP COLUMN {column}"))
        connection.execute(text("UPDATE sendoso_ledger SET tables_version = 6"))

    opened._database.run(take_back)
    upgraded = ledger_workers.open_ledger(url)
    assert layout(upgraded)["sendoso_spending"]
    (claim,) = upgraded.sends.claim(
        BATCH, "owner", 60, [Wanted("two", "payload", Item("gift"), None, email_hash="ada", kind=Kind.GIFT)]
    ).values()
    assert isinstance(claim, Claim)
    with pytest.raises(SendosoLimitError, match="spent 1 sends"):
        upgraded.sends.begin_post(claim, 60, fit=Fit(SpendingLimits(scope_max_sends=1), "", {}))
    with pytest.raises(Capped):
        upgraded.sends.begin_post(claim, 60, fit=Fit(SpendingLimits(min_days_between_gifts=90), "", {}))
    upgraded._database.engine.dispose()


@on_sql
def test_what_a_ledger_of_version_7_has_sent_is_shown(opened: Ledger, url: str) -> None:
    opened.sends.open_batch(BATCH)
    (claim,) = opened.sends.claim(
        BATCH, "owner", 60, [Wanted("one", "payload", Item("gift"), None, kind=Kind.GIFT)]
    ).values()
    assert isinstance(claim, Claim)
    opened.sends.begin_post(claim, 60)
    opened.sends.finish(claim, State.SENT, send_id="id-1")
    new = layout(opened)

    def take_back(connection: Any) -> None:
        connection.execute(text("DROP TABLE sendoso_plans"))
        for table, names in (("scopes", ("created",)), ("batches", ("scope", "run")), ("sends", OF_PAGES)):
            for name in names:
                of = f" ON sendoso_{table}" if connection.dialect.name == "mysql" else ""
                connection.execute(text(f"DROP INDEX sendoso_{table}_{name}{of}"))
        connection.execute(text("UPDATE sendoso_ledger SET tables_version = 7"))

    opened._database.run(take_back)
    upgraded = ledger_workers.open_ledger(url)
    assert layout(upgraded) == new
    (campaign,) = upgraded.overview.campaigns("account", EVERYTHING, limit=2)
    assert campaign.states == {State.SENT: 1}
    assert campaign.last is not None
    assert (campaign.last.run_id, campaign.last.rows_to_send) == ("run", None)
    upgraded._database.engine.dispose()


@on_sql
def test_a_ledger_of_version_7_hears_of_webhooks_and_its_sends_have_no_id_for_them_yet(
    opened: Ledger, url: str
) -> None:
    (claim,) = opened.sends.claim(
        BATCH, "owner", 60, [Wanted("one", "payload", Item("gift"), None, kind=Kind.GIFT)]
    ).values()
    assert isinstance(claim, Claim)
    opened.sends.begin_post(claim, 60)
    opened.sends.finish(claim, State.SENT, send_id="id-1")

    def take_back(connection: Any) -> None:
        connection.execute(text("DROP TABLE sendoso_wakeups"))
        of = " ON sendoso_sends" if connection.dialect.name == "mysql" else ""
        connection.execute(text(f"DROP INDEX sendoso_sends_gid{of}"))
        connection.execute(text("ALTER TABLE sendoso_sends DROP COLUMN send_gid"))
        connection.execute(text("UPDATE sendoso_ledger SET tables_version = 7"))

    opened._database.run(take_back)
    upgraded = ledger_workers.open_ledger(url)
    assert layout(upgraded)["sendoso_wakeups"]
    upgraded.wakeups.note("account", "msg_1", "gid-1")
    assert [wakeup.names for wakeup in upgraded.wakeups.recent(60)] == [("gid-1",)]
    upgraded.wakeups.note_gids("account", {"id-1": "gid-1"})
    assert [wakeup.names for wakeup in upgraded.wakeups.recent(60)] == [("gid-1", "id-1")]
    upgraded._database.engine.dispose()


@on_sql
def test_eight_processes_that_upgrade_a_ledger_at_once_lose_nothing(
    version_1: Ledger, url: str, at_once: Callable[..., list[Any]]
) -> None:
    uuids = at_once(ledger_workers.ledger_uuid, [(url,)] * 8)
    assert set(uuids) == {version_1.identity.ledger_uuid}
    assert [record.send_key for record in ledger_workers.open_ledger(url).sends.records(*State)] == ["key"]


def by_hand(url: str) -> str:
    """Execute the output of ``ledger ddl``, as a DBA does; return the dialect."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in ddl(engine.dialect.name).split(";\n\n"):
            connection.execute(text(statement.rstrip(";")))
    engine.dispose()
    return engine.dialect.name


@on_sql
def test_the_printed_ddl_creates_the_tables_that_the_provider_creates(url: str) -> None:
    by_hand(url)
    ledger = ledger_workers.open_ledger(url)
    made_by_hand = layout(ledger)
    assert ledger.identity.ledger_uuid
    metadata.drop_all(ledger._database.engine)
    assert made_by_hand == layout(ledger_workers.open_ledger(url))


@pytest.mark.parametrize("ledger_connection", ["postgresql"], indirect=True)
def test_a_ledger_made_by_hand_needs_no_right_to_create_tables(url: str) -> None:
    by_hand(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in (
            "CREATE ROLE sender LOGIN",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO sender",
        ):
            connection.execute(text(statement))
    try:
        ledger = ledger_workers.open_ledger(url.replace("postgres@", "sender@"))
        assert isinstance(
            ledger.sends.claim(BATCH, "owner", 60, [Wanted("key", "p", Item("gift"), None, kind=Kind.GIFT)])["key"],
            Claim,
        )
        ledger._database.engine.dispose()
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY sender"))
            connection.execute(text("DROP ROLE sender"))
        engine.dispose()


def test_scopes_are_compared_by_their_code_points(opened: Ledger) -> None:
    batch = Batch("batch", "account", "Gärten 🎁", "email", "dag", "task", "run", -1)
    opened.sends.open_batch(batch)
    assert opened.sends.scope_exists("account", "Gärten 🎁")
    assert not any(opened.sends.scope_exists("account", other) for other in ("gärten 🎁", "Garten 🎁", "Gärten 🎀"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///ledger.db", "sqlite:///file:x?uri=true"])
def test_a_sqlite_database_that_would_be_forgotten_is_refused(url: str) -> None:
    with pytest.raises(SendosoConfigError, match="absolute path"):
        Ledger(create_engine(url))


@pytest.mark.parametrize("dialect", ["snowflake", "bigquery", "mssql", "oracle"])
def test_databases_without_enforced_unique_keys_are_refused(dialect: str) -> None:
    engine: Any = SimpleNamespace(dialect=SimpleNamespace(name=dialect))
    with pytest.raises(SendosoConfigError, match=f"{dialect}; use PostgreSQL, MySQL, or SQLite"):
        Database(engine)


@pytest.mark.parametrize("conn_type", ["snowflake", "gcpbigquery", "http", "sendoso"])
def test_connections_of_other_types_are_refused(
    conn_type: str, sendoso: Any, set_connection: Callable[..., None]
) -> None:
    set_connection("sendoso_ledger", {"conn_type": conn_type, "host": "somewhere"})
    with pytest.raises(SendosoConfigError, match=f"'sendoso_ledger' is of type '{conn_type}'.*Nothing was sent"):
        _ = SendosoHook().ledger


def test_the_connection_that_the_error_proposes_works(
    sendoso: Any, set_connection: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises(SendosoConfigError) as caught:
        _ = SendosoHook().ledger
    assert "AIRFLOW_CONN_SENDOSO_LEDGER='sqlite:////var/lib/airflow/sendoso_ledger.db'" in str(caught.value)
    set_connection("sendoso_ledger", f"sqlite:///{tmp_path}/sendoso_ledger.db")
    assert SendosoHook().ledger.identity.ledger_uuid
    assert (tmp_path / "sendoso_ledger.db").exists()


def test_a_postgresql_that_does_not_answer_is_a_retryable_error_without_the_password(
    impatient: None, tmp_path: Path
) -> None:
    url = f"postgresql://somebody:secret-password@/ledger?host={tmp_path}"
    with pytest.raises(SendosoLedgerError, match=r"ledger \(postgresql\).*retried once the database answers") as caught:
        ledger_workers.open_ledger(url)
    assert "secret-password" not in str(caught.value)


def test_a_sqlite_path_in_a_missing_directory_is_an_error(impatient: None, tmp_path: Path) -> None:
    with pytest.raises(SendosoLedgerError, match="unable to open database file"):
        ledger_workers.open_ledger(f"sqlite:///{tmp_path}/nowhere/ledger.db")


def test_a_read_only_sqlite_file_is_an_error(at_once: Callable[..., list[Any]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="read-only-ledger-"))
    ledger_workers.open_ledger(f"sqlite:///{folder}/ledger.db")._database.engine.dispose()
    (folder / "ledger.db").chmod(0o444)
    folder.chmod(0o555)
    (said,) = at_once(ledger_workers.open_as_a_reader, [(f"sqlite:///{folder}/ledger.db",)])
    assert said.startswith("SendosoLedgerError: The ledger (sqlite)")
    assert "readonly" in said


def test_a_locked_sqlite_file_is_an_error_until_it_is_unlocked(impatient: None, tmp_path: Path) -> None:
    ledger_workers.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SendosoLedgerError, match="database is locked"):
        ledger_workers.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    other.execute("ROLLBACK")
    assert ledger_workers.open_ledger(f"sqlite:///{tmp_path}/ledger.db").identity


def test_a_file_that_is_not_a_sqlite_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("dear diary, " * 1000)
    with pytest.raises(SendosoLedgerError, match="file is not a database"):
        ledger_workers.open_ledger(f"sqlite:///{tmp_path}/ledger.db")


def test_errors_of_the_database_show_no_values(sendoso: Any, ledger: Any, impatient: None) -> None:
    database = SendosoHook().ledger._database
    broken = text("SELECT * FROM no_such_table WHERE email = :email")
    with pytest.raises(SendosoLedgerError, match="no_such_table") as caught:
        database.run(lambda connection: connection.execute(broken, {"email": "ada@example.com"}))
    assert "ada@example.com" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_postgresql_asks_for_durable_commits_where_the_server_does_not(postgres_database: Callable[[], Any]) -> None:
    database = postgres_database()
    plain = create_engine(database.url)
    with plain.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "off"  # the tests' server
    plain.dispose()
    ledger = Ledger(create_engine(database.url, hide_parameters=True))
    shown = ledger._database.run(lambda connection: connection.execute(text("SHOW synchronous_commit")).scalar())
    assert shown == "on"


def test_sqlite_is_asked_for_durable_commits(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}", hide_parameters=True)
    database, asked = Database(engine), []
    # Of each new connection, before the tests tell it not to wait for the disk.
    event.listen(engine, "connect", lambda new, _: asked.append(new.execute("PRAGMA synchronous").fetchone()[0]))
    database.run(lambda connection: connection.execute(text("SELECT 1")))
    engine.dispose()
    assert asked == [2]  # FULL
