"""A DAG that an asset starts, in a real Airflow: it runs when gifts were sent, and knows how many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]

URI = "sendoso://app.sendoso.com/speakers-2026"


def test_a_batch_that_sent_gifts_starts_the_dag_that_waits_for_its_asset(stage: Callable[..., Any]) -> None:
    with stage("speaker_gifts", "sendoso_default") as here:
        api = here.airflow.api
        here.airflow.wait_for_dags({"speaker_gifts_arrived"})
        run_id = here.trigger()

        def arrived() -> list[dict[str, Any]]:
            tasks = api("GET", "dags/speaker_gifts_arrived/dagRuns/~/taskInstances")["task_instances"]
            return [task for task in tasks if task["task_id"] == "arrived" and task["state"] == "deferred"]

        (waiting,) = here.wait_until(arrived, "the other DAG waits for the gifts")
        assert here.emails() == ["ada@example.com", "grace@example.com"]
        task = f"dags/speaker_gifts/dagRuns/{run_id}/taskInstances/send_gifts"
        summary = api("GET", f"{task}/xcomEntries/return_value")["value"]
        (asset,) = [asset for asset in api("GET", "assets")["assets"] if asset["uri"] == URI]
        (event,) = api("GET", f"assets/events?asset_id={asset['id']}")["asset_events"]
        counts = ("batch_id", "rows", "sent", "already_sent", "held")
        assert {name: event["extra"][name] for name in counts} == {name: summary[name] for name in counts}
        assert event["extra"]["sent"] == 2
        assert "ada" not in str(event["extra"]).casefold()

        batches = f"dags/speaker_gifts_arrived/dagRuns/{waiting['dag_run_id']}/taskInstances/batches"
        assert api("GET", f"{batches}/xcomEntries/return_value")["value"] == [summary["batch_id"]]
