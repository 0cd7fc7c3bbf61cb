"""
An eGift link for each champion of a warehouse table, for one's own mail: Sendoso makes the links and sends nothing.

Set the connections ``sendoso_default``, ``sendoso_ledger`` and ``warehouse``, as for ``champions_campaign.py``. The
user of ``warehouse`` reads ``champions``, and has to be able to create the two tables below, or to write to them.

A link is money: whoever has it can redeem it. The links are in the table ``sendoso_links``, and encrypted in the
ledger; in no log and in no XCom. So what is done with them here is done where they are, in the database: ``merge``
puts them beside the names, into a table that a mailing tool reads. Let nobody else read either.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param, TriggerRule
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from airflow_provider_sendoso.operators.sendoso import EgiftLinksOperator

with DAG(
    dag_id="egift_links",
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
    make_links = EgiftLinksOperator(
        task_id="make_links",
        sql="SELECT customer_id, email FROM champions ORDER BY customer_id",
        conn_id="warehouse",
        touch_id="{{ params.touch_id }}",
        row_ref="customer_id",
        dedupe_scope="{{ params.campaign }}",
        links_table="sendoso_links",
    )

    merge = SQLExecuteQueryOperator(
        task_id="merge",
        conn_id="warehouse",
        sql=[
            "DROP TABLE IF EXISTS coffee_mails",
            """
            CREATE TABLE coffee_mails AS
            SELECT champions.customer_id, champions.given_name, sendoso_links.email, sendoso_links.egift_link
            FROM sendoso_links JOIN champions ON champions.customer_id = sendoso_links.row_ref
            WHERE sendoso_links.batch_id = %(batch_id)s
            """,
        ],
        parameters={"batch_id": "{{ ti.xcom_pull(task_ids='make_links')['batch_id'] }}"},
        # Also after a batch that has failed: the links that it has made are there.
        trigger_rule=TriggerRule.ALL_DONE,
    )

    make_links >> merge
