"""What one try of a task notes for the next ones: in Airflow's ``task_state_store`` (Airflow 3.3 and newer)."""

from __future__ import annotations

from typing import Any


def has_store(context: Any) -> bool:
    """Return whether this Airflow can note anything for the next try."""
    return context.get("task_state_store") is not None


def noted(context: Any, key: str) -> Any:
    """Return what an earlier try has noted; ``None`` if there is nothing, or nothing any more."""
    return context["task_state_store"].get(key)


def note(context: Any, key: str, value: Any) -> None:
    """
    Note something for the next tries.

    :param context: of the task.
    :param key: by which it is found.
    :param value: plain JSON, and nothing personal: users see it.
    """
    # By default, Airflow drops what is older than [state_store] default_retention_days (30).
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # it is not in Airflow's stubs

    context["task_state_store"].set(key, value, retention=NEVER_EXPIRE)


def first_try(context: Any) -> int:
    """Return the number of the first try since the task was last cleared: a clear raises ``max_tries``."""
    ti = context.get("ti")
    tries, retries = getattr(ti, "max_tries", None), getattr(getattr(ti, "task", None), "retries", None)
    return (tries or 0) - (retries or 0) + 1
