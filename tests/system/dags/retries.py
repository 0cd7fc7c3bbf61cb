"""The DAGs of ``test_system_retries.py``: the same task with the retry policy and without it."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.retries import SendosoRetryPolicy

for dag_id, policy in (("retried_by_policy", SendosoRetryPolicy()), ("retried_without_policy", None)):
    with DAG(dag_id, schedule=None):
        SendGiftOperator(
            task_id="send",
            gift_id="gift-egift-coffee",
            recipient={"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
            message="Thank you",
            retries=2,
            retry_delay=timedelta(hours=1),
            retry_policy=policy,
            sendoso_conn_id=dag_id,
        )
