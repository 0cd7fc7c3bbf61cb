"""
Two DAGs that an asset connects: one sends gifts, the other waits for them to arrive, whenever some were sent.

``send_gifts`` says with its outlet that it sends gifts, and Airflow then starts every DAG that is scheduled by that
asset. What started it, with the batch's counts and its ``batch_id``, the other DAG reads from the asset event. The URI
is ``sendoso://<account>/<dedupe_scope>``; to Airflow it is a name, so write the same one in both places.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine), unpause both DAGs, and trigger ``speaker_gifts``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

GIFTS = Asset("sendoso://app.sendoso.com/speakers-2026")

with DAG(dag_id="speaker_gifts", schedule=None, catchup=False, tags=["sendoso"], doc_md=__doc__):
    BatchSendOperator(
        task_id="send_gifts",
        recipients=[
            {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
            {"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com"},
        ],
        gift_id="gift-egift-coffee",
        message="Thank you for your talk, {first_name}.",
        dedupe_scope="speakers-2026",
        outlets=[GIFTS],
    )

with DAG(
    dag_id="speaker_gifts_arrived",
    schedule=[GIFTS],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
):

    @task
    def batches(**context: Any) -> list[str]:
        """Return the batches that have sent something; one run may answer to several events."""
        events = context.get("triggering_asset_events") or context["triggering_dataset_events"]  # Airflow 3, 2
        extras = [event.extra for of_one_asset in events.values() for event in of_one_asset]
        return sorted({extra["batch_id"] for extra in extras if extra["sent"]})

    SendStatusSensor.partial(
        task_id="arrived",
        deferrable=True,
        timeout=timedelta(days=7).total_seconds(),
    ).expand(batch_id=batches())
