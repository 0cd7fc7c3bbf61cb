"""Opening a ledger: created once, recognised again, and refused in clear words where it cannot be one."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ledger_workers
import pytest
from sqlalchemy import create_engine, inspect, text, update

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import SCHEMA_VERSION, identity
from airflow_provider_sendoso.ledger.sends import Batch


def test_eight_processes_that_open_it_at_once_find_one_ledger(url: str, at_once: Callable[..., list[Any]]) -> None:
    uuids = at_once(ledger_workers.ledger_uuid, [(url,)] * 8)
    assert len(set(uuids)) == 1


def test_opened_again_it_is_the_same_with_the_same_hash_key(url: str) -> None:
    first, second = ledger_workers.open_ledger(url), ledger_workers.open_ledger(url)
    assert first.identity == second.identity
    assert first.identity.digest("a", "bc") == second.identity.digest("a", "bc") != first.identity.digest("ab", "c")


def test_two_ledgers_hash_the_same_recipient_differently(tmp_path: Path) -> None:
    one, other = (ledger_workers.open_ledger(f"sqlite:///{tmp_path}/{name}.db") for name in "ab")
    assert one.identity.digest("send", "ada@example.com") != other.identity.digest("send", "ada@example.com")


def test_identity_does_not_show_its_hash_key(opened: Ledger) -> None:
    assert opened.identity.hash_key.hex() not in repr(opened.identity)
    assert "hash_key" not in repr(opened.identity)


def test_it_makes_only_tables_of_its_own_name(opened: Ledger) -> None:
    names = inspect(opened._database.engine).get_table_names()
    assert names
    assert all(name.startswith("sendoso_") for name in names)


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(opened: Ledger, url: str) -> None:
    newer = update(identity).values(schema_version=SCHEMA_VERSION + 1)
    opened._database.run(lambda connection: connection.execute(newer))
    with pytest.raises(SendosoConfigError, match=rf"schema version {SCHEMA_VERSION + 1}.*Upgrade the provider"):
        ledger_workers.open_ledger(url)


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
def test_other_databases_are_refused(dialect: str) -> None:
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


def test_a_postgresql_that_is_not_there(impatient: None, tmp_path: Path) -> None:
    url = f"postgresql://somebody:secret-password@/ledger?host={tmp_path}"
    with pytest.raises(SendosoLedgerError, match=r"ledger \(postgresql\).*retried once the database answers") as caught:
        ledger_workers.open_ledger(url)
    assert "secret-password" not in str(caught.value)


def test_a_directory_that_does_not_exist(impatient: None, tmp_path: Path) -> None:
    with pytest.raises(SendosoLedgerError, match="unable to open database file"):
        ledger_workers.open_ledger(f"sqlite:///{tmp_path}/nowhere/ledger.db")


def test_a_sqlite_file_that_may_only_be_read(at_once: Callable[..., list[Any]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="read-only-ledger-"))
    ledger_workers.open_ledger(f"sqlite:///{folder}/ledger.db")._database.engine.dispose()
    (folder / "ledger.db").chmod(0o444)
    folder.chmod(0o555)
    (said,) = at_once(ledger_workers.open_as_a_reader, [(f"sqlite:///{folder}/ledger.db",)])
    assert said.startswith("SendosoLedgerError: The ledger (sqlite)")
    assert "readonly" in said


def test_a_locked_sqlite_file(impatient: None, tmp_path: Path) -> None:
    ledger_workers.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SendosoLedgerError, match="database is locked"):
        ledger_workers.open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    other.execute("ROLLBACK")
    assert ledger_workers.open_ledger(f"sqlite:///{tmp_path}/ledger.db").identity


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
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
