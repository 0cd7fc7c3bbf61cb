"""
The products of Sendoso's marketplace in a table, refreshed every week: who plans gifts chooses from it by SQL.

Set the connections ``sendoso_default`` (client ID, client secret, and in its extra the scope
``public write marketplace``) and ``warehouse`` (any SQL database). Nothing is sent. A row is a variant, which is what
``marketplace_variant_id`` takes; its price is Sendoso's estimate for all of it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import SendosoToSqlOperator

with DAG(
    dag_id="marketplace_catalogue",
    schedule="0 5 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["sendoso"],
    doc_md=__doc__,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    SendosoToSqlOperator(
        task_id="land_products",
        object="marketplace_products",
        table="sendoso_products",
        conn_id="warehouse",
    )
