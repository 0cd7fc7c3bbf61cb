"""
A campaign whose results are in a table: what became of every row, and a query for who has not received theirs.

Set the connections ``sendoso_default``, ``sendoso_ledger`` and ``warehouse``, as for ``champions_campaign.py``. The
user of ``warehouse`` reads ``champions``, and has to be able to create ``sendoso_results`` or to write to it.

The table has one row for each row of ``champions``, without anybody's name or address: ``row_ref`` leads back to them.
After every try of ``send_gifts`` it is rewritten; when the wait is over, ``status`` says what became of the gifts.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param, TriggerRule
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

POKE_INTERVAL = float(os.environ.get("SENDOSO_POKE_INTERVAL", "300"))

RESULTS = {"results_table": "sendoso_results", "conn_id": "warehouse"}

with DAG(
    dag_id="campaign_results",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={"campaign": Param("champions-2026-q4", type="string", minLength=1)},
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    send_gifts = BatchSendOperator(
        task_id="send_gifts",
        sql="SELECT * FROM champions ORDER BY customer_id",
        gift_id="gift-mug",
        message="Thank you for speaking up for us this year, {first_name}. This one is on us.",
        column_map={"first_name": "given_name", "last_name": "family_name"},
        # Without it the results say only which row it was, by its place in the query.
        row_ref="customer_id",
        dedupe_scope="{{ params.campaign }}",
        **RESULTS,
    )

    # By the scope rather than the batch: the gifts that earlier runs of the campaign have sent are followed as well.
    gifts_arrived = SendStatusSensor(
        task_id="gifts_arrived",
        dedupe_scope="{{ params.campaign }}",
        deferrable=True,
        poke_interval=POKE_INTERVAL,
        timeout=timedelta(days=21).total_seconds(),
        **RESULTS,
    )

    not_received = SQLExecuteQueryOperator(
        task_id="not_received",
        conn_id="warehouse",
        # The last run of a campaign says it for all of it: what earlier runs have sent is in it as already_sent.
        # Parameters are named as PostgreSQL and MySQL have them.
        sql="""
            SELECT row_ref, outcome, field, reason, status
            FROM sendoso_results
            WHERE dedupe_scope = %(campaign)s AND run_id = %(run_id)s
              AND outcome <> 'duplicate'
              AND (outcome NOT IN ('sent', 'already_sent') OR status IS NULL OR status <> 'delivered')
            ORDER BY row_ref
        """,
        parameters={"campaign": "{{ params.campaign }}", "run_id": "{{ run_id }}"},
        # Gifts that came back, or took too long, are what it is asked for.
        trigger_rule=TriggerRule.ALL_DONE,
    )

    send_gifts >> gifts_arrived >> not_received
