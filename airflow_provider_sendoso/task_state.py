"""Notes that a try of a task leaves for later tries, in Airflow's ``task_state_store`` (Airflow 3.3 and newer)."""

from __future__ import annotations

from typing import Any


def has_store(context: Any) -> bool:
    """Return whether this Airflow can store notes for later tries."""
    return context.get("task_state_store") is not None


def noted(context: Any, key: str) -> Any:
    """Return the note of an earlier try; ``None`` if there is none, or if it was deleted."""
    return context["task_state_store"].get(key)


def note(context: Any, key: str, value: Any) -> None:
    """
    Store a note for later tries.

    :param context: the task's context.
    :param key: the note's key.
    :param value: plain JSON without personal data, because Airflow's users can see it.
    """
    # By default, Airflow drops what is older than [state_store] default_retention_days (30).
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # it is not in Airflow's stubs

    context["task_state_store"].set(key, value, retention=NEVER_EXPIRE)


def first_try(context: Any) -> int:
    """Return the number of the first try since the task was last cleared: a clear raises ``max_tries``."""
    ti = context.get("ti")
    tries, retries = getattr(ti, "max_tries", None), getattr(getattr(ti, "task", None), "retries", None)
    return (tries or 0) - (retries or 0) + 1
