"""Products of the marketplace: ``POST /api/v3/marketplace/products/send`` (published).

Sendoso asks the recipient for the address. The answer has an id; that the Send Tracker's list shows the send under that
id is inferred, as is that it shows no campaign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.marketplace import marketplace_send_request, read_product_send
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tracker import Tracker
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import Item, MarketplaceSend, Send, SmartSend, StatusReport
from airflow_provider_sendoso.sending.kinds.base import P, PriceList, SendKind
from airflow_provider_sendoso.sending.kinds.tracking import ListedSendScanner, tracked
from airflow_provider_sendoso.sending.scanning import Scanner

_A = TypeVar("_A", MarketplaceSend, SmartSend)

ASKED_COLUMNS = ("message", "gift_exchange_enabled", "meeting_url", "require_approval")
"""The columns of both."""
_SENDER = ("first_name", "last_name", "email", "organization_name")


class AskedKind(SendKind[_A]):
    """What the marketplace and SmartSend have in common: Sendoso asks the recipient for the address."""

    def no_field_for(self, names: str) -> SendosoConfigError:
        """Return the message that refuses arguments."""
        return SendosoConfigError(
            f"{names}: not with {self.named_by}, for a send of {self.plural} has no such field. Nothing was sent."
        )

    def email(self, send: _A) -> str:
        """Return the recipient's e-mail address."""
        return send.recipient.email

    def country(self, send: _A) -> str | None:
        """Return the recipient's country."""
        return send.recipient.country

    def scanner(self, session: SendosoSession, ledger: Ledger, latest: float) -> Scanner:
        """Look for recipient and time in the Send Tracker's list, where it shows sends of this kind."""
        return ListedSendScanner(self.model.kind, session, ledger, latest)

    def statuses(
        self, session: SendosoSession, ledger: Ledger, records: Sequence[Record]
    ) -> dict[str, StatusReport | None]:
        """Look for the sends' ids in one walk through the Send Tracker's list."""
        tracker = Tracker([tracked(record) for record in records if record.list_id is not None], str)
        try:
            session.walk(tracker.walk())
        except SendosoNotFoundError:
            return dict.fromkeys((record.send_key for record in records), None)  # this Sendoso has no such list
        return {record.send_key: found.report for record in records if (found := tracker.seen.get(record.send_key))}


class MarketplaceKind(AskedKind[MarketplaceSend]):
    """A variant of a product."""

    model = MarketplaceSend
    named_by = "marketplace_variant_id"
    columns = (named_by, *ASKED_COLUMNS, *(f"sender_{name}" for name in _SENDER))
    plural = "marketplace products"
    scope = "marketplace"

    def request(self, send: MarketplaceSend, *, airflow_key: str | None, via_from: str) -> Request:
        """Build the POST; it has no field for the ledger's mark."""
        return marketplace_send_request(send)

    def read(self, send: MarketplaceSend, body: Any) -> Send | None:
        """Read the answer: an id, and the variant."""
        return read_product_send(body, send.marketplace_variant_id)

    def price(self, item: Item, prices: PriceList[P]) -> P:
        """Look up the estimated price of the variant."""
        return prices.of_variant(item.marketplace_variant_id or "")
