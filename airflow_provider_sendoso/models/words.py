"""Items and row outcomes: the vocabulary of ledger, log and results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

METADATA_KEY = "airflow_key"
"""The metadata key that the ledger adds to a gift send, to find it again in the list of sends (inferred)."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    What is sent: a gift of the catalogue, or the gift of a campaign.

    :param gift_id: the gift's id, or ``None``.
    :param touch_id: the campaign's id, or ``None``.
    """

    gift_id: str | None = None
    touch_id: str | None = None

    def __str__(self) -> str:
        return f"campaign {self.touch_id}" if self.touch_id is not None else f"gift {self.gift_id}"


NOTHING = Item()
"""The item of a send whose item is not known."""


class RowOutcome(StrEnum):
    """The outcome of one row of a batch; every row has exactly one of these eight."""

    SENT = "sent"
    """By this batch, earlier tries of its task included."""
    ALREADY_SENT = "already_sent"
    """By another batch of the same scope."""
    DUPLICATE = "duplicate"
    """An earlier row of the input has the same recipient key."""
    REFUSED = "refused"
    """Sendoso refused it; no gift went out."""
    INVALID = "invalid"
    """Not posted, because Sendoso could not have accepted it."""
    HELD = "held"
    """Posted, and the outcome is not known: a gift may have gone out."""
    CAPPED = "capped"
    """Not posted, because the person was sent something of the account too recently."""
    NOT_REACHED = "not_reached"
    """This try did not get to the row, or another run has claimed it."""


def row_name(number: int, row_ref: str | None) -> str:
    """
    Name a row in a log line or an error without its recipient.

    :param number: the row's number, from 1.
    :param row_ref: the value of the column that the DAG's author has declared not personal.
    """
    return f"row {number}" if row_ref is None else f"row {number} ({row_ref})"


class Delivery(StrEnum):
    """How a campaign's gift reaches its recipient (published)."""

    EMAIL = "email"
    """An eGift."""
    MAIL = "mail"
    """A physical gift."""


class AddressConfirmation(StrEnum):
    """How a recipient is asked for an address (published)."""

    EMAIL = "email"
    LINK = "link"
