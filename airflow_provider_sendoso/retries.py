"""A ``retry_policy`` (Airflow 3.3 and newer) that chooses the delay before a retry by this provider's errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_sendoso.exceptions import SendosoError, SendosoNotReachedError, SendosoRateLimitError

try:
    from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy

    HAS_RETRY_POLICIES = True
except ImportError:  # before Airflow 3.3, which has no retry policies: its own delays apply
    HAS_RETRY_POLICIES = False
    RetryPolicy = object  # type: ignore[misc, assignment]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class SendosoRetryPolicy(RetryPolicy):
    """
    Choose the delay before the next try by the error of the last one.

    - 429 with a ``Retry-After``: after that time, a day at most.
    - Rows that were not reached: after ``min_delay``, because there is nothing to wait for.
    - An error that a retry cannot fix (held sends, a wrong argument): never, as without a policy.
    - Any other error: after the task's own ``retry_delay``.

    The policy never changes whether there is a next try: the task's ``retries`` still bounds the number of tries.
    Before Airflow 3.3, this provider's operators and sensors accept the argument ``retry_policy`` and ignore it.

    :param min_delay: the shortest delay, and the delay after rows that were not reached.
    """

    def __init__(self, *, min_delay: timedelta = timedelta(minutes=1)) -> None:
        self.min_delay = min_delay

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Decide about one failed try; Airflow calls this in the worker.

        :param exception: the error of the try.
        :param try_number: number of that try, from 1; not used.
        :param max_tries: not used, because Airflow enforces it.
        :param context: not used.
        """
        if not isinstance(exception, SendosoError):
            return RetryDecision.default()
        if isinstance(exception, AirflowFailException):
            # Airflow 3.3 does not call a policy for these errors.
            return RetryDecision.fail(f"Retrying cannot mend a {type(exception).__name__}.")
        if isinstance(exception, SendosoRateLimitError) and exception.retry_after is not None:
            delay = max(self.min_delay, timedelta(seconds=exception.retry_after))
            return RetryDecision.retry(delay, f"Sendoso asked to wait {exception.retry_after:g} s (429).")
        if isinstance(exception, SendosoNotReachedError):
            return RetryDecision.retry(self.min_delay, "Some rows were not reached; the next try goes on with them.")
        return RetryDecision.default()


def for_this_airflow(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Drop the arguments that this Airflow version does not know, so that one DAG file works on every version.

    :param arguments: keyword arguments for ``BaseOperator``.
    """
    return {name: value for name, value in arguments.items() if name != "retry_policy" or HAS_RETRY_POLICIES}
