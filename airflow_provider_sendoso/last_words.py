"""Lets the error of a failed task be the last thing in its log, after the traceback that Airflow logs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from airflow_provider_sendoso.exceptions import SendosoError

F = TypeVar("F", bound=Callable[..., Any])


def with_last_words(execute: F) -> F:
    """
    Decorate the ``execute`` of an operator: an error of this provider is logged once more, without a
    traceback, and with the batch's report after it.

    :param execute: the method.
    """

    @functools.wraps(execute)
    def executed(operator: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return execute(operator, *args, **kwargs)
        except SendosoError as error:
            _log_last(operator, [f"{type(error).__name__}: {error}", *error.report])
            raise

    return executed  # type: ignore[return-value]


def _log_last(operator: Any, lines: Sequence[str]) -> None:
    """Log after Airflow has logged the traceback: in the callbacks, which it calls then, in the same process."""

    def log_the_error_once_more(context: Any) -> None:
        for line in lines:
            operator.log.error("%s", line)

    for name in ("on_failure_callback", "on_retry_callback"):
        given = getattr(operator, name, None) or ()
        callbacks = list(given) if isinstance(given, Sequence) else [given]
        setattr(operator, name, [*callbacks, log_the_error_once_more])
