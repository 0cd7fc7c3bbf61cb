"""Tasks that are looked at from outside: a batch from a table, and one gift."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetAlias

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator

with DAG("observed", schedule=None):
    BatchSendOperator(
        task_id="gifts",
        sql="SELECT * FROM champions",
        conn_id="warehouse",
        gift_id="gift-egift-coffee",
        message="Thank you, {first_name}.",
        dedupe_scope="q4 champions",
        outlets=[Asset("sendoso://app.sendoso.com/q4"), AssetAlias("campaigns")],
    )
    SendGiftOperator(
        task_id="thank",
        gift_id="gift-egift-coffee",
        recipient={"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        message="Thank you",
    )
