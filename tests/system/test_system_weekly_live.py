"""The weekly campaign in a whole Airflow: a backfill, the unpausing after weeks, and a trigger by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]

DAG = "weekly_campaign"
RUNS = f"dags/{DAG}/dagRuns"


@pytest.fixture
def sendoso(live_airflow: Any, postgres_database: Callable[[], Any]) -> Iterator[Sandbox]:
    """A Sendoso with its connections, and two champions."""
    warehouse, ledger = postgres_database(), postgres_database()
    with psycopg.connect(host=warehouse.socket_dir, user="postgres", dbname=warehouse.name) as database:
        database.execute("CREATE TABLE champions (customer_id text, given_name text, family_name text, email text)")
        for name in ("ada", "grace"):
            row = (f"C-{name}", name, "Champion", f"{name}@example.com")
            database.execute("INSERT INTO champions VALUES (%s, %s, %s, %s)", row)
    with Sandbox(step=0, rate=0) as sandbox:
        live_airflow.wait_for_dags({DAG})
        login = {"login": "sandbox", "password": "sandbox", "extra": json.dumps({"requests_per_second": 50})}
        connections = {
            "sendoso_default": {"conn_type": "sendoso", "host": sandbox.url, **login},
            "sendoso_ledger": ledger.connection,
            "warehouse": warehouse.connection,
        }
        for conn_id, connection in connections.items():
            live_airflow.api("POST", "connections", connection_id=conn_id, **connection)
        yield sandbox
        for conn_id in connections:
            live_airflow.delete(f"connections/{conn_id}")


def test_backfill_unpausing_and_a_manual_run_send_everybody_one_gift_a_week(
    live_airflow: Any, sendoso: Sandbox
) -> None:
    def finished(count: int) -> list[dict[str, Any]]:
        """All runs, once there are so many and they are over."""

        def over() -> Any:
            runs = live_airflow.api("GET", RUNS)["dag_runs"]
            return len(runs) >= count and all(run["state"] in ("success", "failed") for run in runs) and runs

        runs: list[dict[str, Any]] = live_airflow.wait_until(over, f"{count} runs are over")
        assert {run["state"] for run in runs} == {"success"}, live_airflow.logs(f"dag_id={DAG}")
        return runs

    def gifts() -> dict[str, int]:
        return Counter(send.body["email"] for send in sendoso.sends)

    def scope(run_id: str) -> str:
        path = f"{RUNS}/{run_id}/taskInstances/send_gifts/xcomEntries/return_value"
        return str(live_airflow.api("GET", path)["value"]["dedupe_scope"])

    live_airflow.api("PATCH", f"dags/{DAG}", is_paused=False)
    (first,) = finished(1)  # the last Monday's, and no other: nothing is caught up
    now = datetime.now(UTC)
    assert (now - datetime.fromisoformat(first["logical_date"])).days < 7
    assert gifts() == {"ada@example.com": 1, "grace@example.com": 1}

    manual = live_airflow.api("POST", RUNS, logical_date=None)["dag_run_id"]
    finished(2)
    assert scope(manual) == f"monday-coffee/{now:%G-W%V}"
    of_this_week = 1 + (scope(first["dag_run_id"]) != scope(manual))  # on a Monday before six
    assert set(gifts().values()) == {of_this_week}

    span = {"from_date": "2026-02-02T00:00:00Z", "to_date": "2026-02-16T23:00:00Z"}
    live_airflow.api("POST", "backfills", dag_id=DAG, run_backwards=False, dag_run_conf={}, max_active_runs=1, **span)
    runs = finished(5)
    backfilled = sorted(scope(run["dag_run_id"]) for run in runs if run["run_type"] == "backfill")
    assert backfilled == [f"monday-coffee/2026-W{week:02}" for week in (6, 7, 8)]
    assert set(gifts().values()) == {of_this_week + 3}
