"""The DAG of ``test_system_plugin.py``: a campaign that takes its time, within limits of its own."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

PEOPLE = 60

with DAG("watched", schedule=None, params={"campaign": "q4 champions"}):
    BatchSendOperator(
        task_id="gifts",
        recipients=[
            {
                "first_name": "Ada",
                "last_name": "Lovelace",
                "email": f"ada{number}@example.com",
                "customer_id": f"C-{number}",
            }
            for number in range(PEOPLE)
        ],
        gift_id="gift-egift-coffee",
        message="Thank you, {first_name}.",
        row_ref="customer_id",
        dedupe_scope="{{ params.campaign }}",
        scope_max_sends=100,
        scope_max_cost=2000,
        on_held="continue",
        lease=10,
        sendoso_conn_id="watched",
    )
