"""
A campaign that a person approves before any money is spent: what would be sent, what it would cost, then exactly that.

``preview`` reads and validates the rows, counts and prices what would be sent, and sends nothing. ``approve`` shows
count and cost in the Airflow UI (*Browse > Required Actions*) and waits for a person. ``send_gifts`` then sends what
was approved and refuses anything else: if the table, the message or who was sent a gift already has changed in the
meantime, it fails before its first send, and the DAG is run again.

It uses the connections of ``champions_campaign.py``, and needs Airflow 3.1 or newer for the approval; in older versions
this file defines no DAG. What shipping a parcel costs is not in Sendoso's catalogue, so the estimate is the DAG's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except ImportError:
    ApprovalOperator = None

CAMPAIGN: dict[str, Any] = {
    "sql": "SELECT * FROM champions ORDER BY customer_id",
    "conn_id": "warehouse",
    "gift_id": "gift-mug",
    "message": "Thank you for speaking up for us this year, {first_name}. This one is on us.",
    "column_map": {"first_name": "given_name", "last_name": "family_name"},
    "row_ref": "customer_id",
    "dedupe_scope": "{{ params.campaign }}",
    "shipping_estimate": "{{ params.shipping_estimate }}",
}

QUESTION = """
{% set preview = ti.xcom_pull(task_ids='preview') %}
**{{ preview['would_send'] }} gifts** for an estimated **{{ preview['estimated_cost'] }} {{ preview['currency'] }}**
(catalogue prices, fulfilment and {{ params.shipping_estimate }} for shipping each).

Already sent: {{ preview['already_sent'] }}, invalid: {{ preview['invalid'] }}, balance: {{ preview['balance'] }}.
"""

if ApprovalOperator is not None:
    with DAG(
        dag_id="approved_campaign",
        schedule=None,
        catchup=False,
        tags=["sendoso"],
        doc_md=__doc__,
        params={
            "campaign": Param("approved-2026-q4", type="string", minLength=1),
            "shipping_estimate": Param(9.5, type="number", minimum=0, description="Per parcel, in USD"),
            "max_cost": Param(10_000, type="number", minimum=0, description="For all of it, in USD"),
        },
        default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    ):
        preview = BatchSendOperator(task_id="preview", dry_run=True, **CAMPAIGN)

        approve = ApprovalOperator(
            task_id="approve",
            subject="Send the gifts of {{ params.campaign }}?",
            body=QUESTION,
            response_timeout=timedelta(days=3),
        )

        send_gifts = BatchSendOperator(
            task_id="send_gifts",
            approved_fingerprint="{{ ti.xcom_pull(task_ids='preview')['fingerprint'] }}",
            max_cost="{{ params.max_cost }}",
            **CAMPAIGN,
        )

        preview >> approve >> send_gifts
