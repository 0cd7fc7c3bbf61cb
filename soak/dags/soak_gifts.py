"""The DAG of the soak: a batch whose people are chosen by its run, and whose knobs are small so that much happens."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from soak.settings import CLAIM_TIMEOUT, DAG_ID, LEASE, MIN_DAYS, SETTLE_TIME, TASK_ID

with DAG(DAG_ID, schedule=None):
    BatchSendOperator(
        task_id=TASK_ID,
        sql="SELECT * FROM people JOIN invited USING (email) WHERE run_id = '{{ run_id }}' ORDER BY email",
        conn_id="warehouse",
        message="Thank you, {first_name}.",
        dedupe_scope="{{ dag_run.conf['dedupe_scope'] }}",
        scope_max_sends="{{ dag_run.conf['scope_max_sends'] }}",
        min_days_between_gifts=MIN_DAYS,
        on_absent="{{ dag_run.conf['on_absent'] }}",
        lease=LEASE,
        claim_timeout=CLAIM_TIMEOUT,
        settle_time=SETTLE_TIME,
        retries=1,
    )
