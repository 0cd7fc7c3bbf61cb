"""
Every day's run waits for a campaign that was not there before, and says which it is.

The sensor's cursor is in the ledger: a run goes on where the last one ended, also with what appeared between the two,
and a retry gets what a killed try had found. The campaigns that are there at the first poll are not new. A day without
a new one is skipped.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine), and unpause the DAG.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor

with DAG(
    dag_id="new_campaign",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["sendoso"],
    doc_md=__doc__,
):
    campaigns = SendosoEventSensor(
        task_id="campaigns",
        object="touches",
        deferrable=True,
        poke_interval=float(os.environ.get("SENDOSO_POKE_INTERVAL", "300")),
        timeout=timedelta(hours=23).total_seconds(),
        soft_fail=True,
    )

    @task
    def announce(report: dict[str, Any]) -> list[str]:
        """Return the campaigns that are new, for whom it may concern."""
        return [event["id"] for event in report["events"]]

    announce(campaigns.output)
