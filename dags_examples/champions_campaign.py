"""
One gift for each champion of a warehouse table: the table, the batch, and the wait until all gifts have arrived.

Set three connections, in the UI, in a secrets backend or as environment variables ``AIRFLOW_CONN_<ID>``:

- ``sendoso_default``: type ``sendoso``, login and password are the client ID and client secret of your Sendoso app;
- ``sendoso_ledger``: a PostgreSQL or MySQL database (or a SQLite file, for a single machine) where the provider
  remembers who was sent what. Keep it: it is what makes running this DAG again harmless;
- ``warehouse``: the database that has the table ``champions``, any that Airflow has a SQL hook for.

Run it as often as you like. Within one campaign nobody is sent a second gift, whether a task is retried, cleared or
killed, or the DAG is run again tomorrow; people who were added to the table in the meantime are sent theirs.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

# Parcels take days, so five minutes between two looks is plenty. `make demo` runs this very file against a local
# Sendoso whose parcels take seconds, and sets the variable so as not to wait five minutes for them.
POKE_INTERVAL = float(os.environ.get("SENDOSO_POKE_INTERVAL", "300"))

with DAG(
    dag_id="champions_campaign",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={
        "campaign": Param(
            "champions-2026-q4",
            type="string",
            minLength=1,
            description="At most one gift per person within it. Another name is another gift for everybody.",
        )
    },
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
):
    send_gifts = BatchSendOperator(
        task_id="send_gifts",
        sql="SELECT * FROM champions ORDER BY customer_id",
        conn_id="warehouse",
        gift_id="gift-mug",
        message="Thank you for speaking up for us this year, {first_name}. This one is on us.",
        # Columns with the names of Sendoso's fields (email, company, address_line1, …) need no mention.
        column_map={"first_name": "given_name", "last_name": "family_name"},
        # Logs name a row by this column, so it must not be personal.
        row_ref="customer_id",
        dedupe_scope="{{ params.campaign }}",
    )

    gifts_arrived = SendStatusSensor(
        task_id="gifts_arrived",
        batch_id="{{ ti.xcom_pull(task_ids='send_gifts')['batch_id'] }}",
        deferrable=True,
        poke_interval=POKE_INTERVAL,
        timeout=timedelta(days=21).total_seconds(),
    )

    send_gifts >> gifts_arrived
