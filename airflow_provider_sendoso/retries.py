"""When Airflow should try again after this provider's errors, for the ``retry_policy`` of Airflow 3.3 and newer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_sendoso.exceptions import SendosoError, SendosoNotReachedError, SendosoRateLimitError

try:
    from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy

    HAS_RETRY_POLICIES = True
except ImportError:  # before Airflow 3.3; there nobody asks, and Airflow's own delays apply
    HAS_RETRY_POLICIES = False
    RetryPolicy = object  # type: ignore[misc, assignment]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class SendosoRetryPolicy(RetryPolicy):
    """
    Choose the pause before the next try by what has failed; everything else stays as the task says.

    - 429 with a ``Retry-After``: after that time, a day at most.
    - Rows that were not reached: after ``min_delay``, because nothing is wrong that would need longer.
    - What retrying cannot mend (held sends, a wrong argument): never, as without a policy.
    - Any other error: after the task's own ``retry_delay``.

    The number of tries stays the task's ``retries``. Whether there is a next try is the same without this policy, and
    so on Airflow before 3.3, where this provider's operators and sensor take it as an argument and leave it unused.

    :param min_delay: the shortest pause, and the one after rows that were not reached.
    """

    def __init__(self, *, min_delay: timedelta = timedelta(minutes=1)) -> None:
        self.min_delay = min_delay

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """
        Decide about one failure; called by Airflow in the worker.

        :param exception: what the try has failed with.
        :param try_number: of that try, from 1; not looked at.
        :param max_tries: the task's; not looked at, Airflow keeps to it.
        :param context: not looked at.
        """
        if not isinstance(exception, SendosoError):
            return RetryDecision.default()
        if isinstance(exception, AirflowFailException):
            # Airflow 3.3 does not even ask about these.
            return RetryDecision.fail(f"Retrying cannot mend a {type(exception).__name__}.")
        if isinstance(exception, SendosoRateLimitError) and exception.retry_after is not None:
            delay = max(self.min_delay, timedelta(seconds=exception.retry_after))
            return RetryDecision.retry(delay, f"Sendoso asked to wait {exception.retry_after:g} s (429).")
        if isinstance(exception, SendosoNotReachedError):
            return RetryDecision.retry(self.min_delay, "Some rows were not reached; the next try goes on with them.")
        return RetryDecision.default()


def for_this_airflow(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return an operator's arguments without those that this Airflow does not know: one DAG file for every version.

    :param arguments: for ``BaseOperator``.
    """
    return {name: value for name, value in arguments.items() if name != "retry_policy" or HAS_RETRY_POLICIES}
