"""
What Sendoso has sent to whom, and how far it came, beside one's own customers in the warehouse.

Set the connections ``sendoso_default`` (client ID and client secret) and ``warehouse``, whose user reads ``champions``
and may create tables. No ledger is needed: nothing is sent.

``land_sends`` keeps ``sendoso_sends`` up to date with the Send Tracker: everything that the organisation has sent, by
whatever application or person, one row each; and ``sendoso_send_statuses`` with when each of them came how far. A run
reads what is new or may still change; set ``full`` to read it all, say once a week. Of the recipients their e-mail is
landed, which the join needs, and nothing else: see ``columns``.

``attribute`` makes a table without personal data: for each customer what was sent, what arrived, and what it cost.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_sendoso.operators.sendoso import SendosoToSqlOperator

with DAG(
    dag_id="send_attribution",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["sendoso"],
    doc_md=__doc__,
    params={"full": Param(False, type="boolean", description="Read the Send Tracker to its end")},
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    land_sends = SendosoToSqlOperator(
        task_id="land_sends",
        object="campaign_sends",
        table="sendoso_sends",
        status_table="sendoso_send_statuses",
        conn_id="warehouse",
        columns=["touch_id", "touch_name", "recipient_email", "current_total_cost", "currency", "sent_via"],
        full="{{ params.full }}",
    )

    attribute = SQLExecuteQueryOperator(
        task_id="attribute",
        conn_id="warehouse",
        # One transaction, so that readers never see a partly written table.
        sql=[
            """
            CREATE TABLE IF NOT EXISTS send_attribution (
                customer_id VARCHAR(190), touch_id VARCHAR(190), sends INTEGER, delivered INTEGER, cost NUMERIC(18, 4),
                last_sent_at TIMESTAMP, last_delivered_at TIMESTAMP
            )
            """,
            "DELETE FROM send_attribution",
            """
            INSERT INTO send_attribution
            SELECT customers.customer_id, sends.touch_id, COUNT(*),
                   SUM(CASE WHEN sends.status = 'delivered' THEN 1 ELSE 0 END), SUM(sends.current_total_cost),
                   MAX(sends.created_at), MAX(arrived.at)
            FROM champions AS customers
            JOIN sendoso_sends AS sends ON LOWER(sends.recipient_email) = LOWER(customers.email)
            LEFT JOIN (
                SELECT send_id, MIN(occurred_at) AS at
                FROM sendoso_send_statuses WHERE status = 'delivered' GROUP BY send_id
            ) AS arrived ON arrived.send_id = sends.id
            GROUP BY customers.customer_id, sends.touch_id
            """,
        ],
    )

    land_sends >> attribute
