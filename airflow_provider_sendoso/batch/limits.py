"""The limits of a batch, checked before its first send: number of sends, cost, and the approved fingerprint."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_sendoso.batch.pricing import Cost
from airflow_provider_sendoso.sending.ceiling import too_many
from airflow_provider_sendoso.sending.preview import hash_of


@dataclass(frozen=True)
class Limits:
    """
    The limits that the author of a batch sets; the connection's is :mod:`~airflow_provider_sendoso.sending.ceiling`'s.

    :param max_sends: the most sends of this batch, its earlier tries included.
    :param max_cost: the highest estimated cost, earlier tries included, in the catalogue's currency.
    :param approved_fingerprint: the fingerprint that a dry run returned.
    """

    max_sends: int | None = None
    max_cost: Decimal | None = None
    approved_fingerprint: str | None = None

    @property
    def any(self) -> bool:
        """Whether any limit is set."""
        return self != Limits()

    def differs(self, fingerprint: str) -> bool:
        """
        Return whether something else was approved.

        :param fingerprint: of what would be sent.
        """
        return self.approved_fingerprint is not None and hash_of(self.approved_fingerprint) != hash_of(fingerprint)

    def why_refused(self, sends: int, cost: Cost | None, fingerprint: str) -> str | None:
        """
        Say why a batch may not be sent, or ``None`` if it may.

        :param sends: number of sends of this batch, those already made included.
        :param cost: the cost of these sends; needed only for ``max_cost``.
        :param fingerprint: the fingerprint of these sends.
        """
        if self.differs(fingerprint):
            return (
                f"It would send something else than was approved: its fingerprint is {hash_of(fingerprint)}, approved "
                f"was {hash_of(self.approved_fingerprint or '')}. The rows, the message or who was sent a gift already "
                "have changed since the dry run; make another, in a new DAG run if this one has sent gifts, and have "
                "it approved."
            )
        if self.max_sends is not None and sends > self.max_sends:
            return too_many(sends, f"max_sends={self.max_sends}")
        if self.max_cost is None or cost is None:
            return None
        if cost.amount is None:
            return f"What it would cost is not known, so max_cost cannot be kept: {'; '.join(cost.unknown[:5])}."
        if cost.amount > self.max_cost:
            return f"It would cost an estimated {cost.amount} {cost.currency}, more than max_cost={self.max_cost}."
        return None
