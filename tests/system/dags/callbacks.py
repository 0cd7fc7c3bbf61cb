"""The DAGs of ``test_system_callbacks.py``: a gift as the callback of a task, of a run, and of a missed deadline."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, task

from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier


def arguments(email: str, conn_id: str) -> dict[str, Any]:
    recipient = {"first_name": "Ada", "last_name": "Lovelace", "email": email}
    return {
        "gift_id": "gift-egift-coffee",
        "recipient": recipient,
        "message": "Run {{ dag_run.dag_id }}",
        "sendoso_conn_id": conn_id,
    }


def gift(email: str, conn_id: str) -> SendosoNotifier:
    return SendosoNotifier(**arguments(email, conn_id))


with DAG(
    "callbacks_send",
    schedule=None,
    on_success_callback=gift("run@example.com", "callbacks_send"),
):

    @task(on_success_callback=gift("task@example.com", "callbacks_send"))
    def send() -> None:
        pass

    send()

with DAG("callback_is_killed", schedule=None):

    @task(on_success_callback=gift("task@example.com", "callback_is_killed"))
    def send() -> None:
        pass

    send()

with DAG(
    "deadline_is_missed",
    schedule=None,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=1),
        callback=AsyncCallback(SendosoNotifier, kwargs=arguments("ada@example.com", "deadline_is_missed")),
    ),
):

    @task
    def send() -> None:
        time.sleep(10)

    send()
