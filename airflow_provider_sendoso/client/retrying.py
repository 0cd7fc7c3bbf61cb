"""The retry policy of reads, which both sessions pass to tenacity."""

from __future__ import annotations

from typing import Any

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.outcomes import LONGEST_RETRY_AFTER
from airflow_provider_sendoso.exceptions import (
    SendosoConnectionError,
    SendosoRateLimitError,
    SendosoServerError,
)

ATTEMPTS = 5

DEFAULT_PUSH_BACK = 1.0
"""Seconds to pause the account's requests after a 429 without ``Retry-After`` (inferred: the limit is per second)."""

MINUTE_PUSH_BACK = 10.0
"""The same for the limit per minute of the marketplace and SmartSend, also if its reset is in the past (inferred)."""

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


def push_backs(request: Request, answer: Answer) -> tuple[float | None, float | None]:
    """
    Return how long a 429 delays the requests of the account, and those of the marketplace and of SmartSend.

    A 429 of these with an ``X-Rate-Limit-Reset`` is of their own limit (published), and delays nothing else.

    :param request: the request.
    :param answer: a 429.
    :return: seconds; ``None`` where there is no delay.
    """
    asked = answer.retry_after
    account = min(asked or DEFAULT_PUSH_BACK, LONGEST_RETRY_AFTER)
    if not request.has_minute_limit:
        return account, None
    return (
        None if answer.rate_limit_reset is not None else account,
        min(asked or MINUTE_PUSH_BACK, LONGEST_RETRY_AFTER),
    )


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
