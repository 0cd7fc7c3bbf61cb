"""docs/results.md: its columns are those of the table, and its queries give the stated results."""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from airflow_provider_sendoso.batch.results_table import COLUMNS, ResultsTable, StatusUpdate, cells, refresh_statuses
from airflow_provider_sendoso.batch.row import SpooledOutcome
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import NOTHING, Item, RowOutcome
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
NOT_RECEIVED, COST, WHO_GOT_WHAT = re.findall(r"^```sql\n(.*?)^```", PAGE, re.M | re.S)

FIRST = Batch("b1", "acme", "q4-champions", "email", "campaign", "gifts", "manual__2026-11-17", -1)
LAST = dataclasses.replace(FIRST, batch_id="b2", run_id="manual__2026-11-18")
OTHER = dataclasses.replace(LAST, batch_id="b3", dedupe_scope="spring")
MORNING = 1_794_990_600.0

SENT, ALREADY, HELD = RowOutcome.SENT, RowOutcome.ALREADY_SENT, RowOutcome.HELD


def row(number: int, outcome: RowOutcome, reason: str | None = None) -> SpooledOutcome:
    posted = outcome in (SENT, ALREADY)
    send_id = f"snd-{number}" if posted else None
    item = NOTHING if outcome is RowOutcome.INVALID else Item("gift-mug")
    return SpooledOutcome(number, "key", None, f"C-{number}", item, outcome, reason, send_id, MORNING + number)


def price_of(item: Item) -> tuple[Decimal, str]:
    return Decimal("12.50"), "USD"


@pytest.fixture(params=["sqlite", "postgresql"])
def ask(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Any:
    """Two runs of a campaign, and another campaign; a callable that runs a query."""
    if request.param == "sqlite":
        set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
        engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    else:
        database = request.getfixturevalue("postgres_database")()
        set_connection("warehouse", database.connection)
        engine = create_engine(database.url)
    table = ResultsTable(warehouse_hook("warehouse"), "sendoso_results")
    invalid = row(5, RowOutcome.INVALID, "email is missing")
    batches = {
        FIRST: [row(1, SENT), row(2, SENT), row(3, HELD, "http_500"), invalid],
        LAST: [
            *(row(1, ALREADY), row(2, ALREADY), row(3, HELD, "http_500"), invalid, row(6, SENT), row(7, SENT)),
            *(row(8, RowOutcome.DUPLICATE), row(9, RowOutcome.NOT_REACHED)),
        ],
        OTHER: [row(10, SENT), row(11, RowOutcome.INVALID, "last_name is missing")],
    }
    table.prepare(FIRST)
    for batch, rows in batches.items():
        written = [cells(batch, found, f"hash-{found.number}", None, price_of=price_of) for found in rows]
        table.rewrite(batch.batch_id, lambda written=written: written)
    statuses = {"snd-1": "delivered", "snd-2": "returned", "snd-6": "delivered", "snd-7": "shipped"}
    where = {"dedupe_scope": "q4-champions"}
    refresh_statuses(
        warehouse_hook("warehouse"), "sendoso_results", where, (StatusUpdate(*s, MORNING) for s in statuses.items())
    )

    def run(query: str) -> list[tuple[Any, ...]]:
        with engine.connect() as connected:
            return [tuple(found) for found in connected.execute(text(query))]

    yield run
    engine.dispose()


def test_the_page_names_the_tables_columns_in_their_order() -> None:
    table = PAGE.split("## Columns")[1].split("## ")[0]
    named = [name for cell in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(COLUMNS)


def test_the_query_for_people_without_a_gift_returns_them(ask: Any) -> None:
    assert ask(NOT_RECEIVED) == [
        ("C-2", "already_sent", None, None, "returned"),
        ("C-3", "held", None, "http_500", None),
        ("C-5", "invalid", "email", "is missing", None),
        ("C-7", "sent", None, None, "shipped"),
        ("C-9", "not_reached", None, None, None),
    ]


def test_the_query_for_costs_adds_them_up(ask: Any) -> None:
    ((currency, gifts, cost),) = ask(COST)
    assert (currency, gifts, Decimal(str(cost))) == ("USD", 4, Decimal("50.0"))


def test_the_query_for_gifts_received_returns_them(ask: Any) -> None:
    assert [(*found[:3], str(found[3])[:19], found[4]) for found in ask(WHO_GOT_WHAT)] == [
        ("C-1", "gift-mug", "snd-1", "2026-11-18 08:30:01", "delivered"),
        ("C-2", "gift-mug", "snd-2", "2026-11-18 08:30:02", "returned"),
        ("C-6", "gift-mug", "snd-6", "2026-11-18 08:30:06", "delivered"),
        ("C-7", "gift-mug", "snd-7", "2026-11-18 08:30:07", "shipped"),
    ]
