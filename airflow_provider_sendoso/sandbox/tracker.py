"""A campaign send, and the Send Tracker: the list of all of them, with old ones that are made up on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from airflow_provider_sendoso.sandbox.statuses import campaign_path

FIRST_ID = 50_000_001
"""The first id of a send that is accepted; the old ones, which are made up later, must have lower ids."""


@dataclass(frozen=True)
class CampaignSend:
    """
    One accepted campaign send: in the real world, a gift and a charge.

    :param id: in the Send Tracker; the answer to the POST does not have it (published)
    :param tracking_code: which the answer has, and the Send Tracker does not (published)
    :param body: the request's ``send`` object, as it came; of a generated eGift link, what there is for this one
    :param touch: what the Send Tracker says of its campaign
    :param path: the statuses it passes through, in the Send Tracker's words
    :param accepted_at: wall-clock epoch seconds
    :param client_id: who sent it
    :param status: what it had come to when it was asked for
    :param finished: a status that was forced, and when
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
    def duplicate_key(self) -> tuple[str, str]:
        """Return a value that two sends share if they are the same campaign's gift to the same person."""
        return str(self.body["touch_id"]), self.body["email"].casefold()


@dataclass(frozen=True)
class OldSends:
    """
    Sends of long ago, each made up when somebody reads it.

    :param count: how many
    :param touches: the campaigns they are of, in turn
    :param email: of the recipients, with ``{}`` for the number from 0, the oldest's
    :param newest_at: when the newest was accepted, in epoch seconds
    :param spacing: seconds from one to the next
    """

    count: int = 0
    touches: tuple[Mapping[str, Any], ...] = ()
    email: str = "old{}@example.com"
    newest_at: float = 0.0
    spacing: float = 60.0

    def make(self, number: int) -> CampaignSend:
        """
        Make one up, the same each time.

        :param number: from 0, the oldest
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
    Every send that the Send Tracker lists, in an order, without a copy of them.

    :param old: the sends of long ago
    :param accepted: those that came in, oldest first
    :param newest_first: the order
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
    Keep what the Send Tracker says of a campaign; what a mailed gift costs is invented.

    :param touch: a row of the organisation's
    """
    return {
        "id": touch["id"],
        "name": touch.get("name"),
        "delivery_type": touch["delivery_type"],
        "currency": touch.get("currency", "USD"),
        "cost": float(touch.get("starting_egift_price") or 30.0),
    }
