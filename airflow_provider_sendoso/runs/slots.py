"""Gives a worker's slot back while other runs have claimed all rows that are left, on Airflow 3.3 and newer.

Before 3.3, Airflow starts a task that asks to be rescheduled, and is no sensor, again at once; there it waits in its
slot. A rescheduled task begins from the start in the same try: its query is read again, and nobody gets two gifts.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_sendoso.runs.task import Task
from airflow_provider_sendoso.sending import Sender
from airflow_provider_sendoso.task_state import has_store, note, noted

_SITS = 10.0
"""Seconds without progress after which the slot is given back: a run that is alive has posted its claims by then."""

_WAITS = "sendoso_waits_for_claims"
"""Key in Airflow's task state store: since when the task waits, in which try, and for how many rows."""


def longest_sit(context: Any, claim_timeout: float) -> float:
    """
    Return for how many seconds a task waits in its slot for rows that other runs have claimed.

    :param context: the task's context.
    :param claim_timeout: seconds to wait, without progress, in all.
    """
    return min(_SITS, claim_timeout) if has_store(context) else claim_timeout


def reschedule_until_free(task: Task, sender: Sender, rows: int, claim_timeout: float) -> None:
    """
    Reschedule the task until the claims that it waits for lapse, unless ``claim_timeout`` is over.

    :param task: the task; what is free has been posted.
    :param sender: the sender, which has waited.
    :param rows: the number of rows that were not reached.
    :param claim_timeout: seconds to wait, without progress, in all.
    :raises AirflowRescheduleException: if the task is rescheduled.
    """
    if sender.claims_lapse_in is None or not rows or task.stopped() or not has_store(task.context):
        return
    from airflow.sdk.exceptions import AirflowRescheduleException

    now, number = time.time(), getattr(task.context["ti"], "try_number", 1)
    since, before = now - longest_sit(task.context, claim_timeout), noted(task.context, _WAITS)
    if isinstance(before, dict) and before.get("try") == number and before["rows"] <= rows:
        since = min(since, float(before["since"]))
    left = claim_timeout - (now - since)
    if left <= 0:
        return
    note(task.context, _WAITS, {"try": number, "rows": rows, "since": since})
    wait = timedelta(seconds=min(max(0.0, sender.claims_lapse_in) + 1, left))
    task.log.info(
        "Other runs, or killed tries of this task, had claimed the %d rows that are left. The worker's slot is given "
        "back for %.0f s, until their claims lapse; then this try goes on.",
        rows,
        wait.total_seconds(),
    )
    raise AirflowRescheduleException(datetime.now(UTC) + wait)  # type: ignore[no-untyped-call]
