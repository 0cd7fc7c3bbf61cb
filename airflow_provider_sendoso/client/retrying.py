"""The retry policy of reads, which both sessions pass to tenacity."""

from __future__ import annotations

from typing import Any

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from airflow_provider_sendoso.client.outcomes import LONGEST_RETRY_AFTER
from airflow_provider_sendoso.exceptions import (
    SendosoConnectionError,
    SendosoRateLimitError,
    SendosoServerError,
)

ATTEMPTS = 5

DEFAULT_PUSH_BACK = 1.0
"""Seconds to pause the account's requests after a 429 without ``Retry-After`` (inferred: the limit is per second)."""

backoff = wait_exponential(multiplier=0.5, max=8.0) + wait_random(0.0, 0.5)


def read_policy() -> dict[str, Any]:
    """Return tenacity's arguments for idempotent requests; never used for the POST of a send."""
    return {
        "stop": stop_after_attempt(ATTEMPTS),
        "wait": backoff,
        "retry": retry_if_exception(_may_pass),
        "before_sleep": _forget_traceback,
        "reraise": True,
    }


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, SendosoRateLimitError):
        # The pace does the waiting: push_back has moved the next slot of all callers.
        return (error.retry_after or 0) <= LONGEST_RETRY_AFTER
    return isinstance(error, SendosoConnectionError | SendosoServerError)


def _forget_traceback(state: RetryCallState) -> None:
    """Drop the failed attempt's frames while waiting, because they keep request and answer in memory."""
    error = state.outcome.exception() if state.outcome else None
    if error is not None:
        error.__traceback__ = None
