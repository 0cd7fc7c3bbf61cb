"""
``airflow dags test``: the trigger runs within the task, and finds connections that were made in the UI; the log of what
fails ends with its error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sendoso.sandbox import Sandbox

DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}

with DAG("dags_test", schedule=None, default_args={"sendoso_conn_id": "from_the_ui"}):
    thank = SendGiftOperator(task_id="thank", gift_id="gift-egift-books", recipient=ADA, message="Thank you.")
    SendStatusSensor(
        task_id="arrived",
        send_id=thank.output,
        target_statuses=("processing",),
        poke_interval=1,
        timeout=60,
        deferrable=True,
    )
    SendGiftOperator(task_id="misspelt", gift_id="gift-egift-boks", recipient=ADA, message="Thank you.")
"""


@pytest.mark.slow
def test_a_trigger_finds_the_connections_of_the_ui_and_an_error_is_the_last_thing_in_the_log(
    airflow: Any, tmp_path: Path
) -> None:
    airflow.migrate()
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "dags_test.py").write_text(DAG_FILE)
    with Sandbox(step=1.0) as sendoso:
        sandbox = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
        ledger = {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}
        extra = json.dumps({"ledger_conn_id": "ledger_from_the_ui"})
        airflow.cli("connections", "add", "from_the_ui", "--conn-json", json.dumps(sandbox | {"extra": extra}))
        airflow.cli("connections", "add", "ledger_from_the_ui", "--conn-json", json.dumps(ledger))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "airflow", "dags", "test", "dags_test"],
            env=airflow.environment | {"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        said = done.stdout + done.stderr
        assert "Sends by status: 1 processing" in said, said[-5000:]
        assert len(sendoso.sends) == 1
        last = said.rindex("SendosoNotFoundError: ")
        assert "did you mean 'gift-egift-books'" in said[last : last + 500]
        assert said.rindex("Traceback (most recent call last)") < said.rindex('  File "') < last
