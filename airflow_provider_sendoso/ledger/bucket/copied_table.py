"""One table of the ledger as it goes to the log and comes from it: rows by primary key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import cache

from sqlalchemy import Table

from airflow_provider_sendoso.ledger.bucket.log import Changes


class CopiedTable:
    """
    Reads what has changed in a table, and changes it as an entry says.

    Rows are copied whole, and not the statements that changed them, so that the copies do not depend on what each
    SQLite makes of a statement.

    :param table: the table.
    """

    def __init__(self, table: Table) -> None:
        self._name = table.name
        self._columns = [column.name for column in table.columns]
        self._key = [column.name for column in table.primary_key]
        self._unique = sorted(
            {column.name for index in table.indexes if index.unique for column in index.columns if column.nullable}
        )
        self._where = " AND ".join(f"{name} = ?" for name in self._key)
        self._select = f"SELECT {', '.join(self._columns)} FROM {self._name} WHERE {self._where}"
        self._delete = f"DELETE FROM {self._name} WHERE {self._where}"
        self._upsert = cache(self._make_upsert)

    def watch(self, connection: sqlite3.Connection, changed: str) -> None:
        """
        Have SQLite note the key of each row that is inserted, updated or deleted.

        :param connection: where the table is.
        :param changed: the table of what has changed, with columns ``name`` and ``key``.
        """
        for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            key = f"json_array({', '.join(f'{row}.{name}' for name in self._key)})"
            # Not INSERT OR IGNORE: in a trigger, what the statement outside says about conflicts would apply.
            connection.execute(
                f"CREATE TEMP TRIGGER {changed}_{self._name}_{event} AFTER {event} ON main.{self._name} BEGIN "
                f"INSERT INTO {changed} SELECT '{self._name}', {key} "
                f"WHERE NOT EXISTS (SELECT 1 FROM {changed} WHERE name = '{self._name}' AND key = {key}); END"
            )

    def changes(self, connection: sqlite3.Connection, keys: Sequence[str]) -> Changes:
        """
        Read the rows that have changed.

        :param connection: of the transaction that has changed them.
        :param keys: their primary keys, as JSON.
        """
        rows, deleted = [], []
        for key in map(json.loads, keys):
            row = connection.execute(self._select, key).fetchone()
            if row is None:
                deleted.append(key)
            else:
                rows.append(list(row))
        return Changes(self._columns, rows, deleted)

    def apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """
        Change the table as another process has done.

        Columns that only a newer release writes stay as they are where the writer does not know them, and are left out
        where this process does not know them.

        :param connection: of a transaction.
        :param changes: of an entry of the log.
        """
        connection.executemany(self._delete, changes.deleted)
        known = [number for number, name in enumerate(changes.columns) if name in self._columns]
        names = tuple(changes.columns[number] for number in known)
        key = [changes.columns.index(name) for name in self._key]
        for name in self._unique:
            # Two rows may have exchanged their values, which no order of single updates could do.
            connection.executemany(
                f"UPDATE {self._name} SET {name} = NULL WHERE {self._where}",
                ([row[number] for number in key] for row in changes.rows),
            )
        connection.executemany(self._upsert(names), ([row[number] for number in known] for row in changes.rows))

    def _make_upsert(self, names: tuple[str, ...]) -> str:
        updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in self._key)
        return (
            f"INSERT INTO {self._name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT ({', '.join(self._key)}) DO " + (f"UPDATE SET {updates}" if updates else "NOTHING")
        )
