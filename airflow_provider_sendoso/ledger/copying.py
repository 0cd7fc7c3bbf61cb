"""Moves a ledger to another store, with its identity; the old one is closed before the new one is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection, Engine

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import schema
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import COPYING, MOVED, db_now, identity, sends
from airflow_provider_sendoso.ledger.upgrades import make_missing

_AT_ONCE = 500

Row = dict[str, Any]
Say = Callable[[str], None]


class Move:
    """
    Moves a ledger. Stopped at any step, it is run again and goes on.

    :param source: the ledger's engine; nobody may be sending while it is moved.
    :param target: an empty database or bucket, or the one to which an earlier call was moving it.
    """

    def __init__(self, source: Engine, target: Engine) -> None:
        self._source, self._target = Database(source), Database(target)

    def run(self, say: Say) -> None:
        """
        Move it: close the old ledger, copy all rows, compare their numbers, and open the new one.

        :param say: shows a line.
        :raises SendosoConfigError: if there is no ledger, if the target has another one, or if a run is at work.
        :raises SendosoLedgerError: if one of the two does not answer; nothing is lost, and the call can be repeated.
        """
        found = self._source.run(_identity)
        if found is None:
            raise SendosoConfigError("There is no ledger to copy. Nothing was changed.")
        if found["schema_version"] not in (MOVED, *range(schema.SCHEMA_VERSION + 1)):
            raise SendosoConfigError("A newer release has written the ledger. Upgrade this one; nothing was changed.")
        self._target.run(make_missing)
        there = self._target.run(_identity)
        if there is not None and there["ledger_uuid"] != found["ledger_uuid"]:
            raise SendosoConfigError(
                f"The target has another ledger ({there['ledger_uuid']}): two ledgers cannot be made one. Copy into an "
                "empty database, or a prefix of its own. Nothing was changed."
            )
        if there is not None and there["schema_version"] != COPYING:
            say("The ledger has been copied before, and is in use there. Nothing was changed.")
            return
        self._source.run(_close)
        if there is None:
            self._target.run(lambda connection: _begin(connection, found))
        for table in schema.metadata.tables.values():
            if table is not identity:
                say(f"{table.name}: {self._copy(table)} rows")
        self._target.run(_open)
        say("The ledger is open in its new place, and closed in its old one. Let the connection lead there.")

    def _copy(self, table: Table) -> int:
        """Copy the rows of a table, in the order of its key; return how many there are."""
        key: list[Any] | None = None
        while rows := self._source.run(lambda connection, after=key: _rows_after(connection, table, after)):  # type: ignore[misc]
            self._target.run(lambda connection, those=rows: _put(connection, table, those))  # type: ignore[misc]
            key = [rows[-1][column.name] for column in table.primary_key]
        before, after = (
            base.run(lambda connection: _count(connection, table)) for base in (self._source, self._target)
        )
        if before != after:
            raise SendosoConfigError(
                f"{table.name} has {before} rows in the old ledger and {after} in the new one: something has written "
                "meanwhile. Stop what runs, and copy again. Nothing can be sent until then."
            )
        return after


def _identity(connection: Connection) -> Row | None:
    if not connection.dialect.has_table(connection, identity.name):
        return None
    row = connection.execute(select(identity)).first()
    return None if row is None else dict(row._mapping)


def _close(connection: Connection) -> None:
    """Close a ledger for every release, unless a run is at work in it."""
    busy = select(func.count()).where(
        sends.c.state.in_([State.CLAIMED.value, State.POSTING.value]), sends.c.lease_until > db_now()
    )
    if working := connection.execute(busy).scalar_one():
        raise SendosoConfigError(
            f"A run is at work: {working} sends are claimed or being posted. Pause the DAGs, wait until their tasks "
            "have ended, and copy then. Nothing was changed."
        )
    connection.execute(update(identity).values(schema_version=MOVED))


def _begin(connection: Connection, found: Row) -> None:
    connection.execute(insert(identity).values(**found | {"schema_version": COPYING}))


def _open(connection: Connection) -> None:
    connection.execute(
        update(identity).values(schema_version=schema.USABLE_SINCE, tables_version=schema.SCHEMA_VERSION)
    )


def _rows_after(connection: Connection, table: Table, key: Sequence[Any] | None) -> list[Row]:
    columns = list(table.primary_key)
    query = select(table).order_by(*columns).limit(_AT_ONCE)
    if key is not None:
        query = query.where(or_(*_later(columns, key)))
    return [dict(row._mapping) for row in connection.execute(query)]


def _later(columns: Sequence[Any], key: Sequence[Any]) -> Iterator[Any]:
    """Say that a key comes after another: column by column, as not every database compares lists."""
    for number, column in enumerate(columns):
        equal = [one == value for one, value in zip(columns[:number], key, strict=False)]
        yield and_(*equal, column > key[number])


def _put(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, in place of those that an earlier call has copied."""
    columns = list(table.primary_key)
    for row in rows:
        connection.execute(delete(table).where(*(column == row[column.name] for column in columns)))
    connection.execute(insert(table), list(rows))


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
