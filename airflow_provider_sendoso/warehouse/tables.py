"""Tables in the author's database: their names, timestamps, and transactions through any DB-API hook."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import TIMESTAMP
from sqlalchemy.dialects import mysql, registry
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import NoSuchModuleError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from airflow_provider_sendoso.exceptions import SendosoConfigError

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

Cells = Sequence[str | int | None]
"""A row of a table; timestamps and amounts are text, which every database converts into its own types."""

ROWS = 100
"""Rows per statement: few round trips, and within the number of parameters that databases allow."""

MOMENT = TIMESTAMP().with_variant(mysql.DATETIME(fsp=3), "mysql")  # MySQL's TIMESTAMP ends in 2038 and converts time
# zones

_ATTEMPTS = 3
_wait = wait_random(1, 3)  # seconds

_PART = r'(?:[^\W\d][\w$]*|"[\w $#@-]+")'
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")


def sql_name(table: str, dialect: Dialect, argument: str = "results_table") -> str:
    """
    Quote a table's name for SQL; refuse any text that is not a name.

    A plain name stays as it is, so that it means the same as in the author's queries. A name in double quotes is quoted
    in the database's own way.

    :param table: with or without schema and database, like ``gifts.sendoso_results`` or ``"Gift Results"``.
    :param dialect: the database's dialect.
    :param argument: the argument that holds the name, for the error.
    :raises SendosoConfigError: if the text is not a name.
    """
    if not _NAME.fullmatch(table):
        raise SendosoConfigError(
            f"{argument} is {table!r}; use a table's name, like sendoso_results or gifts.sendoso_results, with "
            "double quotes around a part that is no plain name. Nothing was sent."
        )
    quote = dialect.identifier_preparer.quote_identifier
    return re.sub(r'"([^"]*)"', lambda part: quote(part[1]), table)


def moment(epoch: float | None) -> str | None:
    """
    Format a timestamp for SQL, in UTC.

    :param epoch: seconds since 1970.
    """
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def dialect_of(hook: DbApiHook) -> Dialect:
    """
    Return SQLAlchemy's dialect of a database, which writes names and types; no connection is opened.

    :param hook: the hook of the author's connection.
    """
    try:
        loaded: Dialect = registry.load(hook.dialect_name)()
    except NoSuchModuleError:
        return DefaultDialect()
    return loaded


class UnusableError(Exception):
    """The table cannot be used; the message is the whole reason."""


def words_of(error: Exception) -> str:
    """
    Quote a database's error: its class and its first line.

    It must not be used for a statement with personal values, because some databases repeat the values.

    :param error: the driver's error.
    """
    if isinstance(error, UnusableError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def patiently(work: Callable[..., None], *arguments: Any) -> None:
    """
    Retry a transaction after any error, because each database reports deadlocks and lost connections differently.

    :param work: runs a whole transaction.
    :param arguments: the arguments of ``work``.
    """
    retrying = Retrying(
        retry=retry_if_exception(_may_pass), stop=stop_after_attempt(_ATTEMPTS), wait=_wait, reraise=True
    )
    retrying(work, *arguments)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(error, SendosoConfigError)


class Transaction:
    """
    A connection whose statements are one transaction until they are committed or rolled back.

    :param hook: opens the connection.
    """

    def __init__(self, hook: DbApiHook) -> None:
        self._is_mysql = hook.dialect_name == "mysql"
        self._connection: Any = hook.get_conn()
        if hook.supports_autocommit:
            hook.set_autocommit(self._connection, False)
        self._cursor: Any = self._connection.cursor()
        # A DuckDB cursor is a connection of its own, whose transactions have to be begun explicitly.
        self._by_hand = hasattr(self._cursor, "begin")
        self._transaction = self._cursor if self._by_hand else self._connection
        self._begun = False

    def execute(self, statement: str, values: Cells = ()) -> None:
        """
        Run a statement.

        :param statement: SQL with the hook's placeholders.
        :param values: the values for the placeholders.
        """
        if not self._begun:
            self._begun = True
            if self._by_hand:
                self._cursor.begin()
            if self._is_mysql:
                # Otherwise a delete of missing rows locks the gap, and two mapped tasks that insert into it deadlock.
                self._cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if values:
            self._cursor.execute(statement, tuple(values))
        else:
            self._cursor.execute(statement)

    def read(self, query: str, values: Cells = ()) -> list[Sequence[Any]]:
        """
        Run a query and return its rows, all at once.

        :param query: SQL with the hook's placeholders.
        :param values: the values for the placeholders.
        """
        self.execute(query, values)
        # A connection may be set to dict cursors.
        return [list(row.values()) if isinstance(row, Mapping) else row for row in self._cursor.fetchall()]

    def columns(self, table: str) -> list[str]:
        """
        Return the names of a table's columns.

        :param table: the table's name, as SQL writes it.
        """
        self.read(f"SELECT * FROM {table} WHERE 1 = 0")  # noqa: S608  # a name that was checked
        names = [column[0] for column in self._cursor.description]
        return [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names]

    def commit(self) -> None:
        """End the transaction, if there is one."""
        if self._begun:
            self._transaction.commit()
            self._begun = False

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        # If the connection is lost, the transaction is too; the original error is the one to report.
        if self._begun:
            with suppress(Exception):
                self._transaction.rollback()
            self._begun = False

    def close(self) -> None:
        """Roll back what was not committed, and close the connection."""
        self.rollback()
        for closable in (self._cursor, self._connection):
            with suppress(Exception):
                closable.close()
