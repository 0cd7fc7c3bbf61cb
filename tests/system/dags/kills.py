"""The DAGs of ``test_system_kills.py``: a batch for each story, under the story's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator


def batch(dag_id: str, people: int, schedule: str | None = None, **arguments: Any) -> None:
    defaults = {
        "max_in_flight": 2,
        "retries": 9,
        "retry_delay": timedelta(seconds=1),
        "on_held": "continue",
        "lease": 10,
    }
    # It ends in the past: what is scheduled runs in a backfill and never by itself.
    days = {"start_date": datetime(2025, 3, 1, tzinfo=UTC), "end_date": datetime(2025, 3, 3, tzinfo=UTC)}
    with DAG(dag_id, schedule=schedule, catchup=False, **days):
        BatchSendOperator(
            task_id="send",
            recipients=[
                {"first_name": "Ada", "last_name": "Lovelace", "email": f"ada{number}@example.com"}
                for number in range(people)
            ],
            gift_id="gift-egift-coffee",
            message="Thank you, {first_name}.",
            dedupe_scope="all runs",
            sendoso_conn_id=dag_id,
            **defaults | arguments,
        )


batch("task_is_killed", 12)
batch("task_is_killed_and_sends_cannot_be_listed", 12, on_held="fail")
batch("supervisor_is_killed", 40)
batch("machine_is_frozen_and_thaws_beside_the_next_try", 40)
batch("task_is_cleared_while_it_runs", 24)
batch("user_marks_it_failed", 40)
batch("runs_and_backfill_share_a_scope", 150, schedule="@daily", max_in_flight=4)
batch("execution_times_out", 80, execution_timeout=timedelta(minutes=10), retry_delay=timedelta(seconds=10))
batch("task_gets_sigterm", 24)
batch("ledger_is_another_one", 24, retry_delay=timedelta(seconds=10))
batch("another_run_died_with_claims", 60, lease=30, retries=0)
batch("send_never_arrived", 3, on_absent="resend", settle_time=2, on_held="fail")
