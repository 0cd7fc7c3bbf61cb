"""Runs a task as Airflow does, with metrics, traces or listeners set up as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_provider_sendoso.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).with_name("dags")
CHAMPIONS = [
    ("Ada", "Lovelace", "ada@example.com"),
    ("Grace", "Hopper", "grace@example.com"),
    ("Ada", "Again", "ADA@example.com"),
    ("Nobody", "Reachable", None),
]


@dataclass(frozen=True)
class Tried:
    """The result of a try of a task."""

    state: str
    ended: Mapping[str, Any]
    xcom: Any
    log: str = field(repr=False)


@pytest.fixture
def ledger_connection(tmp_path: Path) -> dict[str, Any]:
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


@pytest.fixture
def run_task(
    sendoso: Sandbox, ledger: Any, postgres_database: Callable[[], Any], tmp_path: Path
) -> Callable[..., Tried]:
    """Runs a task of ``dags/observed.py`` in a process of its own: ``run_task("gifts", SOME__SETTING="x")``."""
    warehouse = postgres_database()
    with psycopg.connect(host=warehouse.socket_dir, user="postgres", dbname=warehouse.name) as database:
        database.execute("CREATE TABLE champions (first_name text, last_name text, email text)")
        database.cursor().executemany("INSERT INTO champions VALUES (%s, %s, %s)", CHAMPIONS)

    def run(task_id: str, run_id: str = "run-1", **settings: str) -> Tried:
        directory = tmp_path / f"{task_id}-{run_id}"
        directory.mkdir()
        environment = os.environ | {
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            # Whatever looks at the task has as long as it needs on a busy machine.
            "AIRFLOW__CORE__TASK_SUCCESS_OVERTIME": "150",
            "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "100",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "100",
            "AIRFLOW_CONN_WAREHOUSE": json.dumps(warehouse.connection),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            **settings,
        }
        script = str(Path(__file__).with_name("one_task.py"))
        command = [sys.executable, "-W", "ignore", script, "observed.py", "observed", task_id, run_id, str(directory)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        log = (directory / "task.log").read_text() if (directory / "task.log").exists() else ""
        notes = [json.loads(line) for line in (directory / "notes.jsonl").read_text().splitlines()]
        facts = {name: value for note in notes for name, value in note.items()}
        assert "ended" in facts, f"{done.stdout}{done.stderr}{log}"
        returned = next((note["value"] for note in notes if note.get("xcom") == "return_value"), None)
        return Tried(facts["ended"]["state"], facts["ended"], returned, log + done.stdout + done.stderr)

    return run
