"""SendosoToSqlOperator against a local Sendoso, into real databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from sqlalchemy import create_engine, text
from tenacity import wait_none

from airflow_provider_sendoso import tables
from airflow_provider_sendoso.client import pages
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoResultsError, SendosoServerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.operators.sendoso import SendosoToSqlOperator
from airflow_provider_sendoso.sandbox import Sandbox

TOUCHES = "/api/v3/touches"
TRACKER = "/api/v3/send"
Ask = Callable[..., list[tuple[Any, ...]]]
Land = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_wait", wait_none())


@pytest.fixture(params=["sqlite", "postgresql", "duckdb", "mysql"])
def ask(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Iterator[Ask]:
    """Runs a statement in the database behind ``warehouse``."""
    if request.param == "duckdb":
        path = str(tmp_path / "warehouse.duckdb")
        set_connection("warehouse", {"conn_type": "duckdb", "host": path})

        def run_duckdb(statement: str) -> list[tuple[Any, ...]]:
            with duckdb.connect(path) as connected:
                return connected.execute(statement).fetchall()

        yield run_duckdb
        return
    if request.param == "sqlite":
        set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
        engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    elif request.param == "mysql":
        database = request.getfixturevalue("mysql_database")()
        engine = create_engine(database.url)
        with engine.connect() as connected:
            port = connected.execute(text("SELECT @@port")).scalar()
        address = {"host": "127.0.0.1", "port": port, "login": "root", "schema": database.name}
        set_connection("warehouse", {"conn_type": "mysql", **address, "extra": {"client": "mysql-connector-python"}})
    else:
        database = request.getfixturevalue("postgres_database")()
        set_connection("warehouse", database.connection)
        engine = create_engine(database.url)

    def run(statement: str) -> list[tuple[Any, ...]]:
        with engine.begin() as connected:
            result = connected.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    yield run
    engine.dispose()


@pytest.fixture
def sqlite_ask(tmp_path: Path, set_connection: Any) -> Ask:
    """For what is the same on every database."""
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})

    def run(statement: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(tmp_path / "warehouse.db") as connected:
            return connected.execute(statement).fetchall()

    return run


@pytest.fixture
def land(sendoso: Sandbox, ti: Any) -> Land:
    """Runs the operator as a task."""

    def run(name: str = "campaign_sends", **arguments: Any) -> dict[str, Any]:
        given = {"table": "landed", "conn_id": "warehouse"} | arguments
        operator = SendosoToSqlOperator(task_id="land", object=name, **given)
        return operator.execute({"ti": ti("run-1")})  # type: ignore[typeddict-unknown-key]

    return run


def summary(**changes: Any) -> dict[str, Any]:
    usual = {"object": "campaign_sends", "inserted": 0, "updated": 0, "columns_added": [], "whole_list": True}
    return usual | changes


def moments(rows: list[tuple[Any, ...]]) -> list[str]:
    return [str(row[0])[:23] for row in rows]


def pages_read(sendoso: Sandbox, path: str = TRACKER) -> int:
    return sum(request.path == path and request.method == "GET" for request in sendoso.requests)


# -- what lands --------------------------------------------------------------------------------------------------------


def test_touches_land_with_types_and_land_the_same_again(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    sendoso.add("touches", {"id": 102, "name": "Coffee 李 🎁", "starting_egift_price": "5.0", "is_default_price": False,
                            "start_date": "2025-01-06T00:00:00.000-08:00", "ship_to_countries": ["US", "DE"]})
    first = land("touches")
    assert first == summary(object="touches", rows=4, inserted=4, unchanged=0) | {"columns_added": first["columns_added"]}
    assert {"user_id", "hubspot_key", "is_default_price"} <= set(first["columns_added"])
    row = ask("SELECT name, starting_egift_price, start_date, ship_to_countries, is_default_price, end_date "
              "FROM landed WHERE id = '102'")[0]
    assert (row[0], float(row[1]), row[3], bool(row[4]), row[5]) == ("Coffee 李 🎁", 5.0, '["US", "DE"]', False, None)
    assert moments([(row[2],)]) == ["2025-01-06 08:00:00.000"] or str(row[2]) == "2025-01-06 08:00:00"
    before = ask("SELECT * FROM landed ORDER BY id")
    assert land("touches") == summary(object="touches", rows=4, unchanged=4)
    assert ask("SELECT * FROM landed ORDER BY id") == before
    # It is a number and a moment for the database, too.
    assert ask("SELECT COUNT(*) FROM landed WHERE starting_egift_price > 4 AND start_date < '2026-01-01'") == [(1,)]
