"""Items and row outcomes: the vocabulary of ledger, log and results."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from airflow_provider_sendoso.models.kinds import Kind

METADATA_KEY = "airflow_key"
"""The metadata key that the ledger adds to a gift send, to find it again in the list of sends (inferred)."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    What is sent; one of the values is set, and has the name of the argument that chooses the kind of send.

    :param gift_id: the id of a gift of the catalogue, or ``None``.
    :param touch_id: the campaign's id, or ``None``.
    :param marketplace_variant_id: the id of a product's variant, or ``None``.
    :param smart_send: the most that a gift of Sendoso's choice may cost in USD, or :data:`ANY_PRICE`, or ``None``.
    """

    gift_id: str | None = None
    touch_id: str | None = None
    marketplace_variant_id: str | None = None
    smart_send: str | None = None

    def __str__(self) -> str:
        if self.touch_id is not None:
            return f"campaign {self.touch_id}"
        if self.marketplace_variant_id is not None:
            return f"marketplace variant {self.marketplace_variant_id}"
        if self.smart_send is not None:
            most = "of any price" if self.smart_send == ANY_PRICE else f"up to {self.smart_send} USD"
            return f"SmartSend {most}"
        return f"gift {self.gift_id}"

    @classmethod
    def stored(cls, kind: Kind | None, gift_id: str | None, touch_id: str | None) -> Item:
        """
        Read an item from the ledger.

        :param kind: of the send.
        :param gift_id: the ledger's column of that name, which holds what a kind without a campaign sends.
        :param touch_id: the ledger's column of that name.
        """
        match kind:
            case Kind.MARKETPLACE:
                return cls(marketplace_variant_id=gift_id)
            case Kind.SMART_SEND:
                return cls(smart_send=gift_id)
            case _:
                return cls(gift_id, touch_id)

    @property
    def stored_id(self) -> str | None:
        """The value of the ledger's column ``gift_id``."""
        return self.gift_id or self.marketplace_variant_id or self.smart_send


ANY_PRICE = "any"
"""The value of ``Item.smart_send`` without a limit."""

ITEM_FIELDS = tuple(field.name for field in fields(Item))


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
