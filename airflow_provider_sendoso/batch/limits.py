"""What a batch may not exceed, checked before its first send: counts, money, and exactly what was approved."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_sendoso.batch.pricing import Cost


@dataclass(frozen=True)
class Limits:
    """
    What the author of a batch, and the owner of the connection, allow.

    :param max_sends: of this batch, those of its earlier tries included.
    :param max_cost: estimated, likewise; in the currency of the catalogue.
    :param max_sends_per_batch: the connection's own.
    :param approved_fingerprint: what a dry run returned.
    """

    max_sends: int | None = None
    max_cost: Decimal | None = None
    max_sends_per_batch: int | None = None
    approved_fingerprint: str | None = None

    @property
    def any(self) -> bool:
        """Whether there is anything to check."""
        return self != Limits()

    def why_refused(self, sends: int, cost: Cost | None, fingerprint: str) -> str | None:
        """
        Say why a batch may not be sent, or ``None`` if it may.

        :param sends: of this batch: made already and still to make.
        :param cost: of these; needed only for ``max_cost``.
        :param fingerprint: of these.
        """
        if self.approved_fingerprint is not None and self.approved_fingerprint != fingerprint:
            return (
                f"It would send something else than was approved: its fingerprint is {fingerprint}, approved was "
                f"{self.approved_fingerprint}. The rows, the message or who was sent a gift already have changed since "
                "the dry run; make another and have it approved."
            )
        for name, limit in (("max_sends", self.max_sends), ("max_sends_per_batch", self.max_sends_per_batch)):
            if limit is not None and sends > limit:
                whose = "the connection's " if name == "max_sends_per_batch" else ""
                return f"It would make {sends} sends, more than {whose}{name}={limit}."
        if self.max_cost is None or cost is None:
            return None
        if cost.amount is None:
            return f"What it would cost is not known, so max_cost cannot be kept: {'; '.join(cost.unknown[:5])}."
        if cost.amount > self.max_cost:
            return f"It would cost an estimated {cost.amount} {cost.currency}, more than max_cost={self.max_cost}."
        return None
