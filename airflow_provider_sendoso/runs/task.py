"""The parts of an Airflow task that a run needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

from airflow_provider_sendoso.hooks.sendoso import SendosoHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


@dataclass(frozen=True)
class Task:
    """
    A try of a task, as far as a run needs it.

    :param context: Airflow's.
    :param hook: on the connection that the task names.
    :param log: the task's logger.
    :param operator: the operator's name, for metrics.
    :param stopped: says whether the task has been killed.
    :param defer: gives the worker back until a trigger fires, and begins the try again; ``None`` for a task that cannot
        wait, or has waited.
    :param do_xcom_push: whether what the task returns is pushed to XCom.
    :param outlets: the assets that the task updates.
    """

    context: Context
    hook: SendosoHook
    log: Any
    operator: str
    stopped: Callable[[], bool] = lambda: False
    defer: Callable[[Any], Any] | None = None
    do_xcom_push: bool = True
    outlets: Sequence[Any] = ()

    def push(self, returned: Any) -> None:
        """
        Push to XCom what the task would return, before it fails or waits.

        :param returned: the value.
        """
        if self.do_xcom_push:
            self.context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=returned)
