"""A DAG that a delivered gift starts, in a real Airflow whose triggerer watches; the cursor is in the asset's store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]


def test_a_gift_that_is_delivered_starts_the_dag_that_watches(stage: Callable[..., Any]) -> None:
    with stage("delivered_event", "sendoso_default") as here:
        sandbox, api = here.sandbox, here.airflow.api

        def polls() -> int:
            return sum(request.method == "GET" and request.path == "/api/v3/sends" for request in sandbox.requests)

        def send(name: str) -> str:
            """As somebody else does it."""
            credentials = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
            token = requests.post(f"{sandbox.url}/oauth/token", json=credentials, timeout=60).json()["access_token"]
            body = {"first_name": name, "last_name": "L", "email": f"{name}@example.com", "message": "Hi"}
            answer = requests.post(
                f"{sandbox.url}/api/v3/sends",
                json={"send": body | {"gift_id": "gift-donation-trees"}},
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            ).json()
            return str(answer.get("id") or answer["send"]["id"])

        def follow_ups() -> list[list[str]]:
            tasks = api("GET", "dags/delivered_event/dagRuns/~/taskInstances")["task_instances"]
            return [
                api("GET", f"dags/delivered_event/dagRuns/{task['dag_run_id']}/taskInstances/follow_up/{XCOM}")["value"]
                for task in tasks
                if task["state"] == "success"
            ]

        here.wait_until(lambda: polls() >= 2, "the triggerer polls")
        late = send("late")  # the sandbox's gifts arrive at once
        # Other tests' gifts start it, too: they share the connection's name.
        here.wait_until(lambda: [late] in follow_ups(), "the DAG that follows up has run")

        (asset,) = [asset for asset in api("GET", "assets")["assets"] if asset["name"] == "gifts_delivered"]
        events = api("GET", f"assets/events?asset_id={asset['id']}")["asset_events"]
        (event,) = (event for event in events if late in str(event))
        assert event["extra"]["payload"]["counts"] == {"status_changed": 1}
        assert "late@" not in str(events)
        assert here.ask_ledger("SELECT name FROM sendoso_cursors") == []


XCOM = "xcomEntries/return_value"
