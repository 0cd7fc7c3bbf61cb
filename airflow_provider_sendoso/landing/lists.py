"""Sendoso's lists that can be loaded: their columns and the columns' types."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The type of a column; it depends only on the column's name, and so never changes."""

    ID = "id"
    TEXT = "text"
    MOMENT = "moment"
    AMOUNT = "amount"
    COUNT = "count"
    TRUTH = "truth"
    JSON = "json"


HASH, LANDED_AT = "landed_hash", "landed_at"
"""The additional columns of every table: the row's hash, and when the row was last written."""

OWN = {LANDED_AT: Kind.MOMENT, HASH: Kind.TEXT}


@dataclass(frozen=True)
class ObjectList:
    """
    One of Sendoso's lists that can be loaded.

    :param name: the list's name in the operator's arguments.
    :param path: the list's name in the API.
    :param columns: the columns that its table always has, in order; from published or inferred fields.
    :param are_sends: whether its rows are sends, whose status may change.
    :param expand: makes several rows of one object; ``None`` if each object is a row.
    """

    name: str
    path: str
    columns: Mapping[str, Kind] = field(repr=False)
    are_sends: bool = False
    expand: Callable[[Mapping[str, Any]], Iterator[Mapping[str, Any]]] | None = field(default=None, repr=False)

    @property
    def always(self) -> tuple[str, ...]:
        """The columns that are always loaded: they show which rows the table has, and which may still change."""
        return ("id", "status", "status_word", "created_at") if self.are_sends else ("id",)

    def kind_of(self, column: str) -> Kind:
        """
        Return a column's type, by its name alone.

        :param column: a column of the table, or a new one.
        """
        known = self.columns.get(column) or OWN.get(column)
        if known is not None:
            return known
        return next((kind for words, kind in _BY_NAME if words.search(column)), Kind.TEXT)


_BY_NAME = (
    (re.compile(r"^metadata_|_text$"), Kind.TEXT),
    (re.compile(r"_(at|date)$"), Kind.MOMENT),
    (re.compile(r"(^|_)(amount|balance|budget|cost|price)$"), Kind.AMOUNT),
    (re.compile(r"(^|_)count$"), Kind.COUNT),
    (re.compile(r"^(is|has)_"), Kind.TRUTH),
)


def _typed(**names: str) -> dict[str, Kind]:
    return {name: Kind(kind) for name, kind in names.items()}


_SENDS = _typed(
    id="id",
    status="text",
    status_word="text",
    created_at="moment",
    gift_id="text",
    variant_id="text",
    recipient_name="text",
    recipient_email="text",
    tracking_url="text",
    metadata="json",
    status_updates="json",
)

_CAMPAIGN_SENDS = _typed(
    id="id",
    status="text",
    status_word="text",
    created_at="moment",
    send_gid="text",
    type="text",
    subtype="text",
    currency="text",
    current_total_cost="amount",
    touch_id="text",
    touch_name="text",
    recipient_name="text",
    recipient_email="text",
    recipient_company_name="text",
    sent_via="text",
    tracking_url="text",
    status_updates="json",
)

_TOUCHES = _typed(
    id="id",
    name="text",
    status="text",
    delivery_type="text",
    gift_id="text",
    start_date="moment",
    end_date="moment",
    starting_egift_price="amount",
    ending_egift_price="amount",
    currency="text",
    ship_to_countries="json",
    created_at="moment",
)

_GROUPS = _typed(
    id="id",
    name="text",
    team_id="text",
    budget="amount",
    monthly_budget="amount",
    one_time_budget="amount",
    rollover="truth",
    created_at="moment",
)

_USERS = _typed(
    id="id",
    first_name="text",
    last_name="text",
    email="text",
    balance="amount",
    team_balance="amount",
    team_id="text",
    team_group_id="text",
)

_GIFTS = _typed(id="id", name="text", category="text", price="amount", currency="text")

_MARKETPLACE = _typed(
    id="id",
    product_id="text",
    product_name="text",
    description="text",
    price="amount",
    currency="text",
    image_url="text",
)


def _variants(product: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Make a row of each variant of a product, because a variant is what can be sent."""
    variants = product.get("variants")
    for variant in variants if isinstance(variants, list) else []:
        fields = variant if isinstance(variant, Mapping) else {}
        price, images = fields.get("estimated_total_price"), fields.get("images")
        priced = price if isinstance(price, Mapping) else {}
        image = images[0] if isinstance(images, list) and images and isinstance(images[0], Mapping) else {}
        yield {
            "id": fields.get("id"),
            "product_id": product.get("id"),
            "product_name": product.get("name"),
            "description": product.get("description"),
            "price": priced.get("price_per_unit"),
            "currency": priced.get("currency"),
            "image_url": image.get("url"),
        }


_RETURN_ADDRESSES = _typed(id="id", name="text", address="text", city="text", state="text", zip="text", country="text")

LISTS = {
    found.name: found
    for found in (
        ObjectList("sends", "sends", _SENDS, are_sends=True),
        ObjectList("campaign_sends", "send", _CAMPAIGN_SENDS, are_sends=True),
        ObjectList("touches", "touches", _TOUCHES),
        ObjectList("groups", "groups", _GROUPS),
        ObjectList("users", "users", _USERS),
        ObjectList("gifts", "gifts", _GIFTS),
        ObjectList("marketplace_products", "marketplace/products", _MARKETPLACE, expand=_variants),
        ObjectList("return_addresses", "return-addresses", _RETURN_ADDRESSES),
    )
}
"""The lists by their name in the operator's arguments."""
