"""Examples triggered as a person does, in a whole Airflow: nobody's name or address is in anything that it keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from psycopg import sql

from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]

MARK = "zqx" + "zqx"
MARKED = ("given_name", "family_name", "company", "address_line1", "address_city")
COLUMNS = ("customer_id", *MARKED, "email", "address_postal_code", "address_country")
DAGS = ("thank_you", "welcome_gift", "replaced_gift", "champions_campaign", "campaign_results", "egift_links")


@pytest.fixture
def sandbox(live_airflow: Any, postgres_database: Callable[[], Any]) -> Iterator[Sandbox]:
    """A Sendoso with its connections, and three champions in a warehouse, marked but for their ids."""
    warehouse, ledger = postgres_database(), postgres_database()
    with psycopg.connect(host=warehouse.socket_dir, user="postgres", dbname=warehouse.name) as database:
        database.execute(f"CREATE TABLE champions ({' text, '.join(COLUMNS)} text)")
        for number in range(3):
            marks = [f"{MARK}{name.replace('_', '')}{number}" for name in MARKED]
            row = (f"C-{number}", *marks, f"{MARK}mailbox{number}@{MARK}host.example", "BS1 4QA", "GB")
            database.execute(f"INSERT INTO champions VALUES ({', '.join(['%s'] * len(row))})", row)
    with Sandbox(step=0, rate=0) as sandbox:
        live_airflow.wait_for_dags(set(DAGS))
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


def run(airflow: Any, dag_id: str, **conf: Any) -> str:
    """Trigger a DAG through the REST API, and wait for its end."""
    run_id: str = airflow.api("POST", f"dags/{dag_id}/dagRuns", logical_date=None, conf=conf)["dag_run_id"]
    path = f"dags/{dag_id}/dagRuns/{run_id}"
    state = airflow.wait_until(
        lambda: (now := airflow.api("GET", path)["state"]) in ("success", "failed") and now, f"{dag_id} is over"
    )
    assert state == "success", airflow.logs(f"dag_id={dag_id}")
    return run_id


def tables(airflow: Any) -> dict[str, list[str]]:
    """Every row of every table of Airflow's database, as text."""
    with psycopg.connect(host=airflow.metadata.socket_dir, user="postgres", dbname=airflow.metadata.name) as database:
        names = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            name: [row for (row,) in database.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name)))]
            for (name,) in names
        }


def test_nobody_is_in_the_database_and_the_logs_of_an_airflow_that_sends_to_them(
    live_airflow: Any, sandbox: Sandbox
) -> None:
    run(live_airflow, "thank_you", customer_id="C-0")
    (first,) = sandbox.sends
    run(live_airflow, "welcome_gift", customer_id="C-1")
    sandbox.finish(first.id, "returned")
    run(live_airflow, "replaced_gift", customer_id="C-0", resend_of=first.id)
    for dag_id in ("champions_campaign", "campaign_results", "egift_links"):
        run(live_airflow, dag_id)
    sent = str([send.body for send in sandbox.sends])
    assert {f"{MARK}{name}" in sent for name in ("givenname0", "familyname1", "addressline10", "mailbox2")} == {True}

    kept = tables(live_airflow)
    # Where it would be, is something; and what the run was triggered with is looked for in the same way.
    for table in ("dag_run", "log", "xcom", "rendered_task_instance_fields", "task_instance", "trigger"):
        assert table == "trigger" or kept[table], table
    assert any("C-1" in row for row in kept["dag_run"])
    assert any("C-1" in row for row in kept["log"])
    hexadecimal = MARK.encode().hex()
    found = {name for name, rows in kept.items() for row in rows if MARK in row.casefold() or hexadecimal in row}
    assert found == set(), [(name, row[:900]) for name in found for row in kept[name] if MARK in row.casefold()]
    logs = live_airflow.logs()
    assert "customer_id" in logs
    assert sorted(set(re.findall(rf".{{60}}{MARK}\w+", logs, re.I | re.S))) == []
