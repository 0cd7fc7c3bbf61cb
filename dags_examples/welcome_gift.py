"""
A gift as a success callback: whoever a workspace was made for is sent one when it is ready.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine), then trigger the DAG with the person's details.

The callback sends once per task and run: clearing the task, or Airflow running its callback twice, does not send a
second gift. What goes wrong in a callback is in the task's log and does not fail the task. A gift whose arrival matters
to the run is a task of its own: see ``thank_you.py``.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier

with DAG(
    dag_id="welcome_gift",
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

    @task(
        on_success_callback=SendosoNotifier(
            gift_id="gift-egift-coffee",
            recipient={
                "first_name": "{{ params.first_name }}",
                "last_name": "{{ params.last_name }}",
                "email": "{{ params.email }}",
            },
            message="Welcome, {{ params.first_name }}. Your workspace is ready.",
        )
    )
    def make_workspace() -> None:
        """Stands for the work that the gift is for."""

    make_workspace()
