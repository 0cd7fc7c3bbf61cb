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

    A superseded try ends with :class:`~airflow_provider_sendoso.exceptions.SendosoSupersededError`, whatever it would
    return, and none of the task's callbacks is called: the newer try decides.

    :param execute: of an operator or a sensor; ``operator.this_try`` tells whether it is superseded.
    """

    @functools.wraps(execute)
    def executed(operator: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            returned = execute(operator, *args, **kwargs)
            this_try = getattr(operator, "this_try", None)
            if this_try is not None:
                this_try.check()
            return returned
        except BaseException as error:
            this_try = getattr(operator, "this_try", None)
            if this_try is not None and this_try.superseded():
                _silence(operator)
                if isinstance(error, Exception):
                    this_try.check()
            elif isinstance(error, SendosoError | AirflowSensorTimeout):
                _log_last(operator, [f"{type(error).__name__}: {error}", *getattr(error, "report", ())])
            raise

    return executed  # type: ignore[return-value]


def _silence(operator: Any) -> None:
    """Let a superseded try end without a callback, an e-mail or a link: Airflow does all this in its process."""
    for name in ("on_failure_callback", "on_retry_callback", "on_success_callback", "on_skipped_callback"):
        setattr(operator, name, None)
    operator.email_on_failure = operator.email_on_retry = False
    operator.operator_extra_links = ()


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
