"""
The campaign, marketplace and SmartSend sends that an account has accepted.

Plain Python: no sockets, and the clock is passed in.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from airflow_provider_sendoso.sandbox.account import gid_of
from airflow_provider_sendoso.sandbox.campaign_validation import is_in_us
from airflow_provider_sendoso.sandbox.journal import CAMPAIGN, Journal
from airflow_provider_sendoso.sandbox.statuses import (
    STATUSES,
    campaign_path,
    iso,
    product_path,
    status_of,
    updates_along,
)
from airflow_provider_sendoso.sandbox.tracker import FIRST_ID, CampaignSend, OldSends, Tracker, touch_of

ORDERS = ("newest_first", "oldest_first")
"""The orders in which the Send Tracker may list sends; Sendoso promises neither."""

_LONGEST_PATH = 5  # of statuses

_SENDER = {"id": 1, "name": "Sandbox User", "email": "sandbox@example.com"}


class Campaigns:
    """
    Accepts campaign sends, stores them, and returns their statuses.

    :param step: seconds from one status to the next
    :param clock: returns the time in epoch seconds
    :param journal: the file that stores sends over a restart, if any
    :param order: one of ``ORDERS``
    :raises ValueError: if there is no such order, or the file holds something else
    """

    def __init__(
        self, step: float, clock: Callable[[], float], journal: Journal | None = None, order: str = "newest_first"
    ) -> None:
        self._step = step
        self._clock = clock
        self._journal = journal
        self._sends: list[CampaignSend] = []
        self._places: dict[str, int] = {}
        self._old = OldSends()
        self.shows_products = True
        """Whether the Send Tracker lists the sends of the marketplace and of SmartSend (inferred)."""
        self.order = order
        for record in journal.read(CAMPAIGN) if journal else ():
            self._keep(_from_record(record))

    @property
    def order(self) -> str:
        """The order of the Send Tracker's list, one of ``ORDERS``."""
        return self._order

    @order.setter
    def order(self, order: str) -> None:
        if order not in ORDERS:
            raise ValueError(f"{order!r} is none of {', '.join(ORDERS)}")
        self._order = order

    def accept(self, body: dict[str, Any], touch: Mapping[str, Any], client_id: str) -> CampaignSend:
        """
        Store a valid send. A repeated send is a new send: "Sendoso does not handle duplicate payloads" (published).

        :param body: the ``send`` object of the request
        :param touch: the campaign that the send names
        :param client_id: the client that has sent it
        """
        path = _path_of(body, touch)
        return self._store(
            CampaignSend(
                id=FIRST_ID + len(self._sends),
                tracking_code=f"SB{secrets.token_hex(4).upper()}",
                body=body,
                touch=touch_of(touch),
                path=path,
                accepted_at=self._clock(),
                client_id=client_id,
                status=path[0],
            )
        )

    def accept_product(self, body: dict[str, Any], variant_id: str, price: float, client_id: str) -> CampaignSend:
        """
        Store a valid send of the marketplace or of SmartSend.

        That the Send Tracker lists it, without a campaign and under the id of the answer, is inferred.

        :param body: the request's body
        :param variant_id: the variant that is sent
        :param price: in USD
        :param client_id: the client that has sent it
        """
        name = f"{body['recipient_first_name']} {body['recipient_last_name']}"
        path = product_path(body["recipient_email"], bool(body.get("require_approval")))
        return self._store(
            CampaignSend(
                id=FIRST_ID + len(self._sends),
                tracking_code=f"SB{secrets.token_hex(4).upper()}",
                body={**body, "email": body["recipient_email"], "name": name, "via_from": None},
                touch={"id": None, "name": variant_id, "delivery_type": "mail", "currency": "USD", "cost": price},
                path=path,
                accepted_at=self._clock(),
                client_id=client_id,
                status=path[0],
            )
        )

    def finish(self, name: str | int, status: str) -> None:
        """
        Force a send's status; it stays there.

        :param name: the id or the tracking code of an accepted send
        :param status: any word
        :raises ValueError: if the word is blank
        :raises KeyError: if there is no such send
        """
        if not status.strip():
            raise ValueError("a status must have a word")
        send = self._sends[self._places[str(name)]]
        self._store(replace(send, finished=(status, self._clock())))

    def knows(self, name: str | int) -> bool:
        """
        Return whether a send was accepted here.

        :param name: the id or the tracking code of the send
        """
        return str(name) in self._places

    def preload(self, count: int, touches: Sequence[Mapping[str, Any]], email: str, spacing: float) -> None:
        """
        Make the Send Tracker list many old sends, in the place of those that an earlier call made.

        :param count: the number of old sends
        :param touches: the campaigns of the sends, in turn
        :param email: the recipients' e-mail address, with ``{}`` for the number of the send; the oldest has number 0
        :param spacing: seconds from one send to the next; the newest is made now
        :raises ValueError: if there are more sends than ids, or no campaign
        """
        if not 0 <= count < FIRST_ID or not touches:
            raise ValueError(f"count must be from 0 to {FIRST_ID - 1:,}, and of one campaign at least")
        newest_at = self._clock() - spacing - _LONGEST_PATH * self._step
        self._old = OldSends(count, tuple(dict(touch) for touch in touches), email, newest_at, spacing)

    def sends(self) -> list[CampaignSend]:
        """Return every send that was accepted, oldest first, with its present status."""
        now = self._clock()
        return [replace(send, status=self._updates(send, now)[-1][0]) for send in self._sends]

    def tracker(self) -> Tracker:
        """Return the Send Tracker's list."""
        shown = self._sends if self.shows_products else [send for send in self._sends if not send.is_product]
        return Tracker(self._old, shown, self._order == "newest_first")

    def describe(self, send: CampaignSend) -> dict[str, Any]:
        """
        Return a send as the Send Tracker shows it: the fields are published, most of their values are inferred.

        :param send: a send of the list
        """
        updates = self._updates(send, self._clock())
        body = send.body
        return {
            "id": send.id,
            "send_gid": gid_of(send.id),
            "type": send.touch["delivery_type"],
            "subtype": "egift" if send.touch["delivery_type"] == "email" else "inventoried",
            "currency": send.touch["currency"],
            "current_total_cost": send.touch["cost"],
            "status": updates[-1][0],
            "created_at": iso(send.accepted_at),
            "touch": None if send.is_product else {"id": send.touch["id"], "name": send.touch["name"]},
            "recipient": {
                "name": body.get("name"),
                "email": body["email"],
                "company_name": body.get("company_name"),
            },
            "sender": dict(_SENDER),
            "sent_via": body["via_from"],
            "status_updates": [{"status": status, "occurred_at": iso(when)} for status, when in updates],
        }

    def changes(self) -> list[tuple[str, list[tuple[str, float]]]]:
        """Return, for the webhooks, the ``send_gid`` and the statuses of every send that was accepted."""
        now = self._clock()
        return [(gid_of(send.id), self._updates(send, now)) for send in self._sends]

    def state(self) -> list[dict[str, Any]]:
        """Return every accepted send as JSON, newest first, with its tracking code and its status among the six."""
        return [
            {
                **self.describe(send),
                "tracking_code": send.tracking_code,
                "variant_id": send.touch["name"] if send.is_product else None,
                "delivery_status": status_of(send.status),
            }
            for send in reversed(self.sends())
        ]

    def counts(self) -> dict[str, int]:
        """Count the accepted sends by the seed's six statuses."""
        found = Counter(status_of(send.status) for send in self.sends())
        return {status: found[status] for status in STATUSES}

    def duplicates(self) -> dict[tuple[str, str], int]:
        """Count the sends of the same campaign to the same e-mail, where there is more than one."""
        counts = Counter(send.duplicate_key for send in self._sends)
        return {key: count for key, count in counts.items() if count > 1}

    def clear(self) -> None:
        """Delete every send, those that were preloaded included, and clear the journal."""
        self._sends.clear()
        self._places.clear()
        self._old = OldSends()
        if self._journal:
            self._journal.clear()

    def _store(self, send: CampaignSend) -> CampaignSend:
        # A send whose status was forced is written a second time; the last line with an id is valid.
        if self._journal:
            self._journal.append(asdict(send), CAMPAIGN)
        self._keep(send)
        return send

    def _keep(self, send: CampaignSend) -> None:
        place = self._places.setdefault(str(send.id), len(self._sends))
        if place == len(self._sends):
            self._places[send.tracking_code] = place
            self._sends.append(send)
        else:
            self._sends[place] = send

    def _updates(self, send: CampaignSend, now: float) -> list[tuple[str, float]]:
        return updates_along(send.path, send.accepted_at, self._step, now, send.finished)


def _path_of(body: Mapping[str, Any], touch: Mapping[str, Any]) -> tuple[str, ...]:
    asked = bool(body.get("no_address"))
    mailed = touch["delivery_type"] == "mail" and not asked
    if mailed and not is_in_us(body.get("country")) and not str(body.get("mobile_no") or "").strip():
        return ("Failed",)  # "fails silently" (published); that the Send Tracker shows it is inferred
    return campaign_path(body["email"], touch["delivery_type"], asked)


def _from_record(record: dict[str, Any]) -> CampaignSend:
    try:
        send = CampaignSend(**record)
    except TypeError as error:
        raise ValueError("the state file holds something else than sends") from error
    finished = (send.finished[0], send.finished[1]) if send.finished else None
    return replace(send, path=tuple(send.path), finished=finished)
