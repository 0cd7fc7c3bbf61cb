"""The observed tasks: a batch from a table, and one gift."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetAlias

from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import (
    BatchSendOperator,
    EgiftLinksOperator,
    SendGiftOperator,
    SendosoToSqlOperator,
)
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor, SendStatusSensor

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
        message="Thank you, Ada Lovelace",
        metadata={"crm": "{{ 'ada@example.com' }}"},
    )
    BatchSendOperator(
        task_id="asked",
        sql="SELECT * FROM champions WHERE email = %(email)s",
        conn_id="warehouse",
        parameters={"email": "{{ 'ada@example' }}.com"},
        gift_id="gift-egift-coffee",
        message="Thank you, {first_name}.",
        dedupe_scope="asked",
    )
    BatchSendOperator(
        task_id="listed",
        recipients=[{"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com"}],
        gift_id="gift-egift-coffee",
        message="Thank you, Grace Hopper.",
        dedupe_scope="listed",
    )
    EgiftLinksOperator(
        task_id="links",
        sql="SELECT * FROM champions WHERE email = %(email)s",
        parameters={"email": "grace@example.com"},
        conn_id="warehouse",
        touch_id=1,
        dedupe_scope="links",
        links_table="links",
    )
    SendStatusSensor(task_id="arrived", send_id=["send-1"], timeout=1)
    SendosoEventSensor(task_id="new", object="touches", timeout=1, poke_interval=0.1)
    ResolveHeldOperator(task_id="resolve", dedupe_scope="listed", resolution="sent", why="seen")
    SendosoToSqlOperator(task_id="land", object="users", table="users", conn_id="warehouse")
