"""Where the tests' ledgers are: a database of each server that many tests use, one after the other."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, Engine

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.schema import db_now, identity, metadata

LEDGER_KINDS = ("sqlite", "postgresql", "mysql", "bucket")
"""What a ledger can be on; the fixture ``empty_ledger`` makes one of each."""

_LAYOUT = {
    "postgresql": (
        "SELECT relname, relacl::text, relhastriggers, attname, attnotnull FROM pg_attribute"
        " JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relname LIKE 'sendoso_%' AND relkind IN ('r', 'i') AND attnum > 0 AND NOT attisdropped"
    ),
    "mysql": (
        "SELECT table_name, column_name, column_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name LIKE 'sendoso_%'"
        " UNION ALL SELECT table_name, column_name, index_name, '' FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() AND table_name LIKE 'sendoso_%'"
    ),
}
"""What a test may change of the tables, other than their rows."""


class CopiedFile:
    """
    A ledger in a SQLite file, of which each test has a copy: to make the tables takes ten times as long.

    :param path: where the file is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def empty_ledger(self, path: Path) -> None:
        """Make the file of a ledger that was opened once, with an identity of its own, and is empty."""
        if not self._path.exists():
            engine = create_engine(f"sqlite:///{self._path}")
            Ledger(engine)
            engine.dispose()
        shutil.copy(self._path, path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            new = (str(uuid.uuid4()), secrets.token_hex(32), time.time())
            connection.execute(f"UPDATE {identity.name} SET ledger_uuid = ?, hash_key = ?, created_at = ?", new)


class SharedDatabase:
    """
    A database whose ledger each test finds empty.

    To make the tables takes a server longer than most tests take. So they are made once and emptied for each test, and
    made anew only after a test that changed the tables themselves.

    :param make: makes an empty database, which has a ``url`` and a ``connection``.
    :param is_there: says whether the server of the last database still answers.
    """

    def __init__(self, make: Callable[[], Any], is_there: Callable[[], bool] = lambda: True) -> None:
        self._make, self._is_there = make, is_there
        self._database: Any = None
        self._engine: Engine
        self._layout: frozenset[Any] = frozenset()
        self._identity: dict[str, Any] = {}

    def without_tables(self) -> dict[str, Any]:
        """Return the Airflow connection of the database, as it is before any ledger was opened on it."""
        self._reach()
        metadata.drop_all(self._engine)
        self._layout = frozenset()
        connection: dict[str, Any] = self._database.connection
        return connection

    def empty_ledger(self) -> dict[str, Any]:
        """Return the Airflow connection of a ledger that was opened once, with an identity of its own, and is empty."""
        self._reach()
        with self._engine.begin() as connection:
            known = bool(self._layout) and self._read_layout(connection) == self._layout
            if known:
                self._delete_rows(connection)
        if not known:
            self._make_tables()
        connected: dict[str, Any] = self._database.connection
        return connected

    def close(self) -> None:
        """Close the connections; the database ends with its server."""
        if self._database is not None:
            self._engine.dispose()

    def _reach(self) -> None:
        if self._database is None or not self._is_there():
            self.close()
            self._database, self._layout = self._make(), frozenset()
            # A test may cut all connections to its database.
            self._engine = create_engine(self._database.url, pool_pre_ping=True)

    def _make_tables(self) -> None:
        metadata.drop_all(self._engine)
        engine = create_engine(self._database.url)
        Ledger(engine)
        engine.dispose()
        with self._engine.begin() as connection:
            self._layout = self._read_layout(connection)
            self._identity = dict(connection.execute(identity.select()).mappings().one())

    def _delete_rows(self, connection: Connection) -> None:
        for table in metadata.sorted_tables:
            connection.execute(table.delete())
        new = {"ledger_uuid": str(uuid.uuid4()), "hash_key": secrets.token_hex(32), "created_at": db_now()}
        connection.execute(identity.insert().values({**self._identity, **new}))

    def _read_layout(self, connection: Connection) -> frozenset[Any]:
        return frozenset(tuple(row) for row in connection.execute(text(_LAYOUT[connection.dialect.name])))
