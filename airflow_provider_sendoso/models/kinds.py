"""The kinds of send: the word that the ledger stores with every send, and the rules that follow from it. No I/O."""

from __future__ import annotations

from enum import StrEnum

TRACKING = "tracking:"
"""Prefix of a campaign send's id, which is built from the answer's tracking code, because it has no id (published)."""


class Kind(StrEnum):
    """
    The kind of a send. The ledger stores the value, so a value must never change its meaning.

    A ledger may hold a word that is not listed here, because a newer release has written it. Such a send has the kind
    ``None``: it is held, and neither claimed nor posted nor declared absent.
    """

    GIFT = "gift"
    """A gift of the catalogue (seed)."""
    CAMPAIGN = "campaign"
    """The gift of a campaign (published)."""
    LINK = "link"
    """An eGift link of a campaign (published)."""
    MARKETPLACE = "market"
    """A variant of a product of the marketplace (published)."""
    SMART_SEND = "smart"
    """A gift that Sendoso picks for the recipient (published)."""

    @property
    def in_tracker(self) -> bool:
        """Whether a send is followed in the Send Tracker's list (published) rather than by its own id (seed)."""
        return self is not Kind.GIFT

    @property
    def answers_with_id(self) -> bool:
        """Whether the answer to the POST has the id under which the Send Tracker's list shows the send (inferred)."""
        return self in (Kind.MARKETPLACE, Kind.SMART_SEND)

    @property
    def is_bound(self) -> bool:
        """Whether its row in the Send Tracker's list is found by recipient, campaign and time, and its id noted."""
        return self is Kind.CAMPAIGN

    def list_id(self, send_id: str | None, bound_id: str | None) -> str | None:
        """
        Return the id of a send in the Send Tracker's list, if it is known.

        :param send_id: the id of the answer, or the one that a person has noted.
        :param bound_id: the id that was found in the list.
        """
        return bound_id or (send_id if self.answers_with_id else None)

    @classmethod
    def stored(cls, word: str | None, *, of_campaign: bool) -> Kind | None:
        """
        Read the kind of a send from its row in the ledger.

        :param word: as it is stored; ``None`` in rows of releases that stored it for eGift links only.
        :param of_campaign: whether the row names a campaign, which tells the kinds of those releases apart.
        :return: ``None`` for a word that this release does not know.
        """
        if word is None:
            return cls.CAMPAIGN if of_campaign else cls.GIFT
        return cls(word) if word in cls._value2member_map_ else None


def tracking_code(send_id: str | None) -> str | None:
    """
    Return the tracking code in a send's id; ``None`` if the id is Sendoso's own.

    :param send_id: the id in the form of ledger and operators.
    """
    return send_id[len(TRACKING) :] if send_id is not None and send_id.startswith(TRACKING) else None
