"""What is known of who has told a task to stop, for its error."""

from __future__ import annotations

from typing import Any

_NOT_KNOWN = "its process or its worker got SIGTERM: a worker that shuts down, or someone who has ended the process"


def stopped_by(context: Any) -> str:
    """
    Return who has told the task to stop, in a clause: Airflow itself only says that, and its state hints at the rest.

    :param context: the task's context; Airflow is asked for the task's state, so this is called last.
    """
    try:
        state = _state(context["ti"])
    except Exception:  # it is only a hint
        return _NOT_KNOWN
    match state:
        case "failed" | "success":
            return f"the task was marked {state} while it ran"
        case "skipped":
            return "the task was skipped while it ran, as a run's dagrun_timeout does"
        case "up_for_retry":
            return "Airflow took the task for dead, and will try it again"
        case None | "restarting" | "removed" | "scheduled" | "queued":
            return "the task was cleared while it ran"
        case _:
            return _NOT_KNOWN


def _state(ti: Any) -> str | None:
    if not hasattr(ti, "get_task_states"):  # Airflow 2
        state = ti.current_state()
        return None if state is None else str(state)
    mapped = ti.map_index if isinstance(ti.map_index, int) and ti.map_index >= 0 else None
    states = ti.get_task_states(dag_id=ti.dag_id, map_index=mapped, task_ids=[ti.task_id], run_ids=[ti.run_id])
    [state] = states[ti.run_id].values()
    return None if state is None else str(getattr(state, "value", state))
