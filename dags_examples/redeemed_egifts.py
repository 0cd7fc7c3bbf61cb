"""
A campaign's eGifts, a wait until they are redeemed, and a query for those that are not.

Set the connections ``sendoso_default``, ``sendoso_ledger`` and ``warehouse``, as for ``campaign_results.py``.

An eGift that was opened is ``delivered``, and nobody has used it yet. So the sensor waits for Sendoso's own word,
``redeemed``. ``status_word`` in the results has that word for each send, beside its status: an eGift that Sendoso holds
until a manager approves it is ``pending``, with ``insufficient funds`` or ``suspicious email``.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param, TriggerRule
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

POKE_INTERVAL = float(os.environ.get("SENDOSO_POKE_INTERVAL", "300"))
TIMEOUT = float(os.environ.get("SENDOSO_WAIT_TIMEOUT", timedelta(days=21).total_seconds()))

RESULTS = {"results_table": "sendoso_results", "conn_id": "warehouse"}

with DAG(
    dag_id="redeemed_egifts",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={
        "campaign": Param("coffee-2026-q4", type="string", minLength=1),
        "touch_id": Param("102", type="string", minLength=1, description="A campaign of Sendoso's that has eGifts."),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    send_egifts = BatchSendOperator(
        task_id="send_egifts",
        sql="SELECT customer_id, email FROM champions ORDER BY customer_id",
        touch_id="{{ params.touch_id }}",
        row_ref="customer_id",
        dedupe_scope="{{ params.campaign }}",
        **RESULTS,
    )

    redeemed = SendStatusSensor(
        task_id="redeemed",
        dedupe_scope="{{ params.campaign }}",
        target_statuses=("redeemed",),
        deferrable=True,
        poke_interval=POKE_INTERVAL,
        timeout=TIMEOUT,
        # Three weeks are what we wait; who has not redeemed by then is what the query is for.
        soft_fail=True,
        **RESULTS,
    )

    not_redeemed = SQLExecuteQueryOperator(
        task_id="not_redeemed",
        conn_id="warehouse",
        sql="""
            SELECT row_ref, send_id, status, status_word
            FROM sendoso_results
            WHERE dedupe_scope = %(campaign)s AND run_id = %(run_id)s
              AND outcome IN ('sent', 'already_sent')
              AND (status_word IS NULL OR LOWER(status_word) NOT IN ('redeemed', 'used', 'used/redeemed'))
            ORDER BY row_ref
        """,
        parameters={"campaign": "{{ params.campaign }}", "run_id": "{{ run_id }}"},
        trigger_rule=TriggerRule.ALL_DONE,
    )

    send_egifts >> redeemed >> not_redeemed
