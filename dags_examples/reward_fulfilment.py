"""
Rewards that people have asked for, fulfilled by campaigns made in Sendoso: each request once.

A portal for advocates or customers writes what somebody has redeemed into a table, and each reward is a campaign in
Sendoso, as Base.ai's rewards are. Every quarter of an hour this DAG sends what has been asked for since, and writes
next to each request what became of it. A request that Sendoso refused, or that cannot be sent as it is, says why;
correct the row, and the next run takes it up.

Set the connections ``sendoso_default``, ``sendoso_ledger`` and ``warehouse``, which holds a table like this::

    CREATE TABLE reward_requests (
        request_id VARCHAR(50) PRIMARY KEY, touch_id VARCHAR(50) NOT NULL, email VARCHAR(255) NOT NULL,
        first_name VARCHAR(255), last_name VARCHAR(255), mobile_no VARCHAR(50), address_line1 VARCHAR(255),
        city VARCHAR(255), state VARCHAR(50), postal_code VARCHAR(50), country VARCHAR(2),
        outcome VARCHAR(20), reason VARCHAR(500), send_id VARCHAR(190))

Its user has to be able to create ``reward_results``, or to write to it.
"""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG, TriggerRule
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

with DAG(
    dag_id="reward_fulfilment",
    schedule=timedelta(minutes=15),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["sendoso"],
    doc_md=__doc__,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    fulfil = BatchSendOperator(
        task_id="fulfil",
        # What is held is asked for again, and looked for in Sendoso; it is not sent again on a guess.
        sql="""
            SELECT request_id, touch_id, email, first_name, last_name, mobile_no,
                   address_line1, city, state, postal_code, country
            FROM reward_requests
            WHERE outcome IS NULL OR outcome NOT IN ('sent', 'already_sent')
            ORDER BY request_id
        """,
        # One gift per request and not per person, because a person may redeem several rewards.
        recipient_key="request_id",
        row_ref="request_id",
        dedupe_scope="rewards",
        # Of a parcel's reward without an address, Sendoso asks the recipient for it.
        address_confirmation="email",
        on_held="continue",
        results_table="reward_results",
        conn_id="warehouse",
    )

    mark = SQLExecuteQueryOperator(
        task_id="mark",
        conn_id="warehouse",
        sql="""
            UPDATE reward_requests SET
                outcome = (SELECT outcome FROM reward_results
                           WHERE run_id = %(run_id)s AND row_ref = request_id),
                reason = (SELECT COALESCE(field, '') || COALESCE(' ' || reason, '') FROM reward_results
                          WHERE run_id = %(run_id)s AND row_ref = request_id),
                send_id = (SELECT send_id FROM reward_results
                           WHERE run_id = %(run_id)s AND row_ref = request_id)
            WHERE request_id IN (SELECT row_ref FROM reward_results WHERE run_id = %(run_id)s)
        """,
        parameters={"run_id": "{{ run_id }}"},
        # Also after a batch that has failed: what it has sent is sent.
        trigger_rule=TriggerRule.ALL_DONE,
    )

    fulfil >> mark
