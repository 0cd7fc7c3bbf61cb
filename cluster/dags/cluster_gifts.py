"""The DAG of the cluster: people in mapped shards over one scope, and a wait in the triggerer for their gifts."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from cluster.settings import CLAIM_TIMEOUT, DAG_ID, LEASE, POKE_INTERVAL, SETTLE_TIME, SHARDS

with DAG(
    DAG_ID,
    schedule=None,
    max_active_runs=100,
    default_args={"retries": 20, "retry_delay": timedelta(seconds=2), "dedupe_scope": "{{ dag_run.conf['scope'] }}"},
):
    gifts = BatchSendOperator.partial(
        task_id="gifts",
        sql="""
            SELECT email, first_name, last_name, gift_id, touch_id
            FROM people JOIN invited USING (email)
            WHERE run_id = '{{ run_id }}' AND shard = %(shard)s
            ORDER BY email
        """,
        conn_id="warehouse",
        message="Thank you, {first_name}.",
        on_absent="{{ dag_run.conf['on_absent'] }}",
        lease=LEASE,
        claim_timeout=CLAIM_TIMEOUT,
        settle_time=SETTLE_TIME,
    ).expand(parameters=[{"shard": shard} for shard in range(SHARDS)])

    SendStatusSensor(
        task_id="shipped",
        target_statuses=("shipped",),
        deferrable=True,
        poke_interval=POKE_INTERVAL,
        timeout=600,
        trigger_rule="all_done",
    ).set_upstream(gifts)
