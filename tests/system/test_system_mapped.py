"""A task's arguments from another task are data: a real Airflow never renders them as templates."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "SM3kL9-the-vaults-password"
DAG = Path(__file__).with_name("mapped")
STEAL = "{{ conn.get('vault').password }}"


@pytest.fixture(scope="module")
def with_dag(airflow: Any) -> Iterator[Any]:
    """An Airflow with that DAG."""
    airflow = type(airflow)(Path(tempfile.mkdtemp(prefix="airflow-mapped-")))
    airflow.environment["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAG)
    yield airflow
    airflow.close()


@pytest.mark.slow
def test_data_from_another_task_is_never_rendered_and_the_authors_templates_are(
    with_dag: Any, world: Callable[..., Any]
) -> None:
    here = world()
    vault = {"AIRFLOW_CONN_VAULT": f'{{"conn_type": "generic", "password": "{SECRET}"}}'}
    run = with_dag.run("mapped", "2026-01-01T00:00:00+00:00", here.environment | vault, {"conf": STEAL})

    told = repr([request.path for request in here.sendoso.requests] + [send.body for send in here.sendoso.sends])
    assert SECRET not in told + repr(here.read_ledger("SELECT * FROM sendoso_sends"))

    sent = {send.body["email"].split("@")[0]: send.body for send in here.sendoso.sends}
    data = {"kwargs1", "kwargs2", "first", "second", "element", "literal", "both", "output", "nested", "batch", "group"}
    assert set(sent) == data, run.log[-5000:]
    assert {body["metadata"]["data"] for body in sent.values()} == {STEAL}
    assert sent["kwargs1"]["metadata"]["deep"] == f"kwargs1 {STEAL}"
    assert {sent["nested"]["metadata"][name] for name in ("pulled", "conf")} == {STEAL}

    assert {sent[name]["first_name"] for name in ("literal", "nested", "both")} == {"Thanks"}
    assert {sent[name]["team_id"] for name in ("kwargs1", "kwargs2", "both")} == {"Thanks"}
    assert {sent[name]["message"] for name in ("first", "second")} == {"Thanks"}
    assert {body["message"] for name, body in sent.items() if name not in ("first", "second")} == {"Thanks by default"}
    scopes = {scope for (scope,) in here.read_ledger("SELECT dedupe_scope FROM sendoso_sends")}
    assert {"Thanks", f"mapped/kwargs/{run.run_id}", f"mapped/group.send/{run.run_id}"} <= scopes

    refused = {name.split("[")[0] for name, state in run.tasks.items() if state == "failed"}
    printed = {"kwargs_map", "expand", "own", "rows", "links"}
    assert refused == printed | {"sql", "sensor", "event", "resolve", "land"}, run.log[-5000:]
