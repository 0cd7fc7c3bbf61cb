"""The DAG of the links in ``test_system_ui.py``: tasks that take their time, and mapped ones of which one fails."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor


def recipient(first_name: str, **more: Any) -> dict[str, Any]:
    return {"first_name": first_name, "last_name": "Lovelace", "email": f"{first_name}@example.com".lower(), **more}


with DAG("links", schedule=None):
    gift: dict[str, Any] = {"gift_id": "gift-egift-coffee", "message": "Thank you."}
    # Through a connection with one request in ten seconds.
    BatchSendOperator(
        task_id="long",
        recipients=[recipient(f"Ada{number}") for number in range(60)],
        dedupe_scope="long {{ run_id }}",
        sendoso_conn_id="sendoso_slow",
        **gift,
    )
    # The gift does not go to France.
    mapped = SendGiftOperator.partial(task_id="mapped", **gift).expand(
        recipient=[recipient("Ada"), recipient("Blaise", address={"country": "FR"})]
    )
    # Waits in the triggerer for the one that was sent.
    mapped >> SendStatusSensor(
        task_id="deferred",
        send_id="{{ ti.xcom_pull(task_ids='mapped', map_indexes=0) }}",
        deferrable=True,
        trigger_rule="all_done",
    )
