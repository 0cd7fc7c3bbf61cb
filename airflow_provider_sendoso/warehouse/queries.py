"""Reads a query's columns and rows, and hides the differences between database drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoConfigError

_ROWS_AT_ONCE = 1000

_MORE_THAN_ONE = "sql returned more than one result; it must be one query. Nothing was sent."


def read_query(
    hook: Any,
    sql: str,
    parameters: Any,
    read: Callable[[Any], None],
    report: Callable[[Any, str, Any], Any] = lambda hook, sql, cursor: None,
) -> None:
    """
    Run a query and pass its cursor to a reader.

    The hook's own ``run`` is used, except on PostgreSQL. The default cursor of its drivers loads all rows into memory
    (220 MiB for a million), so a named cursor is used, which leaves the rows in PostgreSQL.

    :param hook: a ``DbApiHook``.
    :param sql: the query.
    :param parameters: the query's parameters, or ``None``.
    :param read: reads the cursor to its end.
    :param report: called with hook, query and cursor if the hook, which reports the queries that it runs, did not run
        it.
    """
    postgres = getattr(hook, "conn_type", None) == "postgres"
    if not postgres or not _read_through_named_cursor(hook, sql, parameters, read, report):
        hook.run(sql, parameters=parameters, handler=read)


def _read_through_named_cursor(
    hook: Any, sql: str, parameters: Any, read: Callable[[Any], None], report: Callable[[Any, str, Any], Any]
) -> bool:
    with closing(hook.get_conn()) as connection:
        driver = type(connection).__module__.partition(".")[0]
        if driver not in ("psycopg", "psycopg2"):
            return False
        if driver == "psycopg2" and len(hook.split_sql_string(sql)) > 1:
            # A named cursor would read the rows of one query and silently drop the other's.
            raise SendosoConfigError(_MORE_THAN_ONE)
        with connection.cursor(name="sendoso_rows") as cursor:
            try:
                cursor.execute(sql, parameters)
                if driver == "psycopg2":
                    cursor.fetchmany(0)  # a named cursor knows its columns only after the first fetch
            except Exception:
                # Only a plain query can have a named cursor; a wrong query fails again through the hook, with its own
                # error.
                return False
            read(cursor)
            report(hook, sql, cursor)
        connection.commit()  # as the hook does, because the query may call a function that writes
    return True


def columns_of(cursor: Any) -> list[str]:
    """
    Read the columns' names.

    :param cursor: a DB-API cursor, after its query.
    :raises SendosoConfigError: if the statement returned no columns; BigQuery's cursor then has an empty list.
    """
    if not cursor.description:
        raise SendosoConfigError("sql returned no columns; it must be a query. Nothing was sent.")
    # A description is a tuple or can be indexed like one; some drivers of Redshift name columns in bytes.
    names = [column[0] for column in cursor.description]
    return [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names]


def rows_of(cursor: Any) -> Iterator[Sequence[Any]]:
    """
    Read the rows, a thousand at a time, each in the order of the columns.

    :param cursor: a DB-API cursor, after its query.
    :raises SendosoConfigError: if more results follow, as after two queries in one text: their rows would be lost.
    """
    names = [column[0] for column in cursor.description]
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        # A connection may be set to dict cursors.
        yield from [[row[name] for name in names] for row in rows] if isinstance(rows[0], Mapping) else rows
    if _more_results(cursor):
        raise SendosoConfigError(_MORE_THAN_ONE)


def _more_results(cursor: Any) -> bool:
    # ``nextset`` is optional in the DB-API: drivers without it have no such method, or one that raises. A result
    # without columns is the status of a stored procedure.
    try:
        return bool(cursor.nextset()) and bool(cursor.description)
    except Exception:
        return False
