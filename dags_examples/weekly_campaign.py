"""
A coffee for each champion, every Monday at six: at most one per person and week, whatever is run in between.

Set the connections ``sendoso_default`` (client ID and client secret), ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine) and ``warehouse`` (a database with a table ``champions``).

- A retry, a clear, and a run that is triggered by hand in the same week send only to people who were added since.
- A backfill sends one gift for each week that it covers and that had none. Let the query choose who deserves a gift *in
  the week*, by ``data_interval_end``, if that is not what you want.
- Unpausing starts at most one run, that of the last Monday (``catchup=False``, which is not the default on Airflow 2).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.scopes import weekly

with DAG(
    dag_id="weekly_campaign",
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["sendoso"],
    doc_md=__doc__,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    send_gifts = BatchSendOperator(
        task_id="send_gifts",
        sql="SELECT * FROM champions ORDER BY customer_id",
        conn_id="warehouse",
        gift_id="gift-egift-coffee",
        message="Happy Monday, {first_name}. This one is on us.",
        column_map={"first_name": "given_name", "last_name": "family_name"},
        # Logs name a row by this column, so it must not be personal.
        row_ref="customer_id",
        dedupe_scope=weekly("monday-coffee"),
        max_sends=500,
    )
