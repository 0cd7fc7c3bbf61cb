"""docs/landing.md: its columns are those of the tables, and its queries give the results that the page states."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_provider_sendoso.landing.lists import LISTS, OWN
from airflow_provider_sendoso.landing.table import STATUS_COLUMNS
from airflow_provider_sendoso.operators.sendoso import SendosoToSqlOperator
from airflow_provider_sendoso.sandbox import Sandbox

PAGE = (Path(__file__).parents[2] / "docs" / "landing.md").read_text(encoding="utf-8")
TO_WHOM, WHEN = re.findall(r"^```sql\n(.*?)^```", PAGE, re.M | re.S)


def test_the_page_names_the_lists_and_their_columns() -> None:
    table = PAGE.split("## Columns")[1]
    named = {name: re.findall(r"`(\w+)`", cells) for name, cells in re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.M)}
    assert named.pop("object") == []  # the table's head
    assert named == {name: list(listed.columns) for name, listed in LISTS.items()}
    assert set(re.findall(r"`(landed_\w+)`:", table)) == OWN.keys()
    assert ", ".join(f"`{name}`" for name in STATUS_COLUMNS) in table.replace("\n", " ")
    first = re.findall(r"^\| (`.*?`) \|", PAGE.split("## Personal data")[0], re.M)
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} - {"object"} == LISTS.keys()


@pytest.fixture(params=["sqlite", "postgresql"])
def connect(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Any:
    if request.param == "sqlite":
        set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
        return lambda: sqlite3.connect(tmp_path / "warehouse.db")
    database = request.getfixturevalue("postgres_database")()
    set_connection("warehouse", database.connection)
    return lambda: psycopg.connect(host=database.socket_dir, user="postgres", dbname=database.name)


def test_the_queries_of_the_page_return_what_the_page_says(sendoso: Sandbox, connect: Any) -> None:
    sendoso.preload(4, email="Person{}@example.com")
    landing = SendosoToSqlOperator(
        task_id="land",
        object="campaign_sends",
        table="sendoso_sends",
        status_table="sendoso_send_statuses",
        conn_id="warehouse",
    )
    landing.execute({})
    with connect() as connection:
        connection.execute("CREATE TABLE customers (customer_id TEXT, email TEXT)")
        connection.execute("INSERT INTO customers VALUES ('C-2', 'person2@example.com'), ('C-9', 'p9@example.com')")
        to_whom = connection.execute(TO_WHOM).fetchall()
        when = connection.execute(WHEN).fetchall()
    assert [(*row[:2], row[3], float(row[4])) for row in to_whom] == [("C-2", "Welcome box", "delivered", 30.0)]
    assert [row[0] for row in when] == ["1", "2", "3", "4"]
    assert all(arrived > made for _, made, arrived in when)
