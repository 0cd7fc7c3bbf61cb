"""
A gift as a success callback: whoever a workspace was made for is sent one when it is ready.

Set the connections ``sendoso_default`` (client ID and client secret), ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine) and ``warehouse`` (a database with a table ``champions``), then trigger
the DAG with a customer's id.

The callback sends once per task and run: clearing the task, or Airflow running its callback twice, does not send a
second gift. What goes wrong in a callback is in the task's log and does not fail the task. A gift whose arrival matters
to the run is a task of its own: see ``thank_you.py``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, Param, task

from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier


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
    dag_id="welcome_gift",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    user_defined_macros={"customer": customer},
    params={
        "customer_id": Param("C-1", type="string", minLength=1),
    },
):

    @task(
        on_success_callback=SendosoNotifier(
            gift_id="gift-egift-coffee",
            recipient={
                "first_name": "{{ customer(params.customer_id).first_name }}",
                "last_name": "{{ customer(params.customer_id).last_name }}",
                "email": "{{ customer(params.customer_id).email }}",
            },
            message="Welcome, {{ customer(params.customer_id).first_name }}. Your workspace is ready.",
        )
    )
    def make_workspace() -> None:
        """Stands for the work that the gift is for."""

    make_workspace()
