"""The settings of each connection or transaction of a ledger: how long to wait for a lock, and that a commit lasts."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger.bucket.dialect import replica_of

BUSY_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 5_000
IDLE_TIMEOUT_MS = 15_000


def prepare(engine: Engine) -> None:
    """
    Set up the engine's connections and transactions as a ledger needs them.

    :param engine: PostgreSQL, MySQL, MariaDB or SQLite.
    :raises SendosoConfigError: for any other database, and for a SQLite one that would not outlive the process.
    """
    dialect = engine.dialect.name
    if replica_of(engine) is not None:
        return  # its maker has done it
    if dialect not in _PREPARE:
        raise SendosoConfigError(
            f"The ledger's database is {dialect}; use PostgreSQL, MySQL, or SQLite for a single machine."
        )
    _PREPARE[dialect](engine)


def _prepare_sqlite(engine: Engine) -> None:
    path = Path(engine.url.database or "")
    # Airflow reads sqlite:///ledger.db as a file in the root directory, which nobody intends.
    if not path.is_absolute() or path.parent == Path(path.anchor):
        raise SendosoConfigError(
            "The ledger's SQLite database must be a file with an absolute path, like sqlite:////var/lib/sendoso.db: "
            "anything else is forgotten, and with it who was sent a gift."
        )
    _make_private(path)

    def on_connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions begin with the BEGIN below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", on_connect)
    # Takes the write lock at once, because SQLite does not wait when a reading transaction starts to write.
    _begin_with(engine, "BEGIN IMMEDIATE")


def _begin_with(engine: Engine, sql: str) -> None:
    """Begin each transaction with these statements; as an event of SQLAlchemy they would take three times as long."""

    def begin(dbapi_connection: Any) -> None:
        with closing(dbapi_connection.cursor()) as cursor:
            cursor.execute(sql)

    engine.dialect.do_begin = begin  # type: ignore[method-assign]


def _make_private(path: Path) -> None:
    """Create the file readable by its owner only, because it holds the hash key; an existing file keeps its mode."""
    try:
        if not path.exists():  # closing an existing file would release this process's locks on it
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):  # SQLite gives the others the first's mode
            if file.exists():
                mode = stat.S_IMODE(file.stat().st_mode)
                file.chmod(mode & (0o660 if mode & 0o020 else 0o600))
    except OSError:
        pass  # no right to the file, or no directory: SQLite reports what is wrong


def _prepare_postgresql(engine: Engine) -> None:
    # Set in each transaction, because a pooler like PgBouncer may give each transaction another session: which commits
    # it sees, how long it waits for a row, and how long a frozen process may hold one. A commit that the server loses
    # when one of its processes is killed can become a gift sent twice; a stricter setting stays.
    asked = "current_setting('synchronous_commit')"
    durable = f"CASE {asked} WHEN 'off' THEN 'on' ELSE {asked} END"
    settings = (
        f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true),"
        f" set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT_MS}', true),"
        f" set_config('synchronous_commit', {durable}, true)"
    )
    own_begin = engine.dialect.driver == "psycopg"
    # In autocommit, psycopg 3 leaves BEGIN to this code, which sends it with the settings in one round trip. psycopg2
    # cannot commit in autocommit.
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED" if own_begin else "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

    def on_connect(connection: Any, record: Any) -> None:
        connection.autocommit = own_begin

    event.listen(engine, "connect", on_connect)
    _begin_with(engine, f"{begin}; {settings}")


def _prepare_mysql(engine: Engine) -> None:
    def on_connect(connection: Any, record: Any) -> None:
        with closing(connection.cursor()) as cursor:
            # As on PostgreSQL: each statement sees what was committed before it.
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            # A value that does not fit is an error; UTC has no hour that comes twice; a statement does not commit by
            # itself.
            cursor.execute(
                "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), time_zone = '+00:00', autocommit = 0"
            )
            # As on PostgreSQL, except that MySQL ends every idle connection, whether it is in a transaction or not.
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT_MS // 1000}")
            cursor.execute(f"SET SESSION wait_timeout = {IDLE_TIMEOUT_MS // 1000}")
        connection.commit()

    event.listen(engine, "connect", on_connect)


_PREPARE = {"sqlite": _prepare_sqlite, "postgresql": _prepare_postgresql, "mysql": _prepare_mysql}
