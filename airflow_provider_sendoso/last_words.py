"""Lets the error of a failed task be the last thing in its log, after the traceback that Airflow logs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_sendoso.exceptions import SendosoError

F = TypeVar("F", bound=Callable[..., Any])


def with_last_words(execute: F) -> F:
    """
    Decorate a method that Airflow runs: an error of this provider, or a sensor's timeout, is logged once more, without
    a traceback, and with the batch's report after it.

    :param execute: of an operator or a sensor.
    """

    @functools.wraps(execute)
    def executed(operator: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return execute(operator, *args, **kwargs)
        except (SendosoError, AirflowSensorTimeout) as error:
            _log_last(operator, [f"{type(error).__name__}: {error}", *getattr(error, "report", ())])
            raise

    return executed  # type: ignore[return-value]


def _log_last(operator: Any, lines: Sequence[str]) -> None:
    """Log after Airflow has logged the traceback: in the callbacks, which it calls then, in the same process."""

    def log_the_error_once_more(context: Any) -> None:
        # Airflow folds up what callbacks log, in the group "Post Execute", and this is what has to be seen.
        operator.log.info("::endgroup::")
        for line in lines:
            operator.log.error("%s", line)

    for name in ("on_failure_callback", "on_retry_callback"):
        given = getattr(operator, name, None) or ()
        callbacks = list(given) if isinstance(given, Sequence) else [given]
        setattr(operator, name, [*callbacks, log_the_error_once_more])
