"""What the sending operators share: their common arguments, the hook, and stopping when the task is killed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.values import one_of, seconds
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.retries import for_this_airflow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.runs.task import Task


class SendOperator(BaseOperator):
    """What both operators share: the hook, how campaigns ask for addresses, and stopping when the task is killed."""

    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(),)

    def __init__(
        self,
        *,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
        on_absent: str = "hold",
        settle_time: float | timedelta = 900,
        lease: float | timedelta = 60,
        claim_timeout: float | timedelta = 600,
        address_confirmation: str | None = None,
        expire_after_days: int | str | None = None,
        hide_product_info: bool | str | None = None,
        address_confirmation_message: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**for_this_airflow(kwargs))
        self.address_confirmation = address_confirmation
        self.expire_after_days = expire_after_days
        self.hide_product_info = hide_product_info
        self.address_confirmation_message = address_confirmation_message
        self.sendoso_conn_id = sendoso_conn_id
        self.on_absent = on_absent
        self.settle_time = settle_time
        self.lease = lease
        self.claim_timeout = claim_timeout
        self.stopped = False
        self.settled = False

    @cached_property
    def hook(self) -> SendosoHook:
        """The hook, built at the first use."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        return SendosoHook(self.sendoso_conn_id)

    def _task(self, context: Context) -> Task:
        """Return what a run is given of this task."""
        from airflow_provider_sendoso.runs.task import Task

        return Task(
            context,
            self.hook,
            self.log,
            type(self).__name__,
            stopped=lambda: self.stopped,
            defer=None if self.settled else self._defer_until,
            do_xcom_push=self.do_xcom_push,
            outlets=self.outlets,
        )

    def _defer_until(self, trigger: Any) -> None:
        self.defer(trigger=trigger, method_name="execute_after_settling")

    def _protection(self) -> dict[str, Any]:
        """Parse what the plan of every sending run holds."""
        one_of("on_absent", self.on_absent, ("hold", "resend"))
        return {
            "lease": seconds("lease", self.lease),
            "claim_timeout": seconds("claim_timeout", self.claim_timeout),
            "settle_time": seconds("settle_time", self.settle_time),
            "resend_absent": self.on_absent == "resend",
        }

    def on_kill(self) -> None:
        """Claim nothing more; what is being posted at this moment is finished and recorded."""
        # A flag and no lock: this runs in a signal handler.
        self.stopped = True

    def execute_after_settling(self, context: Context, event: Any = None) -> Any:
        """Go on after the settle time: what is still absent then is sent again, and what is there is found."""
        self.settled = True
        return self.execute(context)
