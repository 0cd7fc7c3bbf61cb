"""A campaign send, and the Send Tracker: the list of all campaign sends, with old sends that are made up on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from airflow_provider_sendoso.sandbox.statuses import campaign_path

FIRST_ID = 50_000_001
"""The first id of an accepted send; the old sends, which are made up later, must have lower ids."""


@dataclass(frozen=True)
class CampaignSend:
    """
    One accepted campaign send: in the real world, a gift and a charge.

    :param id: the id in the Send Tracker, which the answer to the POST does not have (published)
    :param tracking_code: the code that the answer has, and the Send Tracker does not have (published)
    :param body: the ``send`` object of the request, unchanged; for an eGift link, its part of the request
    :param touch: the fields of the campaign that the Send Tracker shows
    :param path: the statuses that the send passes through, in the Send Tracker's words
    :param accepted_at: wall-clock epoch seconds
    :param client_id: the client that has sent it
    :param status: the status at the time when the send was read
    :param finished: a status that was forced, and the time when it was
    """

    id: int
    tracking_code: str
    body: dict[str, Any]
    touch: dict[str, Any]
    path: tuple[str, ...]
    accepted_at: float
    client_id: str
    status: str
    finished: tuple[str, float] | None = None

    @property
    def is_product(self) -> bool:
        """Return whether it is a send of the marketplace or of SmartSend, which have no campaign."""
        return self.touch["id"] is None

    @property
    def duplicate_key(self) -> tuple[str, str]:
        """Return a value that two sends share if they are the same campaign's gift to the same person."""
        chosen = "variant_ids" in self.body or not self.is_product
        what = (self.touch["name"] if self.is_product else str(self.body["touch_id"])) if chosen else "SmartSend"
        return what, self.body["email"].casefold()


@dataclass(frozen=True)
class OldSends:
    """
    Old sends, each of which is made up when it is read.

    :param count: the number of sends
    :param touches: the campaigns of the sends, in turn
    :param email: the recipients' e-mail address, with ``{}`` for the number of the send; the oldest has number 0
    :param newest_at: the time at which the newest was accepted, in epoch seconds
    :param spacing: seconds from one send to the next
    """

    count: int = 0
    touches: tuple[Mapping[str, Any], ...] = ()
    email: str = "old{}@example.com"
    newest_at: float = 0.0
    spacing: float = 60.0

    def make(self, number: int) -> CampaignSend:
        """
        Make up one send; the same number always gives the same send.

        :param number: the number of the send; the oldest has number 0
        """
        touch = self.touches[number % len(self.touches)]
        email = self.email.replace("{}", str(number))
        path = campaign_path(email, touch["delivery_type"])
        return CampaignSend(
            id=number + 1,
            tracking_code=f"OLD{number}",
            body={"touch_id": touch["id"], "email": email, "name": f"Recipient {number}", "via_from": "Sandbox"},
            touch=touch_of(touch),
            path=path,
            accepted_at=self.newest_at - (self.count - 1 - number) * self.spacing,
            client_id="",
            status=path[-1],
        )


class Tracker(Sequence[CampaignSend]):
    """
    The Send Tracker's list in one of its orders, without a copy of the sends.

    :param old: the old sends
    :param accepted: the accepted sends, oldest first
    :param newest_first: whether the newest send comes first
    """

    def __init__(self, old: OldSends, accepted: Sequence[CampaignSend], newest_first: bool) -> None:
        self._old = old
        self._accepted = accepted
        self._newest_first = newest_first

    def __len__(self) -> int:
        return self._old.count + len(self._accepted)

    @overload
    def __getitem__(self, place: int) -> CampaignSend: ...
    @overload
    def __getitem__(self, place: slice) -> list[CampaignSend]: ...
    def __getitem__(self, place: int | slice) -> CampaignSend | list[CampaignSend]:
        numbers = range(len(self))[::-1] if self._newest_first else range(len(self))
        chosen = numbers[place]
        return self._at(chosen) if isinstance(chosen, int) else [self._at(number) for number in chosen]

    def _at(self, number: int) -> CampaignSend:
        return self._old.make(number) if number < self._old.count else self._accepted[number - self._old.count]


def touch_of(touch: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the fields of a campaign that the Send Tracker shows; the cost of a mailed gift is invented.

    :param touch: the campaign as the organisation's list has it
    """
    return {
        "id": touch["id"],
        "name": touch.get("name"),
        "delivery_type": touch["delivery_type"],
        "currency": touch.get("currency", "USD"),
        "cost": float(touch.get("starting_egift_price") or 30.0),
    }
