"""The tables into which Sendoso's objects are loaded: creates, extends, compares and writes them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Column, MetaData, Numeric, String, Table
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.elements import quoted_name

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoResultsError
from airflow_provider_sendoso.landing.cells import Cell, read_moment
from airflow_provider_sendoso.landing.frontier import Landed
from airflow_provider_sendoso.landing.lists import HASH, LANDED_AT, OWN, Kind, ObjectList
from airflow_provider_sendoso.landing.rows import LONGEST_WORD, PART, Update
from airflow_provider_sendoso.landing.spool import LandingSpool, Written
from airflow_provider_sendoso.models import LONGEST_ID, SendStatus
from airflow_provider_sendoso.sending.jobs import chunks
from airflow_provider_sendoso.warehouse.tables import (
    MOMENT,
    ROWS,
    Transaction,
    UnusableError,
    dialect_of,
    patiently,
    sql_name,
    words_of,
)

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

_TEXT = String().with_variant(mysql.LONGTEXT(), "mysql").with_variant(mysql.LONGTEXT(), "mariadb")

_TYPES: Mapping[Kind, Any] = {
    Kind.ID: String(LONGEST_ID),
    Kind.TEXT: _TEXT,
    Kind.MOMENT: MOMENT,
    Kind.AMOUNT: Numeric(18, 4),
    Kind.COUNT: BigInteger(),
    Kind.TRUTH: Boolean(create_constraint=False),
    Kind.JSON: _TEXT,
}

_LONGEST_HASH = 80

_PARAMETERS = 2000
"""Parameters per statement: the lowest limit of the supported databases."""

STATUS_COLUMNS = ("send_id", "status", "status_word", "occurred_at")

_MAY_GO_ON = ("opened", "clicked", "insufficient funds", "suspicious email")
"""Status words of eGifts that count as delivered but may still be redeemed (inferred), and of sends on hold, which an
earlier release has landed as ``failed``."""

_RIGHTS = (
    "It takes the rights to SELECT, INSERT and DELETE there, to create the table where it is missing, and to ALTER it."
)


class LandingTable:
    """
    The table of a list and, for sends, the table of status updates; looks nothing up before it is used.

    :param hook: the hook of the author's connection.
    :param listed: the list.
    :param table: the table's name, as SQL of that database writes it.
    :param status_table: the name of the table of status updates.
    :raises SendosoConfigError: if a text is not the name of a table.
    """

    def __init__(self, hook: DbApiHook, listed: ObjectList, table: str, status_table: str | None = None) -> None:
        self._hook = hook
        self._listed = listed
        self._dialect = dialect_of(hook)
        self.name = sql_name(table, self._dialect, "table")
        self.status_name = status_table and sql_name(status_table, self._dialect, "status_table")
        self._where = f"the table {table!r} (connection {hook.get_conn_id()!r})"
        self._status_where = f"the table {status_table!r} (connection {hook.get_conn_id()!r})"
        self._reading: Transaction | None = None
        self._chunk: Sequence[Written] = ()
        self.columns: set[str] = set()
        """The table's columns, in lower case."""
        self.added: list[str] = []
        """The columns that were added to an existing table."""
        self.made = False
        """Whether a table was missing, so that no row counts as loaded."""
        self._has_rows = True

    # -- before anything is read from Sendoso --------------------------------------------------------------------

    def prepare(self, columns: Mapping[str, Kind]) -> None:
        """
        Create missing tables, and check that existing ones were created for this list.

        :param columns: the columns' types by name.
        :raises SendosoConfigError: if a table was created for something else.
        :raises SendosoResultsError: if the database refused a statement.
        """
        try:
            patiently(self._prepare, columns)
        except SendosoConfigError:
            raise
        except Exception as error:
            raise SendosoResultsError(
                f"{_capital(self._where)} cannot be used: {words_of(error)}. {_RIGHTS} Nothing was read or written."
            ) from None

    def _prepare(self, columns: Mapping[str, Kind]) -> None:
        with closing(Transaction(self._hook)) as session:
            if self.status_name:
                self._find_or_create(session, self.status_name, _status_columns(), STATUS_COLUMNS, self._status_where)
            there = [_column(name, kind) for name, kind in (*columns.items(), *OWN.items())]
            names = ("id", HASH, LANDED_AT)
            self.columns = self._find_or_create(session, self.name, there, names, self._where)
            self._has_rows = self._check_list(session)
            self._widen(session, columns)

    def _find_or_create(
        self, session: Transaction, name: str, columns: list[Column[Any]], needed: Sequence[str], where: str
    ) -> set[str]:
        found = self._columns_of(session, name)
        if found is None:
            created: Exception | None = None
            try:
                table = Table(
                    quoted_name(name, quote=False), MetaData(), *columns, mysql_engine="InnoDB", mysql_charset="utf8mb4"
                )
                session.execute(str(CreateTable(table).compile(dialect=self._dialect)))
                session.commit()
            except Exception as error:
                created = error
                session.rollback()
            # The table may have been created by another task at the same moment.
            found = self._columns_of(session, name)
            if found is None:
                raise created or UnusableError("it was created, and is not there")
            self.made = True
        if missing := [column for column in needed if column not in found]:
            raise SendosoConfigError(
                f"{_capital(where)} has no column {', '.join(missing)}: it was not made for this, and nothing is "
                "written to other tables. Give the name of one that is not there yet, or drop it. Nothing was read or "
                "written."
            )
        return found

    def _columns_of(self, session: Transaction, name: str) -> set[str] | None:
        try:
            return {column.lower() for column in session.columns(name)}
        except Exception:
            session.rollback()
            return None

    def _check_list(self, session: Transaction) -> bool:
        """Refuse to mix two lists, because rows with equal ids would replace each other."""
        column = self._quote(HASH)
        ((least, most),) = session.read(f"SELECT MIN({column}), MAX({column}) FROM {self.name}")  # noqa: S608
        session.rollback()
        names = {str(text).partition(":")[0].removesuffix(PART) for text in (least, most) if text is not None}
        others = names - {self._listed.name}
        if others:
            raise SendosoConfigError(
                f"{_capital(self._where)} holds {', '.join(sorted(others))}; {self._listed.name} needs a table of its "
                "own. Nothing was read or written."
            )
        return least is not None

    def widen(self, columns: Mapping[str, Kind]) -> None:
        """
        Add the columns that the table does not have.

        :param columns: the columns' types by name.
        :raises SendosoResultsError: if the database refused a statement.
        """
        if columns.keys() <= self.columns:
            return
        try:
            with closing(Transaction(self._hook)) as session:
                self._widen(session, columns)
        except Exception as error:
            raise SendosoResultsError(
                f"{_capital(self._where)} could not be given another column: {words_of(error)}. {_RIGHTS} No row of "
                "it was changed."
            ) from None

    def _widen(self, session: Transaction, columns: Mapping[str, Kind]) -> None:
        for name in [name for name in columns if name not in self.columns]:
            kind = _TYPES[columns[name]].compile(dialect=self._dialect)
            try:
                session.execute(f"ALTER TABLE {self.name} ADD COLUMN {self._quote(name)} {kind}")
                session.commit()
            except Exception:
                session.rollback()
                # Another task may have added the column meanwhile.
                if name not in (self._columns_of(session, self.name) or ()):
                    raise
            self.columns.add(name)
            self.added.append(name)

    # -- what is there -------------------------------------------------------------------------------------------

    def landed(self) -> Landed:
        """
        Return which sends the table holds.

        :raises SendosoResultsError: if the query failed.
        """
        made, status, word = map(self._quote, ("created_at", "status", "status_word"))
        value = self._hook.placeholder
        terminal = [status.value for status in SendStatus if status.terminal]
        newest = f"SELECT MAX({made}) FROM {self.name}"  # noqa: S608
        still_open = (
            f"SELECT MIN({made}), COUNT(*), COUNT({made}) FROM {self.name} "  # noqa: S608
            f"WHERE {status} IS NULL OR {status} NOT IN ({', '.join([value] * len(terminal))}) "
            f"OR LOWER({word}) IN ({', '.join([value] * len(_MAY_GO_ON))})"
        )
        ((newest_made,),) = self._read(newest)
        ((oldest_open, count, dated),) = self._read(still_open, [*terminal, *_MAY_GO_ON])
        try:
            return Landed(read_moment(newest_made), read_moment(oldest_open), count != dated)
        except (TypeError, ValueError):
            return Landed()  # a created_at of another type cannot be used, so the whole list is read

    def hashes(self, ids: Sequence[str]) -> dict[str, str]:
        """
        Return the hashes of the given rows that the table holds.

        :param ids: the rows' ids.
        :raises SendosoResultsError: if the query failed.
        """
        if not (self._has_rows and ids):
            return {}
        row_id, column = map(self._quote, ("id", HASH))
        values = ", ".join([self._hook.placeholder] * len(ids))
        query = f"SELECT {row_id}, {column} FROM {self.name} WHERE {row_id} IN ({values})"  # noqa: S608
        # A new status table must also get the updates of unchanged rows.
        return {str(found): "" if self.made else str(text) for found, text in self._read(query, ids)}

    def _read(self, query: str, values: Sequence[str] = ()) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []

        def ask() -> None:
            # One connection for a whole list; it is opened again if it was lost in the pauses between pages.
            if self._reading is None:
                self._reading = Transaction(self._hook)
            try:
                found[:] = self._reading.read(query, values)
                self._reading.rollback()
            except Exception:
                self.close()
                raise

        try:
            patiently(ask)
        except Exception as error:
            raise SendosoResultsError(
                f"{_capital(self._where)} could not be read: {words_of(error)}. {_RIGHTS} Nothing of this run was "
                "written."
            ) from None
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, spool: LandingSpool, columns: Sequence[str], landed_at: str) -> int:
        """
        Replace the rows with the same ids, in one transaction.

        :param spool: the rows.
        :param columns: the columns to write.
        :param landed_at: the time of writing, as SQL text.
        :return: the number of these rows' status updates in the status table.
        :raises SendosoResultsError: if the database refused a statement; then the tables are unchanged.
        """
        self.close()
        names = [*columns, HASH, LANDED_AT]
        counted = [0]

        def write() -> None:
            counted[0] = self._write(spool, names, landed_at)

        try:
            patiently(write)
        except Exception as error:
            raise SendosoResultsError(
                f"{_capital(self._where)} could not be written: {self._why(error, columns)}. It is as it was before; "
                "the next try reads and writes it all again."
            ) from None
        return counted[0]

    def _write(self, spool: LandingSpool, names: Sequence[str], landed_at: str) -> int:
        updates = 0
        with closing(Transaction(self._hook)) as session:
            for chunk in chunks(spool.rows(), _rows_at_once(names)):
                self._chunk = chunk
                session.execute(*self._delete(self.name, "id", [row.id for row in chunk]))
                cells = [row.cells | {LANDED_AT: landed_at} for row in chunk]
                session.execute(
                    self._insert(self.name, names, len(chunk)), [row.get(name) for row in cells for name in names]
                )
                if self.status_name:
                    updates += self._write_updates(session, self.status_name, chunk)
            session.commit()
        return updates

    def _write_updates(self, session: Transaction, table: str, chunk: Sequence[Written]) -> int:
        told = [row for row in chunk if row.updates is not None]
        if told:
            session.execute(*self._delete(table, "send_id", [row.id for row in told]))
        count = 0
        for updates in chunks((update for row in told for update in _each_once(row.updates or ())), ROWS):
            insert = self._insert(table, STATUS_COLUMNS, len(updates))
            session.execute(insert, [cell for update in updates for cell in update])
            count += len(updates)
        return count

    def _insert(self, table: str, names: Sequence[str], rows: int) -> str:
        row = f"({', '.join([self._hook.placeholder] * len(names))})"
        quoted = ", ".join(map(self._quote, names))
        return f"INSERT INTO {table} ({quoted}) VALUES {', '.join([row] * rows)}"  # noqa: S608

    def _delete(self, table: str, column: str, ids: Sequence[str]) -> tuple[str, Sequence[str]]:
        values = ", ".join([self._hook.placeholder] * len(ids))
        return f"DELETE FROM {table} WHERE {self._quote(column)} IN ({values})", ids  # noqa: S608

    def _why(self, error: Exception, columns: Sequence[str]) -> str:
        """Describe why rows could not be written, without their values, which databases quote in errors."""
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & {"OperationalError", "InterfaceError", "OSError"}:
            return _without_values(words_of(error), self._chunk)
        culprit = self._culprit(columns)
        column = f"its column {culprit!r} does not take what Sendoso has for it" if culprit else "it takes no such rows"
        return f"{column} ({type(error).__name__})"

    def _culprit(self, columns: Sequence[str]) -> str | None:
        """Find the column that refuses a value, by writing each column alone."""
        with suppress(Exception), closing(Transaction(self._hook)) as session:
            for name in columns:
                values = [row.cells[name] for row in self._chunk if row.cells.get(name) is not None]
                if values and name != "id" and not self._takes(session, name, values):
                    return name
        return None

    def _takes(self, session: Transaction, name: str, values: Sequence[Cell]) -> bool:
        # The test rows have ids that no row has, so that no row is touched even without transactions.
        ids = [f"test-{uuid.uuid4().hex}" for _ in values]
        try:
            pairs = [cell for pair in zip(ids, values, strict=True) for cell in pair]
            session.execute(self._insert(self.name, ("id", name), len(ids)), pairs)
            session.execute(*self._delete(self.name, "id", ids))
        except Exception as error:
            return any(kind.__name__ in ("IntegrityError", "OperationalError") for kind in type(error).__mro__)
        finally:
            session.rollback()
        return True

    def _quote(self, column: str) -> str:
        return str(self._dialect.identifier_preparer.quote(column))


def _column(name: str, kind: Kind) -> Column[Any]:
    if name == HASH:
        return Column(name, String(_LONGEST_HASH))
    return Column(name, _TYPES[kind], primary_key=name == "id", autoincrement=False)


def _status_columns() -> list[Column[Any]]:
    return [
        Column("send_id", String(LONGEST_ID), primary_key=True),
        Column("status", String(16), nullable=False),
        Column("status_word", String(LONGEST_WORD), primary_key=True),
        Column("occurred_at", MOMENT, primary_key=True),
    ]


def _rows_at_once(names: Sequence[str]) -> int:
    return max(1, min(ROWS, _PARAMETERS // len(names)))


def _each_once(updates: Iterable[Update]) -> list[Update]:
    """Drop updates whose keys differ only in case, which some databases treat as equal; the first one is kept."""
    return list({(update[2].casefold(), update[3]): update for update in reversed(list(updates))}.values())[::-1]


def _without_values(words: str, rows: Sequence[Written]) -> str:
    values = {str(cell) for row in rows for cell in row.cells.values() if isinstance(cell, str) and len(cell) > 2}
    for value in sorted(values, key=len, reverse=True):
        words = words.replace(value, "…")
    return words


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
