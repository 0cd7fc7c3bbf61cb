"""On a worker with a full temporary disk the try fails with a helpful error, and every recipient gets one gift."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.exceptions import SendosoSpoolError
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = pytest.mark.slow

ROWS = 400


@pytest.fixture
def make(
    batch: Callable[..., BatchSendOperator], people: Any, set_connection: Any, tmp_path: Path
) -> Callable[[], BatchSendOperator]:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    return lambda: batch(recipients=people(ROWS), conn_id="warehouse", results_table="results")


@pytest.fixture
def outcomes(tmp_path: Path) -> Callable[[], Counter[str]]:
    """Counts the results by outcome."""

    def read() -> Counter[str]:
        with sqlite3.connect(tmp_path / "warehouse.db") as connected:
            return Counter(dict(connected.execute("SELECT outcome, count(*) FROM results GROUP BY 1")))

    return read


@pytest.mark.parametrize(
    ("method", "reached"),
    [("fill", range(1)), ("jobs", range(1, ROWS)), ("stage", range(ROWS, ROWS + 1))],
    ids=["rows are read", "rows are sent", "results are written"],
)
def test_no_recipient_gets_two_gifts_or_none_when_the_disk_is_full_while(
    sendoso: Sandbox,
    ledger: Any,
    make: Any,
    ti: Any,
    outcomes: Callable[[], Counter[str]],
    full_disk: Any,
    method: str,
    reached: range,
) -> None:
    first, second = ti("run-1"), ti("run-1")
    error = pytest.raises(SendosoSpoolError, match=r"disk is full.*is not sent another.*retry the task")
    with full_disk(BatchSpool, method), error:
        make().execute({"ti": first})
    assert len(sendoso.sends) in reached
    assert outcomes() == Counter()
    # A summary counts all rows, or there is none.
    assert first.xcom.get("return_value", {"sent": ROWS})["sent"] == ROWS

    assert make().execute({"ti": second})["sent"] == ROWS
    assert len(sendoso.sends) == ROWS
    assert sendoso.duplicates() == {}
    assert outcomes() == {"sent": ROWS}
