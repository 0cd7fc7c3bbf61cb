"""The summary of a batch: the eight counts, whether the batch is a success, and its log line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_sendoso.batch.pricing import Cost
from airflow_provider_sendoso.models import RowOutcome

WOULD_SEND = "would_send"
"""The name of the rows that a real run would post, in the result of a dry run."""


@dataclass(frozen=True)
class Summary:
    """
    The result of one try.

    :param batch_id: the same over all tries of the task instance.
    :param dedupe_scope: the scope within which a recipient gets at most one gift.
    :param counts: rows by outcome.
    :param cost: estimated cost of what this batch has sent, or in a dry run would send; ``None`` if not estimated.
    :param fingerprint: the fingerprint of what the batch sends, if it was computed.
    :param balance: the remaining balance that Sendoso states; read in a dry run only.
    :param sent_now: the number of sent rows that this try has posted; earlier tries have posted the others.
    """

    batch_id: str
    dedupe_scope: str
    counts: Mapping[RowOutcome, int]
    cost: Cost | None = None
    fingerprint: str | None = None
    balance: float | None = None
    dry_run: bool = False
    sent_now: int = 0

    @property
    def rows(self) -> int:
        """All rows of the input."""
        return sum(self.counts.values())

    def count(self, outcome: RowOutcome) -> int:
        """Return the rows with one outcome."""
        return self.counts.get(outcome, 0)

    def as_json(self) -> dict[str, Any]:
        """Return the summary for XCom; it holds no personal data."""
        amount = None if self.cost is None or self.cost.amount is None else float(round(self.cost.amount, 2))
        return {
            "batch_id": self.batch_id,
            "dedupe_scope": self.dedupe_scope,
            "rows": self.rows,
            **self.named_counts,
            "estimated_cost": amount,
            "currency": None if amount is None or self.cost is None else self.cost.currency,
            "fingerprint": self.fingerprint,
            **({"balance": self.balance} if self.dry_run else {}),
        }

    def as_text(self) -> str:
        """Return the counts as one line for the log; it says of what was sent which try has posted it."""
        named: dict[str, Any] = dict(self.named_counts)
        sent = self.count(RowOutcome.SENT)
        if sent:
            named["sent"] = f"{sent} ({self.sent_now} posted by this try, {sent - self.sent_now} by earlier ones)"
        counts = ", ".join(f"{name} {count}" for name, count in named.items())
        what = "Dry run: " if self.dry_run else ""
        return f"{what}{self.rows} rows: {counts}. Scope {self.dedupe_scope!r}, batch {self.batch_id}."

    @property
    def named_counts(self) -> dict[str, int]:
        """The counts by the names that people see, in order."""
        counts = {outcome.value: self.count(outcome) for outcome in RowOutcome}
        # The rows that a dry run does not reach are those that a real run would post.
        return counts | {WOULD_SEND: counts["not_reached"], "not_reached": 0} if self.dry_run else counts

    def nobody_was_sent(self) -> bool:
        """Return whether rows were refused or invalid and the people of all others have had no gift either."""
        reached = (RowOutcome.SENT, RowOutcome.ALREADY_SENT, RowOutcome.HELD, RowOutcome.CAPPED)
        return not any(map(self.count, reached)) and self.count(RowOutcome.REFUSED) + self.count(RowOutcome.INVALID) > 0


def too_many_invalid(invalid: int, rows: int, max_invalid: float | None) -> bool:
    """
    Say whether a batch has more invalid rows than its author allows.

    :param invalid: the number of invalid rows.
    :param rows: the number of all rows.
    :param max_invalid: an ``int`` is a count, a ``float`` a share of the rows from 0 to 1; ``None`` allows any.
    """
    if max_invalid is None:
        return False
    return invalid > (max_invalid * rows if isinstance(max_invalid, float) else max_invalid)
