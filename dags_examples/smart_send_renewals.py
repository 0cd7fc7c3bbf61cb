"""
A gift that Sendoso picks, up to 50 USD, for everybody who has renewed: each waits for a manager's approval.

Set the connections ``sendoso_default`` (client ID, client secret; in its extra the scope ``public write smartsend``),
``sendoso_ledger`` (a PostgreSQL or MySQL database, or a SQLite file for a single machine) and ``warehouse`` (a database
with a table ``renewals``: ``customer_id``, ``first_name``, ``last_name``, ``email``, ``country``).

``require_approval`` holds each send in Sendoso's Send Tracker, where a manager approves or cancels it; ``approved``
waits for that, and says how many are on hold. Sendoso asks the recipients for their addresses.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

POKE_INTERVAL = float(os.environ.get("SENDOSO_POKE_INTERVAL", "300"))

with DAG(
    dag_id="smart_send_renewals",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={
        "campaign": Param("renewals-2026", type="string", minLength=1),
        "max_cost": Param(5_000, type="number", minimum=0, description="For all of it, in USD"),
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    send_gifts = BatchSendOperator(
        task_id="send_gifts",
        sql="SELECT * FROM renewals ORDER BY customer_id",
        conn_id="warehouse",
        smart_send=True,
        # The most that one gift may cost, in whole USD; every limit on costs counts it in full.
        price_lte_usd=50,
        message="Thank you for another year, {first_name}.",
        require_approval=True,
        row_ref="customer_id",
        dedupe_scope="{{ params.campaign }}",
        max_cost="{{ params.max_cost }}",
    )

    approved = SendStatusSensor(
        task_id="approved",
        dedupe_scope="{{ params.campaign }}",
        target_statuses=("processing",),
        timeout=timedelta(days=14).total_seconds(),
        poke_interval=POKE_INTERVAL,
        deferrable=True,
    )

    send_gifts >> approved
