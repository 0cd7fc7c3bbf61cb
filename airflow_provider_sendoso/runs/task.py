"""The parts of an Airflow task that a run needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.tries import ThisTry

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


@dataclass(frozen=True)
class Task:
    """
    The parts of a task's try that a run needs.

    :param context: Airflow's context.
    :param hook: the hook of the task's connection.
    :param log: the task's logger.
    :param operator: the operator's name, for metrics.
    :param stopped: returns whether the task has been killed.
    :param defer: defers the task until a trigger fires, after which the try begins again; ``None`` if the task cannot
        be deferred, or was deferred already.
    :param do_xcom_push: whether the task's return value is pushed to XCom.
    :param outlets: the assets that the task updates.
    :param this_try: whether this is still the newest try of the task.
    """

    context: Context
    hook: SendosoHook
    log: Any
    operator: str
    stopped: Callable[[], bool] = lambda: False
    defer: Callable[[Any], Any] | None = None
    do_xcom_push: bool = True
    outlets: Sequence[Any] = ()
    this_try: ThisTry = field(default_factory=ThisTry)

    def push(self, returned: Any) -> None:
        """
        Push the task's return value to XCom, before the task fails or is deferred, unless a newer try has begun.

        :param returned: the value.
        """
        if self.do_xcom_push and not self.this_try.superseded():
            self.context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=returned)
