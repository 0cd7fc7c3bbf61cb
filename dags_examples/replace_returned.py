"""
Gifts of a campaign that failed or came back, replaced once each, to the addresses that are right now.

``campaign_results.py`` leaves a results table behind in which the sensor has noted what came back. Somebody finds out
the new addresses and writes them into ``new_addresses``; then trigger this DAG, as often as you like. A gift is
replaced only if it has failed or come back, and at most once: a row whose gift was replaced already counts as
``already_sent``.

Set the connections ``sendoso_default``, ``sendoso_ledger`` and ``warehouse``, which holds the results table and one
like this::

    CREATE TABLE new_addresses (
        customer_id VARCHAR(50) PRIMARY KEY, first_name VARCHAR(255), last_name VARCHAR(255), email VARCHAR(255),
        address_line1 VARCHAR(255), city VARCHAR(255), state VARCHAR(50), postal_code VARCHAR(50), country VARCHAR(2))
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

with DAG(
    dag_id="replace_returned",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={"campaign": Param("champions-2026-q4", type="string", minLength=1)},
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    BatchSendOperator(
        task_id="send_again",
        # Several runs of a campaign have a row for the same send: DISTINCT makes one of them.
        sql="""
            SELECT DISTINCT results.send_id AS resend_of, new_addresses.*
            FROM sendoso_results AS results
            JOIN new_addresses ON new_addresses.customer_id = results.row_ref
            WHERE results.dedupe_scope = %(campaign)s AND results.status IN ('failed', 'returned')
            ORDER BY new_addresses.customer_id
        """,
        parameters={"campaign": "{{ params.campaign }}"},
        conn_id="warehouse",
        gift_id="gift-mug",
        message="The post brought the first one back, {first_name}. Here it is once more.",
        row_ref="customer_id",
        dedupe_scope="{{ params.campaign }}/replaced",
    )
