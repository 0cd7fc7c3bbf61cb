"""BatchSendOperator reading warehouses: SQLite and PostgreSQL, through the hooks that users have."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.postgres.hooks.postgres import PostgresHook
from sqlalchemy import create_engine, text

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.warehouse.queries import read_query, rows_of

Make = Callable[..., BatchSendOperator]
Execute = Callable[..., Any]

TABLE = """
CREATE TABLE champions (customer_id INTEGER, GIVEN_NAME TEXT, LAST_NAME TEXT, Email TEXT, company TEXT, points NUMERIC,
                        metadata_segment TEXT, notes TEXT)
"""
ROWS = [
    (1, "Zoë", 'O\'Brien "Zo"', "zoe@example.com", "Müller & Söhne; DROP TABLE champions", 1.0, "gold", "left alone"),
    (2, "李", "小龍", "li@example.com", None, 2.5, None, None),
    (3, None, "Nobody", "nobody@example.com", None, 3, None, None),
    (4, "Nul", "Nul", None, None, None, None, None),
]


@pytest.fixture(params=["sqlite", "postgresql", "duckdb"])
def warehouse(
    request: pytest.FixtureRequest, tmp_path: Path, set_connection: Callable[..., None]
) -> Callable[[str, Any], None]:
    """A database behind ``warehouse``, with the champions in it; a callable that runs a statement there."""
    if request.param == "sqlite":
        connection: Any = {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")}
        engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    elif request.param == "duckdb":
        return duckdb_warehouse(tmp_path, set_connection)
    else:
        database = request.getfixturevalue("postgres_database")()
        connection, engine = database.connection, create_engine(database.url)
    set_connection("warehouse", connection)

    def run(statement: str, *rows: Any) -> None:
        with engine.begin() as connected:
            for row in rows or [()]:
                connected.execute(text(statement), {f"p{n}": value for n, value in enumerate(row)})

    run(TABLE)
    run(f"INSERT INTO champions VALUES ({', '.join(f':p{n}' for n in range(8))})", *ROWS)
    return run


def duckdb_warehouse(tmp_path: Path, set_connection: Callable[..., None]) -> Callable[[str, Any], None]:
    """The same on DuckDB, whose SQLAlchemy dialect is a package of its own."""
    set_connection("warehouse", {"conn_type": "duckdb", "host": str(tmp_path / "warehouse.duckdb")})

    def run(statement: str, *rows: Any) -> None:
        with duckdb.connect(tmp_path / "warehouse.duckdb") as connected:
            for row in rows or [()]:
                connected.execute(statement, row)

    # Its NUMERIC has three decimals, which come as Decimal("1.000").
    run(TABLE)
    run(f"INSERT INTO champions VALUES ({', '.join('?' * 8)})", *ROWS)
    return run


def test_values_of_the_warehouse_arrive_unchanged_in_the_send(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, warehouse: Any
) -> None:
    summary = execute(
        batch(
            sql="SELECT * FROM champions ORDER BY customer_id",
            conn_id="warehouse",
            column_map={"first_name": "given_name"},
            message="{given_name}, {points} points",
            metadata={"campaign": "q4"},
            row_ref="CUSTOMER_ID",
        )
    )
    assert (summary["rows"], summary["sent"], summary["invalid"]) == (4, 2, 2)
    zoe, li = (send.body for send in sendoso.sends)
    assert (zoe["first_name"], zoe["last_name"], zoe["company"]) == (ROWS[0][1], ROWS[0][2], ROWS[0][4])
    assert (zoe["message"], li["message"].replace("2.500", "2.5")) == ("Zoë, 1 points", "李, 2.5 points")
    assert zoe["metadata"] == {"campaign": "q4", "segment": "gold", "airflow_key": zoe["metadata"]["airflow_key"]}
    assert "company" not in li
    assert "notes" not in zoe


def test_parameters_go_to_the_database_and_not_into_the_log(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    set_connection: Any,
    tmp_path: Path,
    read_logs: Callable[[], str],
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    sql = "SELECT 'Ada' AS FIRST_NAME, 'Lovelace' AS LAST_NAME, :email AS EMAIL"
    execute(batch(sql=sql, conn_id="warehouse", parameters={"email": "o'hara@example.com"}))
    assert sendoso.sends[0].body["email"] == "o'hara@example.com"
    assert "o'hara" not in read_logs()


def test_a_sql_file_is_read_and_rendered(
    sendoso: Sandbox, ledger: Any, execute: Execute, set_connection: Any, tmp_path: Path
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    (tmp_path / "champions.sql").write_text("SELECT 'Ada' first_name, 'L' last_name, '{{ params.email }}' email")
    with DAG("campaign", schedule=None, template_searchpath=str(tmp_path)) as dag:
        operator = BatchSendOperator(
            task_id="gifts",
            sql="champions.sql",
            conn_id="{{ params.warehouse }}",
            gift_id="gift-donation-trees",
            message="Thank you",
            dedupe_scope="q4",
        )
    dag.resolve_template_files()
    operator.render_template_fields({"params": {"email": "file@example.com", "warehouse": "warehouse"}})
    execute(operator)
    assert sendoso.sends[0].body["email"] == "file@example.com"


def test_the_log_says_which_field_came_from_which_column(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, warehouse: Any, read_logs: Callable[[], str]
) -> None:
    layout = {"column_map": {"first_name": "given_name"}, "metadata": {"campaign": "q4"}}
    execute(batch(sql="SELECT * FROM champions", conn_id="warehouse", **layout))
    logs = read_logs()
    given, family = ("given_name", "last_name") if "PostgresHook" in logs else ("GIVEN_NAME", "LAST_NAME")
    assert f"Fields: first_name from {given}, last_name from {family}, email from " in logs
    assert "metadata_segment from metadata_segment, gift_id from argument" in logs
    assert "metadata_campaign from argument" in logs


def test_hook_params_reach_the_hook(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, set_connection: Any, postgres_database: Any
) -> None:
    database = postgres_database()
    set_connection("warehouse", database.connection)
    with create_engine(database.url).begin() as connected:
        connected.execute(text("CREATE SCHEMA gifts"))
        connected.execute(text("CREATE TABLE gifts.people AS SELECT 'A' first_name, 'L' last_name, 'a@x.org' email"))
    options = {"options": "-c search_path=gifts"}
    summary = execute(batch(sql="SELECT * FROM people", conn_id="warehouse", hook_params=options))
    assert summary["sent"] == 1


POSTGRES_QUERIES = [
    ("SELECT 'A' first_name, 'L' last_name, %(email)s::text email", {"email": "a@x.org"}),
    ("SELECT 'A' first_name, 'L' last_name, %s::text email;", ["a@x.org"]),
    ("SELECT '100 %' first_name, 'L' last_name, 'a@x.org' email", None),
    # None of these can have a named cursor.
    ("INSERT INTO people VALUES ('A', 'L', 'a@x.org') RETURNING *", None),
    ("WITH new AS (INSERT INTO people VALUES ('A', 'L', 'a@x.org') RETURNING *) SELECT * FROM new", None),
]


@pytest.mark.parametrize(("sql", "parameters"), POSTGRES_QUERIES)
def test_a_query_on_postgresql_is_read_whether_or_not_a_named_cursor_can_run_it(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    set_connection: Any,
    postgres_database: Any,
    sql: str,
    parameters: Any,
) -> None:
    database = postgres_database()
    set_connection("warehouse", database.connection)
    engine = create_engine(database.url)
    with engine.begin() as connected:
        connected.execute(text("CREATE TABLE people (first_name text, last_name text, email text)"))
    summary = execute(batch(sql=sql, conn_id="warehouse", parameters=parameters))
    assert (summary["rows"], summary["sent"]) == (1, 1)
    with engine.begin() as connected:
        assert connected.execute(text("SELECT count(*) FROM people")).scalar() == int("INSERT" in sql)


def test_rows_of_postgresql_are_read_through_a_named_cursor(postgres_database: Any, set_connection: Any) -> None:
    set_connection("warehouse", postgres_database().connection)
    hook = PostgresHook(postgres_conn_id="warehouse")
    seen: list[Any] = []

    def read(cursor: Any) -> None:
        seen.append((cursor.name, len(list(rows_of(cursor)))))

    read_query(hook, "SELECT * FROM generate_series(1, 3000)", None, read)
    assert seen == [("sendoso_rows", 3000)]
    with pytest.raises(ZeroDivisionError):
        read_query(hook, "SELECT 1", None, lambda cursor: 1 // 0)
    with pytest.raises(Exception, match="no_such_table"):
        read_query(hook, "SELECT * FROM no_such_table", None, read)


@pytest.mark.parametrize(
    ("at_1500", "words"),
    [
        ("1 / (n - 1500)", "division by zero"),
        ("pg_terminate_backend(pg_backend_pid())::int", "terminating connection|closed the connection"),
    ],
    ids=["the query fails", "the connection is lost"],
)
def test_a_query_that_fails_halfway_on_postgresql_sends_nothing(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    set_connection: Any,
    postgres_database: Any,
    at_1500: str,
    words: str,
) -> None:
    set_connection("warehouse", postgres_database().connection)
    people = "SELECT 'Ada' first_name, 'L' last_name, 'ada' || n || '@example.com' email"
    failing = f"{people}, CASE WHEN n = 1500 THEN {at_1500} END failing FROM generate_series(1, 2000) n"
    with pytest.raises(Exception, match=words):
        execute(batch(sql=failing, conn_id="warehouse"))
    assert sendoso.requests == []
    assert execute(batch(sql=f"{people} FROM generate_series(1, 3) n", conn_id="warehouse"))["sent"] == 3


def test_two_queries_in_one_text_are_refused_on_postgresql(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, set_connection: Any, postgres_database: Any
) -> None:
    set_connection("warehouse", postgres_database().connection)
    one = "SELECT 'A' first_name, 'L' last_name, 'a@x.org' email"
    with pytest.raises(SendosoConfigError, match="more than one result; it must be one query"):
        execute(batch(sql=f"{one}; {one}", conn_id="warehouse"))
    assert sendoso.requests == []


def test_many_rows_are_fetched_in_parts(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, set_connection: Any, tmp_path: Path
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    sql = """
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 5000)
        SELECT 'Ada' first_name, 'L' last_name, CASE WHEN n % 1000 = 0 THEN 'ada' || n || '@example.com' END email
        FROM numbers
    """
    summary = execute(batch(sql=sql, conn_id="warehouse"))
    assert (summary["rows"], summary["sent"], summary["invalid"]) == (5000, 5, 4995)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM kept", "sql returned no columns; it must be a query"),
        ("SELECT 1 AS email, 2 AS EMAIL", "two columns 'EMAIL'"),
        ("SELECT 1 AS mail", "No column for first_name, last_name, email. Columns of the result: mail"),
    ],
)
def test_a_result_without_the_columns_of_a_send_is_refused(
    sendoso: Sandbox,
    ledger: Any,
    batch: Make,
    execute: Execute,
    set_connection: Any,
    tmp_path: Path,
    sql: str,
    words: str,
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    with sqlite3.connect(tmp_path / "warehouse.db") as connected:
        connected.execute("CREATE TABLE kept AS SELECT 1")
    with pytest.raises(SendosoConfigError, match=words):
        execute(batch(sql=sql, conn_id="warehouse"))
    assert sendoso.requests == []
    assert sqlite3.connect(tmp_path / "warehouse.db").execute("SELECT * FROM kept").fetchall() == [(1,)]
