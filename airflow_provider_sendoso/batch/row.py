"""One row of a batch: as it was read, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_sendoso.models import AnySend, Item, RowOutcome


@dataclass(slots=True)
class BatchRow:
    """
    One row, read and validated.

    Not frozen, because creating a frozen instance takes three times as long, and there may be a million.

    :param number: from 1.
    :param recipient_key: the normalised key; ``None`` if it is absent.
    :param row_ref: the value of the column that the author has declared not personal.
    :param send: the send; ``None`` for an invalid row.
    :param problem: the problem of an invalid row, without values.
    :param resend_of: the id of the send that this one replaces.
    :param if_mailed: the row's problem in case its gift goes by post.
    :param country: the address's country, because a campaign ships to some countries only.
    :param left_out: whether ``if_mailed`` is about what was left out of the send because it is wrong.
    """

    number: int
    recipient_key: str | None = field(repr=False)
    row_ref: str | None
    send: AnySend | None
    problem: str | None = None
    resend_of: str | None = None
    if_mailed: str | None = None
    country: str | None = None
    left_out: bool = False


@dataclass(frozen=True)
class SpooledOutcome:
    """
    The outcome of one row in the spool.

    :param number: from 1.
    :param recipient_key: the normalised key; ``None`` if it is absent.
    :param resend_of: the id of the send that this one replaces.
    :param row_ref: the value of the column that the author has declared not personal.
    :param item: the gift or campaign that the row names, or, once that is known, that was sent.
    :param outcome: one of the eight.
    :param reason: the reason for the outcome.
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
