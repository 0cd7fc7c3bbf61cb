"""
One gift for one person, and a wait until it has arrived.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine), then trigger the DAG with the person's details.

By default the gift is sent once per DAG run: clearing or retrying the task does not send a second one, triggering the
DAG again does. Set ``dedupe_scope`` to something that outlives a run to make it once and for all.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

with DAG(
    dag_id="thank_you",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={
        "first_name": Param("Ada", type="string", minLength=1),
        "last_name": Param("Lovelace", type="string", minLength=1),
        "email": Param("ada@example.com", type="string", format="email"),
    },
):
    thank = SendGiftOperator(
        task_id="thank",
        # An eGift goes out by e-mail; a parcel would need recipient["address"] too.
        gift_id="gift-egift-books",
        recipient={
            "first_name": "{{ params.first_name }}",
            "last_name": "{{ params.last_name }}",
            "email": "{{ params.email }}",
        },
        message="Thank you for your time today, {{ params.first_name }}.",
    )

    SendStatusSensor(
        task_id="arrived",
        send_id=thank.output,
        deferrable=True,
        timeout=timedelta(days=7).total_seconds(),
    )
