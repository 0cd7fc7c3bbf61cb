"""
One gift for one person, and a wait until it has arrived.

Set the connections ``sendoso_default`` (client ID and client secret), ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine) and ``warehouse`` (a database with a table ``champions``), then trigger
the DAG with a customer's id.

By default the gift is sent once per DAG run: clearing or retrying the task does not send a second one, triggering the
DAG again does. Set ``dedupe_scope`` to something that outlives a run to make it once and for all.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, Param

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor


@cache
def customer(customer_id: str) -> dict[str, str]:
    """
    Look a customer up in the task, once for all of its templates.

    What a run is triggered with stays in its conf and in Airflow's audit log, so that is the id alone.
    """
    warehouse: Any = BaseHook.get_hook("warehouse")
    columns = "given_name, family_name, email"
    query = f"SELECT {columns} FROM champions WHERE customer_id = {warehouse.placeholder}"  # noqa: S608
    row = warehouse.get_first(query, parameters=[customer_id])
    if row is None:
        raise LookupError(f"There is no customer {customer_id}.")
    return dict(zip(("first_name", "last_name", "email"), row, strict=True))


with DAG(
    dag_id="thank_you",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    user_defined_macros={"customer": customer},
    params={
        "customer_id": Param("C-1", type="string", minLength=1),
    },
):
    thank = SendGiftOperator(
        task_id="thank",
        # An eGift goes out by e-mail; a parcel would need recipient["address"] too.
        gift_id="gift-egift-books",
        recipient={
            "first_name": "{{ customer(params.customer_id).first_name }}",
            "last_name": "{{ customer(params.customer_id).last_name }}",
            "email": "{{ customer(params.customer_id).email }}",
        },
        message="Thank you for your time today, {{ customer(params.customer_id).first_name }}.",
    )

    SendStatusSensor(
        task_id="arrived",
        send_id=thank.output,
        deferrable=True,
        timeout=timedelta(days=7).total_seconds(),
    )
