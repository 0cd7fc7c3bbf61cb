"""The base class of the sending operators: common arguments, the hook, and the stop when the task is killed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.limits import spending_limits
from airflow_provider_sendoso.arguments.values import one_of, seconds
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.retries import for_this_airflow
from airflow_provider_sendoso.templates import RendersAuthorsTemplates

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.ledger.tries import ThisTry
    from airflow_provider_sendoso.runs.task import Task


class SendOperator(RendersAuthorsTemplates, BaseOperator):
    """Base of the sending operators: the hook, the claims, the limits, and the stop on a kill."""

    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(),)
    remembered: Sequence[str] = ("dedupe_scope",)
    dedupe_scope: Any

    def __init__(
        self,
        *,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
        lease: float | timedelta = 60,
        claim_timeout: float | timedelta = 600,
        scope_max_sends: int | str | None = None,
        scope_max_cost: float | str | None = None,
        min_days_between_gifts: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**for_this_airflow(kwargs))
        self.sendoso_conn_id = sendoso_conn_id
        self.lease = lease
        self.claim_timeout = claim_timeout
        self.scope_max_sends = scope_max_sends
        self.scope_max_cost = scope_max_cost
        self.min_days_between_gifts = min_days_between_gifts
        self.stopped = False
        self.settled = False
        self.this_try: ThisTry | None = None

    @cached_property
    def hook(self) -> SendosoHook:
        """The hook, created at the first use."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        return SendosoHook(self.sendoso_conn_id)

    def _say_scope(self) -> None:
        """
        Log what the scope means for other runs, from the template that the DAG's author wrote.

        :raises SendosoConfigError: for a scope that is another one in every try; nothing was sent.
        """
        from airflow_provider_sendoso.scopes import say_what_it_means

        say_what_it_means(self.written.get("dedupe_scope", self.dedupe_scope), self.dedupe_scope, self.log)

    def _task(self, context: Context) -> Task:
        """Return the parts of this task that a run needs."""
        from airflow_provider_sendoso.ledger.tries import ThisTry
        from airflow_provider_sendoso.runs.task import Task

        self.this_try = ThisTry()
        return Task(
            context,
            self.hook,
            self.log,
            type(self).__name__,
            stopped=lambda: self.stopped,
            defer=None if self.settled else self._defer_until,
            do_xcom_push=self.do_xcom_push,
            outlets=self.outlets,
            this_try=self.this_try,
        )

    def _defer_until(self, trigger: Any) -> None:
        self.defer(trigger=trigger, method_name="execute_after_settling")

    def _common(self) -> dict[str, Any]:
        """Parse the arguments that all sending operators have: claims, and limits that the ledger keeps."""
        return {
            "lease": seconds("lease", self.lease),
            "claim_timeout": seconds("claim_timeout", self.claim_timeout),
            "spending": spending_limits(self),
        }

    def on_kill(self) -> None:
        """Stop claiming; the POSTs in flight are finished and recorded."""
        # A flag and not a lock, because this runs in a signal handler.
        self.stopped = True

    def execute_after_settling(self, context: Context, event: Any = None) -> Any:
        """Resume after the settle time: find the held sends in Sendoso's list, and send the absent ones again."""
        self.settled = True
        return self.execute(context)


def absence(operator: Any) -> dict[str, Any]:
    """
    Parse the arguments for sends of unknown outcome that Sendoso does not list.

    :param operator: an operator that sends gifts; for links, absence cannot be proven.
    """
    one_of("on_absent", operator.on_absent, ("hold", "resend"))
    return {
        "settle_time": seconds("settle_time", operator.settle_time),
        "resend_absent": operator.on_absent == "resend",
    }
