"""A table in the author's database with rows of batches: tested before the first send, rewritten after every try."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.elements import quoted_name

from airflow_provider_sendoso.exceptions import SendosoResultsError
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.sending.jobs import chunks
from airflow_provider_sendoso.warehouse.tables import (
    ROWS,
    Cells,
    Transaction,
    UnusableError,
    dialect_of,
    patiently,
    sql_name,
    words_of,
)

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

log = logging.getLogger(__name__)

RIGHTS = (
    "It takes the rights to SELECT, INSERT and DELETE there (for the sensor: SELECT and UPDATE), and to create the "
    "table where it is missing."
)


class BatchTable:
    """
    One table with rows of batches behind a hook; looks nothing up before it is used.

    :param hook: the hook of the author's connection.
    :param table: the table's name, as SQL of that database writes it.
    :raises SendosoConfigError: if the text is not the name of a table.
    """

    what: ClassVar[str]
    """What errors call the table; with ``_`` for blanks, the argument that names it."""
    column_names: ClassVar[tuple[str, ...]]
    later_columns: ClassVar[Mapping[str, str]] = {}
    """Columns that a table of an earlier release lacks, with their SQL types, in the order in which they were added;
    rows are written without them there."""

    def __init__(self, hook: DbApiHook, table: str) -> None:
        self._hook = hook
        self._table = table
        self._dialect = dialect_of(hook)
        self.name = sql_name(table, self._dialect, self.what.replace(" ", "_"))
        self._where = f"the {self.what} {table!r} (connection {hook.get_conn_id()!r})"
        self._batch_id = self._quote("batch_id")
        self._names = self.column_names

    def prepare(self, batch: Batch) -> None:
        """
        Create the table if it is missing, and test that rows can be written and deleted, without leaving any.

        :param batch: the batch whose rows will be written.
        :raises SendosoResultsError: if the table cannot be created or written.
        """
        try:
            patiently(self._prepare, batch)
        except Exception as error:
            # Only the database's words are quoted. The statement holds nothing personal, but a chained exception may.
            raise SendosoResultsError(
                f"{self._where[:1].upper()}{self._where[1:]} cannot be written: {words_of(error)}. {RIGHTS} "
                "Nothing was sent by this try."
            ) from None

    def rewrite(self, batch_id: str, rows: Callable[[], Iterable[Cells]], key: str | None = None) -> None:
        """
        Replace all rows of a batch, in one transaction.

        :param batch_id: the batch of the rows.
        :param rows: returns the new rows; called once for every attempt.
        :param key: a column: only rows with the same value in it are replaced.
        :raises SendosoResultsError: if the database refused the change.
        """
        try:
            patiently(self._rewrite, batch_id, rows, key)
        except Exception as error:
            raise SendosoResultsError(
                f"{self._where[:1].upper()}{self._where[1:]} could not be rewritten: {self._why(error)}. It is as it "
                "was before. What was sent is in the ledger and is not sent again; the next try rewrites the table."
            ) from None

    def _columns(self) -> list[Column[Any]]:
        """Define the table."""
        raise NotImplementedError

    def _samples(self, batch: Batch) -> list[Cells]:
        """Make test rows: one with the longest value in each column, and one with as many NULLs as possible."""
        raise NotImplementedError

    def _index(self, session: Transaction) -> None:
        """Create an index for the queries of this class, if the database has indexes."""

    def _why(self, error: Exception) -> str:
        """Describe why rows could not be written, without the values that must not be shown."""
        return words_of(error)

    def _prepare(self, batch: Batch) -> None:
        with closing(Transaction(self._hook)) as session:
            self._find_or_create(session)
            # The test rows have an id that no batch has, so that no other row is touched even without transactions.
            test = replace(batch, batch_id=f"test-{uuid.uuid4().hex[:27]}")
            samples = self._samples(test)
            session.execute(self._insert(len(samples)), self._cells(samples))
            session.execute(*self._delete(test.batch_id))
            session.rollback()

    def _find(self, session: Transaction) -> bool:
        """Return whether there is a table, with all columns or with those of an earlier release."""
        later = list(self.later_columns)
        for there in range(len(later), -1, -1):
            lacking = later[there:]
            names = tuple(name for name in self.column_names if name not in lacking)
            try:
                session.read(self._select(names))
            except Exception:
                session.rollback()
                continue
            if lacking:
                missing = "; ".join(
                    f"ALTER TABLE {self.name} ADD {self._quote(name)} {self.later_columns[name]}" for name in lacking
                )
                log.warning("%s has been made by an earlier release, and goes on without: %s", self._where, missing)
            self._names = names
            return True
        return False

    def _find_or_create(self, session: Transaction) -> None:
        if self._find(session):
            return
        created: Exception | None = None
        try:
            session.execute(str(CreateTable(self._definition()).compile(dialect=self._dialect)))
            session.commit()
        except Exception as error:
            created = error
            session.rollback()
        # The table may have been created by another task at the same moment. Its columns may differ from ours.
        try:
            session.read(self._select(self.column_names))
        except Exception as error:
            if created is None:
                raise
            raise UnusableError(
                f"it does not have the columns that it should ({words_of(error)}), and could not be created "
                f"({words_of(created)})"
            ) from None
        if created is None:
            self._index(session)

    def _rewrite(self, batch_id: str, rows: Callable[[], Iterable[Cells]], key: str | None) -> None:
        with closing(Transaction(self._hook)) as session:
            if key is None:
                session.execute(*self._delete(batch_id))
            for chunk in chunks(rows(), ROWS):
                if key is not None:
                    place = self.column_names.index(key)
                    session.execute(*self._delete(batch_id, key, [row[place] for row in chunk]))
                session.execute(self._insert(len(chunk)), self._cells(chunk))
            session.commit()

    def _definition(self) -> Table:
        # With transactions and all of Unicode, whatever the defaults of the MySQL server are.
        name = quoted_name(self.name, quote=False)
        return Table(name, MetaData(), *self._columns(), mysql_engine="InnoDB", mysql_charset="utf8mb4")

    def _insert(self, rows: int) -> str:
        row = f"({', '.join([self._hook.placeholder] * len(self._names))})"
        names = ", ".join(map(self._quote, self._names))
        return f"INSERT INTO {self.name} ({names}) VALUES {', '.join([row] * rows)}"  # noqa: S608

    def _select(self, names: Iterable[str]) -> str:
        # Names of ours, and one that was checked.
        return f"SELECT {', '.join(map(self._quote, names))} FROM {self.name} WHERE 1 = 0"  # noqa: S608

    def _cells(self, rows: Iterable[Cells]) -> Cells:
        places = [self.column_names.index(name) for name in self._names]
        return [row[place] for row in rows for place in places]

    def _delete(self, batch_id: str, key: str | None = None, values: Cells = ()) -> tuple[str, Cells]:
        statement = f"DELETE FROM {self.name} WHERE {self._batch_id} = {self._hook.placeholder}"  # noqa: S608
        if key is not None:
            statement += f" AND {self._quote(key)} IN ({', '.join([self._hook.placeholder] * len(values))})"
        return statement, [batch_id, *values]

    def _quote(self, column: str) -> str:
        return str(self._dialect.identifier_preparer.quote(column))
