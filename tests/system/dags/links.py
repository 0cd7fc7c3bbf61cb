"""The DAG of the links in ``test_system_ui.py``: a task that takes its time, and mapped ones of which one fails."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator


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
    SendGiftOperator.partial(task_id="mapped", **gift).expand(
        recipient=[recipient("Ada"), recipient("Blaise", address={"country": "FR"})]
    )
