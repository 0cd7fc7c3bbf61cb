"""Gifts that Sendoso picks for a person: ``POST /api/v3/smartsend/recommendations/send`` (published).

What is sent, and what it costs, is not known before; ``price_lte_usd`` is the most that it may cost.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.marketplace import read_product_send, smart_send_request
from airflow_provider_sendoso.models import Item, Send, SmartSend
from airflow_provider_sendoso.models.text import read_truth
from airflow_provider_sendoso.models.words import ANY_PRICE
from airflow_provider_sendoso.sending.kinds.base import P, PriceList
from airflow_provider_sendoso.sending.kinds.marketplace import ASKED_COLUMNS, AskedKind


class SmartSendKind(AskedKind[SmartSend]):
    """A gift of Sendoso's choice."""

    model = SmartSend
    named_by = "smart_send"
    columns = (named_by, "price_lte_usd", *ASKED_COLUMNS)
    plural = "SmartSend gifts"
    scope = "smartsend"

    def is_named_by(self, cell: Any) -> bool:
        """Return whether a row's ``smart_send`` is not false; whatever else it is, the model judges."""
        try:
            return read_truth(cell) is not False and super().is_named_by(cell)
        except ValueError:
            return True

    def request(self, send: SmartSend, *, airflow_key: str | None, via_from: str) -> Request:
        """Build the POST; it has no field for the ledger's mark."""
        return smart_send_request(send)

    def read(self, send: SmartSend, body: Any) -> Send | None:
        """Read the answer: an id."""
        return read_product_send(body)

    def price(self, item: Item, prices: PriceList[P]) -> P:
        """Take the most that the gift may cost for its price; every limit on costs needs it."""
        return prices.at_most(None if item.smart_send == ANY_PRICE else item.smart_send)
