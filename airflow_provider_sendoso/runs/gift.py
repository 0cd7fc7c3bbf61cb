"""One try of a single gift: sends it, unless it was sent before."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_sendoso.links.sendoso import TrackingLink
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.observability.metrics import SendMetrics
from airflow_provider_sendoso.runs.base import Run, SendPlan
from airflow_provider_sendoso.runs.single_gift import RECIPIENT_KEY, OneGift
from airflow_provider_sendoso.runs.slots import reschedule_until_free
from airflow_provider_sendoso.runs.stops import stopped_by


@dataclass(frozen=True, kw_only=True)
class GiftPlan(SendPlan):
    """
    The plan of a single gift to one recipient.

    :param gift: the gift and its recipient.
    """

    gift: OneGift


class GiftRun(Run):
    """
    One try of :class:`~airflow_provider_sendoso.operators.sendoso.SendGiftOperator`.

    :param plan: the parsed arguments.
    :param task: the task of this try.
    """

    plan: GiftPlan

    def execute(self) -> str | None:
        """Send the gift, unless it was sent before; return its id."""
        gift = self.plan.gift
        batch = self._batch(RECIPIENT_KEY)
        self._push_link()
        prices = gift.prices(self.hook, self.plan.shipping_estimate)
        sender = self._sender(batch, True, prices)
        self._check_ledger()
        self.hook.begin_try(self.task.this_try, self.context["ti"])
        self.limits.price_earlier(batch, prices)
        metrics = SendMetrics(self.hook.sendoso_conn_id, self.task.operator, batch)
        result = gift.go(self.hook, sender, metrics, self.log, self.limits())
        self.task.this_try.check()
        if result.outcome is RowOutcome.NOT_REACHED:
            reschedule_until_free(self.task, sender, 1, self.plan.claim_timeout)
        if result.outcome is RowOutcome.HELD:
            self._defer_until_settled(sender)
        # Without one as well: Airflow 3 reads each link when the task ends, and logs an error for one that is missing.
        TrackingLink().push(self.context, result.tracking_url() or "")
        if result.outcome is RowOutcome.NOT_REACHED and self.task.stopped():
            result = replace(result, reason=f"told to stop: {stopped_by(self.context)}")
        send_id = gift.conclude(result, metrics, self.log)
        if result.outcome is RowOutcome.CAPPED:
            raise AirflowSkipException(f"No gift was sent: {result.words}.")
        return send_id
