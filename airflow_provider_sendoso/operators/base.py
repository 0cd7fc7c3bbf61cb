"""The base class of the sending operators: common arguments, the hook, and the stop when the task is killed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.retries import for_this_airflow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook


class SendOperator(BaseOperator):
    """Base of the sending operators: the hook, how campaigns ask for addresses, and the stop on a kill."""

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
        """The hook, created at the first use."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        return SendosoHook(self.sendoso_conn_id)

    def on_kill(self) -> None:
        """Stop claiming; the POSTs in flight are finished and recorded."""
        # A flag and not a lock, because this runs in a signal handler.
        self.stopped = True

    def execute_after_settling(self, context: Context, event: Any = None) -> Any:
        """Resume after the settle time: find the held sends in Sendoso's list, and send the absent ones again."""
        self.settled = True
        return self.execute(context)
