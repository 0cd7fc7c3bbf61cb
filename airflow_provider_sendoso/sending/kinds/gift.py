"""Gifts of the catalogue: ``POST /api/v3/sends`` (seed).

A send of unknown outcome is recognised by the ledger's mark in its metadata. That Sendoso lists gift sends, and that
the list shows their metadata, is inferred.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import (
    Request,
    get_send_request,
    gift_send_request,
    list_sends_request,
)
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.client.reads import Reads
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tracker import CLOCKS_APART, Descent
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError, SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import ITEM_FIELDS, METADATA_KEY, GiftSend, Item, Send, StatusReport
from airflow_provider_sendoso.models.checks import address_problem
from airflow_provider_sendoso.sending.kinds.base import P, PriceList, SendKind
from airflow_provider_sendoso.sending.scanning import LONGEST_SCAN, Scan, Scanner

log = logging.getLogger(__name__)

_NOTHING_ELSE = ("",) * (len(ITEM_FIELDS) - 1)


class GiftKind(SendKind[GiftSend]):
    """A gift of the catalogue."""

    model = GiftSend
    named_by = "gift_id"
    columns = ("message", "gift_id", "variant_id", "team_id")
    plural = "gift sends"

    def request(self, send: GiftSend, *, airflow_key: str | None, via_from: str) -> Request:
        """Build the POST, with the ledger's mark in the metadata."""
        return gift_send_request(send, airflow_key)

    def read(self, send: GiftSend, body: Any) -> Send | None:
        """Read the answer: an id."""
        return read_send(body)

    def item_cells(self, send: GiftSend) -> tuple[str, ...]:
        """Return the gift, and nothing else."""
        return send.gift_id, *_NOTHING_ELSE

    def price(self, item: Item, prices: PriceList[P]) -> P:
        """Look up the price of the gift."""
        return prices.of_gift(item.gift_id or "")

    def no_field_for(self, names: str) -> SendosoConfigError:
        """Return the message that refuses arguments."""
        return SendosoConfigError(
            f"{names}: only with touch_id, for only a campaign asks for addresses. Nothing was sent."
        )

    def email(self, send: GiftSend) -> str:
        """Return the recipient's e-mail address."""
        return send.recipient.email

    def shaped(self, send: GiftSend, reads: Reads) -> GiftSend:
        """Look up whether the gift goes by e-mail, if something was left out that only a parcel needs."""
        if send.left_out is not None:
            with suppress(SendosoError):  # the catalogue cannot be read, so the gift may go by post
                gift = reads.find_gift(send.gift_id)
                if gift is not None and gift.physical is False:
                    return send
            raise SendosoConfigError(f"The send is not valid: {send.left_out}. Nothing was sent.")
        return send

    def problem_by_post(self, send: GiftSend) -> str | None:
        """Return what a parcel's address lacks."""
        return send.left_out or address_problem(send.recipient.address)

    def scanner(self, session: SendosoSession, ledger: Ledger, latest: float) -> Scanner:
        """Look for the ledger's marks in the list of gift sends."""
        return MarkScanner(session, ledger)

    def statuses(
        self, session: SendosoSession, ledger: Ledger, records: Sequence[Record]
    ) -> dict[str, StatusReport | None]:
        """Read each send by its id."""
        statuses: dict[str, StatusReport | None] = {}
        for record in records:
            with suppress(SendosoNotFoundError):
                send = read_send(session.read(get_send_request(str(record.send_id))).json)
                statuses[record.send_key] = send.report if send else None
        return statuses


class MarkScanner:
    """
    Looks for gift sends by their marks.

    :param session: calls Sendoso.
    :param ledger: knows the marks.
    """

    known_by = "mark"

    def __init__(self, session: SendosoSession, ledger: Ledger) -> None:
        self._session = session
        self._ledger = ledger

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool, stop: Callable[[], bool]) -> Scan:
        """Walk through the list; unless all of it is wanted, only as far as it can hold the sends."""
        scan = Scan()
        keys = {self._ledger.airflow_key(send_key): send_key for send_key in unresolved}
        marks = set[str]()
        oldest = min(record.posted_at or 0.0 for record in unresolved.values()) - CLOCKS_APART
        pages = Pages(list_sends_request(), "sends", until_empty=whole)
        descent = Descent()
        while not pages.done:
            for item in pages.read(self._session.read(pages.next_request()).json):
                mark = _mark(item)
                if mark is not None:
                    marks.add(mark)
                    send = read_send(item) if mark in keys else None
                    if send is not None:
                        scan.found.setdefault(keys[mark], {})[send.id] = send
                descent.see(item)
            if not whole and (descent.is_past(oldest) or len(scan.found) == len(unresolved)):
                return scan
            if stop():
                log.warning("Sendoso's list of sends is too long to be read within %.0f s.", LONGEST_SCAN)
                return scan
        if pages.whole and marks:  # a list that shows no marks at all proves nothing
            scan.absent = {key for mark, key in keys.items() if mark not in marks}
        return scan


def _mark(item: Mapping[str, Any]) -> str | None:
    metadata = item.get("metadata")
    mark = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
    return mark if isinstance(mark, str) else None
