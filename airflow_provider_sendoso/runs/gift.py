"""One try of a single gift: it is sent, or found to have been sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_sendoso.arguments.values import asking
from airflow_provider_sendoso.links.sendoso import TrackingLink
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.observability.metrics import SendMetrics
from airflow_provider_sendoso.runs.base import Run
from airflow_provider_sendoso.runs.single_gift import RECIPIENT_KEY, OneGift

if TYPE_CHECKING:
    from airflow_provider_sendoso.operators.sendoso import SendGiftOperator


class GiftRun(Run):
    """
    What :class:`~airflow_provider_sendoso.operators.sendoso.SendGiftOperator` does in a try.

    :param operator: with its templates rendered.
    :param context: of the task.
    """

    operator: SendGiftOperator

    def execute(self) -> str | None:
        """Send the gift, or find that it was sent."""
        gift = OneGift.of(self.operator, asking(self.operator))
        batch = self._batch(self.operator.dedupe_scope, RECIPIENT_KEY)
        self._push_link()
        sender = self._sender(batch, own_gift=True)
        self._check_ledger()
        metrics = SendMetrics(self.hook.sendoso_conn_id, type(self.operator).__name__, batch)
        result = gift.go(self.hook, sender, metrics, self.log)
        if result.outcome is RowOutcome.HELD:
            self._defer_until_settled(sender)
        if result.tracking_url is not None:
            TrackingLink().push(self.context, result.tracking_url)
        return gift.conclude(result, metrics, self.log)
