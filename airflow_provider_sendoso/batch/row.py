"""One row of a batch: as it was read, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_sendoso.models import AnySend, Item, RowOutcome


@dataclass(slots=True)
class BatchRow:
    """
    One row, read and validated.

    Not frozen: to make one would take three times as long, and there may be a million of them.

    :param number: from 1.
    :param recipient_key: normalised; ``None`` where it is absent.
    :param row_ref: the column that its author declared not personal.
    :param send: ``None`` for a row that could not be accepted.
    :param problem: then why, without a value.
    :param resend_of: the id of the send that this one replaces.
    :param if_mailed: what would be wrong with this row if its gift goes by post.
    :param country: where it would go by post, for a campaign, which ships to some only.
    """

    number: int
    recipient_key: str | None = field(repr=False)
    row_ref: str | None
    send: AnySend | None
    problem: str | None = None
    resend_of: str | None = None
    if_mailed: str | None = None
    country: str | None = None


@dataclass(frozen=True)
class SpooledOutcome:
    """
    What became of one row, as the spool has it.

    :param number: from 1.
    :param recipient_key: normalised; ``None`` where it is absent.
    :param resend_of: the id of the send that this one replaces.
    :param row_ref: the column that its author declared not personal.
    :param item: what the row names, or, once that is known, what was sent.
    :param outcome: one of the seven.
    :param reason: why.
    :param posted_at: epoch seconds.
    """

    number: int
    recipient_key: str | None = field(repr=False)
    resend_of: str | None
    row_ref: str | None
    item: Item
    outcome: RowOutcome
    reason: str | None
    send_id: str | None
    posted_at: float | None
