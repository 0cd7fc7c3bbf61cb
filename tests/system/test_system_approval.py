"""A person approves what a campaign costs, in a real Airflow: exactly that is sent, and nothing without them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]

DAG = "approved_campaign"
COLUMNS = ("customer_id", "given_name", "family_name", "email", "address_line1", "address_city", "address_postal_code")


@pytest.fixture
def sandbox(live_airflow: Any, postgres_database: Callable[[], Any]) -> Iterator[Sandbox]:
    """A Sendoso with its connections, and three champions in a warehouse."""
    import psycopg

    warehouse, ledger = postgres_database(), postgres_database()
    with psycopg.connect(host=warehouse.socket_dir, user="postgres", dbname=warehouse.name) as database:
        database.execute(f"CREATE TABLE champions ({' text, '.join(COLUMNS)} text, address_country text)")
        for number in range(3):
            row = (f"C-{number}", "Ada", "Lovelace", f"ada{number}@example.com", "1 Main St", "London", "E1 6AN", "GB")
            database.execute(f"INSERT INTO champions VALUES ({', '.join(['%s'] * len(row))})", row)
    with Sandbox(step=0, rate=0) as sandbox:
        live_airflow.wait_for_dags({DAG})
        extra = json.dumps({"requests_per_second": 50})
        login = {"login": "sandbox", "password": "sandbox"}
        connections = {
            "sendoso_default": {"conn_type": "sendoso", "host": sandbox.url, "extra": extra, **login},
            "sendoso_ledger": ledger.connection,
            "warehouse": warehouse.connection,
        }
        for conn_id, connection in connections.items():
            live_airflow.api("POST", "connections", connection_id=conn_id, **connection)
        yield sandbox
        for conn_id in connections:
            live_airflow.delete(f"connections/{conn_id}")


def start(airflow: Any, **conf: Any) -> str:
    """Run the DAG until it waits for a person."""
    run_id = airflow.api("POST", f"dags/{DAG}/dagRuns", logical_date=None, conf=conf)["dag_run_id"]
    task = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/approve"
    airflow.wait_until(
        lambda: airflow.api("GET", task)["state"] in ("awaiting_input", "deferred"), "it waits for a person"
    )
    return run_id


def answer(airflow: Any, run_id: str, option: str) -> str:
    """Answer as a person does in the UI, and wait for the end of the run."""
    # No person is that quick; and Airflow 3.3.2 takes a task that is answered for before it has noted that the first
    # half of it ended for one that died.
    time.sleep(10)
    details = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    airflow.api("PATCH", details, chosen_options=[option])
    run = f"dags/{DAG}/dagRuns/{run_id}"

    def states() -> dict[str, str]:
        tasks = airflow.api("GET", f"{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in tasks}

    ended = ("success", "failed", "skipped", "up_for_retry", "upstream_failed")
    airflow.wait_until(lambda: states()["send_gifts"] in ended, "the gifts are sent, or not")
    return states()["send_gifts"]


def test_exactly_what_a_person_approves_is_sent(live_airflow: Any, sandbox: Sandbox) -> None:
    run_id = start(live_airflow)
    details = live_airflow.api("GET", f"dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails")
    # Three mugs of 18, each with 15 for fulfilment and 9.5 for shipping.
    assert "**3 gifts** for an estimated **127.5 USD**" in details["body"]
    assert sandbox.sends == []

    assert answer(live_airflow, run_id, "Approve") == "success"
    assert sorted(send.body["email"] for send in sandbox.sends) == [f"ada{n}@example.com" for n in range(3)]

    # Another run has nobody left to send to, and a person who says no is obeyed.
    again = start(live_airflow)
    assert answer(live_airflow, again, "Reject") == "skipped"
    assert len(sandbox.sends) == 3
