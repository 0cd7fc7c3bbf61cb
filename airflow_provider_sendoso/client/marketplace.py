"""The marketplace and SmartSend: requests, their answers, and lists that are paged by a cursor. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import LARGEST_OBJECT, Request
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoServerError
from airflow_provider_sendoso.models import MarketplaceSend, Send, SmartSend
from airflow_provider_sendoso.models.countries import COUNTRIES

MOST_PAGES = 10_000
"""The most pages of one list; beyond, the cursor is taken to lead nowhere."""

PRODUCTS = "/api/v3/marketplace/products"
RECOMMENDATIONS = "/api/v3/smartsend/recommendations"


def marketplace_send_request(send: MarketplaceSend) -> Request:
    """
    Build the send of one variant (published); absent fields are left out.

    The list of variants has one, because Sendoso sends only the first (published).

    :param send: the send.
    """
    names = ("sender_first_name", "sender_last_name", "sender_email", "sender_organization_name")
    sender = {name: value for name in names if (value := getattr(send, name)) is not None}
    return _post(f"{PRODUCTS}/send", send, {"variant_ids": [send.marketplace_variant_id], **sender})


def smart_send_request(send: SmartSend) -> Request:
    """
    Build the send of a gift that Sendoso picks (published); absent fields are left out.

    :param send: the send.
    """
    where = {"price_lte_usd": send.price_lte_usd, "ship_to_country_code": send.recipient.country}
    return _post(f"{RECOMMENDATIONS}/send", send, where)


def _post(path: str, send: MarketplaceSend | SmartSend, fields: Mapping[str, Any]) -> Request:
    recipient = send.recipient
    body = {
        **fields,
        "recipient_email": recipient.email,
        "recipient_first_name": recipient.first_name,
        "recipient_last_name": recipient.last_name,
        "message": send.message,
        "gift_exchange_enabled": send.gift_exchange_enabled,
        "meeting_url": send.meeting_url,
        "require_approval": send.require_approval,
    }
    present = {name: value for name, value in body.items() if value is not None}
    return Request(
        "POST",
        path,
        json=present,
        made_from=recipient.model_dump(exclude={"address"}),
        largest_answer=LARGEST_OBJECT,
        has_minute_limit=True,
    )


def read_product_send(body: Any, variant_id: str | None = None) -> Send | None:
    """
    Read the answer to a send: ``{"products": [{"variant_id"}], "send": {"id"}}`` (published).

    :param body: the answer's JSON.
    :param variant_id: the variant that was to be sent; ``None`` if Sendoso was to pick one.
    :return: ``None`` if there is no ``send.id``, if the body says ``success: false``, or if it names another variant
        alone: the outcome is then not known.
    """
    if not isinstance(body, Mapping) or body.get("success") is False or not isinstance(body.get("send"), Mapping):
        return None
    products = body.get("products")
    rows = [row for row in products if isinstance(row, Mapping)] if isinstance(products, list) else []
    named = {str(row["variant_id"]) for row in rows if row.get("variant_id") is not None}
    if variant_id is not None and named and variant_id not in named:
        return None
    return read_send(body["send"])


def products_request(
    *,
    price_gte_usd: int | None = None,
    price_lte_usd: int | None = None,
    ship_to_country_codes: Iterable[str] = (),
    category_ids: Iterable[str] = (),
    text_search: str | None = None,
) -> Request:
    """
    Build the request for products (published).

    :param price_gte_usd: the lowest price, in whole USD.
    :param price_lte_usd: the highest price, in whole USD.
    :param ship_to_country_codes: ISO 3166 alpha-2, in any case.
    :param category_ids: ids of categories.
    :param text_search: words.
    :raises SendosoConfigError: if a filter is wrong; nothing was read.
    """
    params = {
        "price_gte_usd": _whole("price_gte_usd", price_gte_usd),
        "price_lte_usd": _whole("price_lte_usd", price_lte_usd),
        "ship_to_country_codes[]": [_country("ship_to_country_codes", code) for code in _texts(ship_to_country_codes)],
        "category_ids[]": _texts(category_ids),
        "text_search": text_search,
    }
    return _get(PRODUCTS, params)


def recommendations_request(
    recipient_email: str, *, price_lte_usd: int | None = None, ship_to_country_code: str | None = None
) -> Request:
    """
    Build the request for what Sendoso would pick for a person (published).

    :param recipient_email: the person's.
    :param price_lte_usd: the highest price, in whole USD.
    :param ship_to_country_code: ISO 3166 alpha-2, in any case.
    :raises SendosoConfigError: if a value is wrong; nothing was read.
    """
    if not isinstance(recipient_email, str) or not recipient_email.strip():
        raise SendosoConfigError("recipient_email is empty. Nothing was read.")
    country = None if ship_to_country_code is None else _country("ship_to_country_code", ship_to_country_code)
    params = {
        "recipient_email": recipient_email.strip(),
        "price_lte_usd": _whole("price_lte_usd", price_lte_usd),
        "ship_to_country_code": country,
    }
    return _get(RECOMMENDATIONS, params)


def _get(path: str, params: Mapping[str, Any]) -> Request:
    kept = {name: value for name, value in params.items() if value not in (None, [], "")}
    return Request("GET", path, params=kept, has_minute_limit=True)


def _texts(values: Iterable[str]) -> list[str]:
    return [values] if isinstance(values, str) else [str(value) for value in values]


def _whole(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.fullmatch("[0-9]{1,7}", text):
        raise SendosoConfigError(f"{name} must be a whole number of USD, as Sendoso takes it. Nothing was read.")
    return int(text)


def _country(name: str, code: str) -> str:
    folded = code.strip().upper()
    if folded not in COUNTRIES:
        raise SendosoConfigError(
            f"{name} holds what is no two-letter code of ISO 3166, like GB or US. Nothing was read."
        )
    return folded


class CursorListing:
    """
    Walks through a list of products that is paged by a cursor (published), without I/O.

    Only the cursor ``after`` is followed, never the URL beside it, which may lead to another host. The rows of a page
    are checked against those before, so that each product is returned once.

    :param request: the request for the whole list.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.total: int | None = None
        """Always ``None``: the API does not count products."""
        self.done = False
        self._after: str | None = None
        self._cursors = set[str]()
        self._ids = set[str]()

    def next_request(self) -> Request:
        """Build the request of the next page."""
        if self._after is None:
            return self.request
        return replace(self.request, params={**self.request.params, "after": self._after})

    def read(self, body: Any) -> list[dict[str, Any]]:
        """
        Take a page's body, move to the next page, and return its new rows.

        :param body: the answer's JSON.
        :raises SendosoServerError: if the body holds no products, or if a cursor repeats, as the list has no end.
        """
        rows = body.get("products") if isinstance(body, Mapping) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SendosoServerError(200, f"{self.request} answered without a list of 'products'.")
        pagination = body.get("pagination")
        after = pagination.get("after") if isinstance(pagination, Mapping) else None
        self._after = str(after) if isinstance(after, str | int) and str(after).strip() else None
        self.done = self._after is None
        if self._after is not None:
            if self._after in self._cursors or len(self._cursors) >= MOST_PAGES:
                raise SendosoServerError(
                    200, f"{self.request} answered with a cursor that it had answered with before: the list has no end."
                )
            self._cursors.add(self._after)
        new = [row for row in rows if str(row.get("id")) not in self._ids]
        self._ids.update(str(row.get("id")) for row in rows)
        return new
