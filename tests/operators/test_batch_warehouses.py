"""BatchSendOperator on warehouses that the tests cannot run: other databases imitate their results.

What is imitated was read in the hooks' and drivers' own code; docs/rows.md says of each what was tried, and how.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import pytest
from airflow.providers.common.compat.sdk import Connection
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoRowsError
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox

Make = Callable[..., BatchSendOperator]
Execute = Callable[..., Any]

PEOPLE = """
    SELECT * FROM (VALUES
        (1::DECIMAL(38, 0), 'Ada', 'Lovelace', 'ada@example.com', DATE '1815-12-10', 1.50::DECIMAL(9, 2),
         '00000000-0000-0000-0000-000000000001'::UUID, ['a', 'b'], {'a': 1}, '\\x00'::BLOB),
        (2, NULL, 'Nobody', 'nobody@example.com', NULL, NULL, NULL, NULL, NULL, NULL)
    ) AS people(customer_id, first_name, last_name, email, born, points, id, tags, profile, picture)
    ORDER BY 1
"""


class Cursor:
    """A cursor of DuckDB's; what a driver does differently stands in the classes below."""

    def __init__(self, connection: Any) -> None:
        self._cursor = connection.cursor()

    def execute(self, sql: str, parameters: Any = None) -> None:
        self._cursor.execute(sql, parameters)

    @property
    def description(self) -> Any:
        return self._cursor.description

    def fetchmany(self, size: int) -> list[Any]:
        return self._cursor.fetchmany(size)

    def close(self) -> None:
        self._cursor.close()


class Imitation(DbApiHook):
    """A user's own hook over the package duckdb."""

    conn_name_attr = "conn_id"
    supports_autocommit = False
    cursor_class: type[Cursor] = Cursor

    def get_conn(self) -> Any:
        connection, cursor_class = duckdb.connect(), self.cursor_class

        class Connected:
            def cursor(self) -> Cursor:
                return cursor_class(connection)

            def commit(self) -> None:
                pass

            def close(self) -> None:
                connection.close()

        return Connected()


# -- Snowflake: names in upper case, a description of named tuples, dict rows for those who set them -------------------


class ResultMetadata(NamedTuple):
    name: str
    type_code: int


class SnowflakeCursor(Cursor):
    @property
    def description(self) -> Any:
        return [ResultMetadata(column[0].upper(), 0) for column in super().description]

    def nextset(self) -> None:
        return None


class SnowflakeDictCursor(SnowflakeCursor):
    def fetchmany(self, size: int) -> list[Any]:
        names = [column.name for column in self.description]
        return [dict(reversed(list(zip(names, row, strict=True)))) for row in super().fetchmany(size)]


class SnowflakeHook(Imitation):
    cursor_class = SnowflakeCursor

    def run(self, sql: Any, *arguments: Any, **named: Any) -> Any:
        """Split a text into statements, as Snowflake's and Databricks' do without being asked."""
        return super().run(sql, *arguments, **({"split_statements": True} | named))


class SnowflakeDictHook(SnowflakeHook):
    cursor_class = SnowflakeDictCursor


# -- BigQuery: legacy SQL by default, rows as lists, no rows for DML, no transactions, no insert_rows ------------------


class BigQueryCursor(Cursor):
    @property
    def description(self) -> Any:
        return [(name, "STRING", None, None, None, None, True) for name, *_ in super().description or []]

    def fetchmany(self, size: int) -> list[Any]:
        return [list(row) for row in super().fetchmany(size)]


class BigQueryStatementCursor(BigQueryCursor):
    description: Any = []  # noqa: RUF012  # what it has after DML


class BigQueryHook(Imitation):
    cursor_class = BigQueryCursor

    def __init__(self, *, use_legacy_sql: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_legacy_sql = use_legacy_sql

    def get_conn(self) -> Any:
        if self.use_legacy_sql:
            raise ValueError('400 Invalid table name: "people"')
        return super().get_conn()

    def insert_rows(self, *arguments: Any, **named: Any) -> None:
        raise NotImplementedError


class BigQueryStatementHook(BigQueryHook):
    cursor_class = BigQueryStatementCursor


# -- Databricks, and any driver whose rows are objects: they can be indexed, and refuse a result that is not rows ------


class Row:
    def __init__(self, cells: tuple[Any, ...]) -> None:
        self._cells = cells

    def __getitem__(self, index: int) -> Any:
        return self._cells[index]


class DatabricksCursor(Cursor):
    def fetchmany(self, size: int) -> list[Any]:
        return [Row(row) for row in super().fetchmany(size)]

    def nextset(self) -> None:
        raise NotImplementedError  # as psycopg2 does


class DatabricksHook(Imitation):
    cursor_class = DatabricksCursor

    def _make_common_data_structure(self, result: Any) -> Any:
        if result is not None:
            raise TypeError(f"Expected Sequence[Row] or Row, but got {type(result)}")


# -- Redshift: some drivers name columns in bytes ----------------------------------------------------------------------


class RedshiftCursor(Cursor):
    @property
    def description(self) -> Any:
        return [(column[0].encode(), *column[1:]) for column in super().description]


class RedshiftHook(Imitation):
    cursor_class = RedshiftCursor


# -- drivers that hand out one result after the other ------------------------------------------------------------------


class TwoResultsCursor(Cursor):
    def nextset(self) -> bool:
        return True


class ProcedureCursor(TwoResultsCursor):
    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._rows_over = False

    def nextset(self) -> bool:
        self._rows_over = True
        return True

    @property
    def description(self) -> Any:
        return None if self._rows_over else super().description


class TwoResultsHook(Imitation):
    cursor_class = TwoResultsCursor


class ProcedureHook(Imitation):
    cursor_class = ProcedureCursor


# -- a connection that is lost in the middle ---------------------------------------------------------------------------


class DyingCursor(Cursor):
    def fetchmany(self, size: int) -> list[Any]:
        if rows := super().fetchmany(size // 2):
            return rows
        raise ConnectionResetError("the warehouse has gone")


class DyingHook(Imitation):
    cursor_class = DyingCursor


HOOKS = [Imitation, SnowflakeHook, SnowflakeDictHook, BigQueryHook, DatabricksHook, RedshiftHook, ProcedureHook]
GOOGLE_SQL = {"use_legacy_sql": False}


@pytest.fixture
def warehouse(
    monkeypatch: pytest.MonkeyPatch, set_connection: Callable[..., None]
) -> Iterator[Callable[[type[DbApiHook]], dict[str, Any]]]:
    """Makes a hook that of ``warehouse``; returns the arguments that a batch needs for it."""
    set_connection("warehouse", {"conn_type": "generic"})
    usual = Connection.get_hook

    def use(hook_class: type[DbApiHook]) -> dict[str, Any]:
        def get_hook(connection: Connection, *, hook_params: Any = None) -> Any:
            if connection.conn_id != "warehouse":
                return usual(connection, hook_params=hook_params)
            return hook_class(conn_id="warehouse", **(hook_params or {}))

        monkeypatch.setattr(Connection, "get_hook", get_hook)
        hook_params = GOOGLE_SQL if issubclass(hook_class, BigQueryHook) else None
        return {"conn_id": "warehouse", "hook_params": hook_params}

    return use


@pytest.mark.parametrize("hook_class", HOOKS, ids=lambda hook_class: hook_class.__name__)
def test_rows_are_read_through_every_kind_of_hook(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, warehouse: Any, hook_class: type[DbApiHook]
) -> None:
    operator = batch(
        sql=PEOPLE,
        **warehouse(hook_class),
        message="Born {born}, {points} points, known as {ID}.",
        row_ref="customer_id",
    )
    summary = execute(operator)
    assert (summary["rows"], summary["sent"], summary["invalid"]) == (2, 1, 1)
    (send,) = sendoso.sends
    assert (send.body["first_name"], send.body["email"]) == ("Ada", "ada@example.com")
    assert send.body["message"] == "Born 1815-12-10, 1.50 points, known as 00000000-0000-0000-0000-000000000001."


@pytest.mark.parametrize("column", ["tags", "profile", "picture"])
@pytest.mark.parametrize("field", ["first_name", "metadata"])
def test_a_row_with_an_array_json_or_bytes_in_a_text_field_is_invalid(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    warehouse: Any,
    read_logs: Callable[[], str],
    column: str,
    field: str,
) -> None:
    if field == "metadata":
        changes = {"sql": f"SELECT *, {column} AS metadata_extra FROM ({PEOPLE})"}
    else:
        changes = {"sql": PEOPLE, "column_map": {field: column}}
    with pytest.raises(SendosoRowsError, match="Nobody was sent a gift"):
        execute(batch(**changes, **warehouse(Imitation)))
    (line,) = [line for line in read_logs().splitlines() if "Invalid row 1: " in line]
    assert "not text" in line
    assert sendoso.sends == []


def test_bigquery_takes_legacy_sql_unless_hook_params_say_otherwise(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, warehouse: Any
) -> None:
    warehouse(BigQueryHook)
    with pytest.raises(ValueError, match="Invalid table name"):
        execute(batch(sql=PEOPLE, conn_id="warehouse"))
    assert sendoso.requests == []


def test_a_dml_statement_on_bigquery_is_refused_because_it_returns_no_columns(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, warehouse: Any
) -> None:
    with pytest.raises(SendosoConfigError, match="returned no columns; it must be a query"):
        execute(batch(sql=PEOPLE, **warehouse(BigQueryStatementHook)))


@pytest.mark.parametrize(
    ("hook_class", "sql", "words"),
    [
        (SnowflakeHook, f"{PEOPLE};{PEOPLE}", "more than one statement; it must be one query"),
        (TwoResultsHook, PEOPLE, "more than one result; it must be one query"),
    ],
)
def test_two_queries_in_one_text_are_refused(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    warehouse: Any,
    hook_class: type[DbApiHook],
    sql: str,
    words: str,
) -> None:
    with pytest.raises(SendosoConfigError, match=words):
        execute(batch(sql=sql, **warehouse(hook_class)))
    assert sendoso.requests == []


def test_a_trailing_semicolon_is_not_a_second_query(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, warehouse: Any
) -> None:
    assert execute(batch(sql=f"{PEOPLE};\n", **warehouse(SnowflakeHook)))["sent"] == 1


def test_a_cursor_that_fails_halfway_sends_nothing(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, warehouse: Any
) -> None:
    sql = "SELECT 'Ada' first_name, 'L' last_name, 'ada' || n || '@example.com' email FROM range(2000) numbers(n)"
    with pytest.raises(ConnectionResetError):
        execute(batch(sql=sql, **warehouse(DyingHook)))
    assert sendoso.requests == []
    assert execute(batch(sql=f"{sql} LIMIT 1", **warehouse(Imitation)))["sent"] == 1


def test_duckdb_returns_the_types_that_the_imitated_drivers_return() -> None:
    row = duckdb.connect().execute(PEOPLE).fetchone()
    assert row is not None
    assert [type(cell) for cell in row[4:]] == [datetime.date, Decimal, uuid.UUID, list, dict, bytes]
