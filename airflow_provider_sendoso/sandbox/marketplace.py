"""The marketplace's invented products, and the checks of its sends and of SmartSend's (published).

That a send without its token's scope is answered with 403, and which refusals there are, is inferred.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_sendoso.sandbox.refusal import Refusal
from airflow_provider_sendoso.sandbox.validation import check_email, check_texts, read_object

PAGE = 4
"""Products to a page: few, so that a reader has to follow the cursor."""

_EUROPE = ("BE", "DE", "ES", "FR", "GB", "IE", "IT", "NL")
_RECIPIENT = ("recipient_email", "recipient_first_name", "recipient_last_name")
_CODE = re.compile("[A-Z]{2}")
_LARGEST_PRICE = 10**6


@dataclass(frozen=True)
class Product:
    """
    One product of the marketplace.

    :param category: the id of its category
    :param variants: its variants: their ids and prices in USD, as text with decimals (published)
    :param ships_to: ISO 3166 codes; the API filters by them and does not show them (published)
    """

    id: str
    name: str
    description: str
    category: str
    variants: tuple[tuple[str, str], ...]
    ships_to: tuple[str, ...]

    def as_json(self, **more: Any) -> dict[str, Any]:
        """Return the product as the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "variants": [
                {
                    "id": variant_id,
                    "estimated_total_price": {"currency": "USD", "price_per_unit": price},
                    "images": [{"url": f"https://images.example.com/{variant_id}.png"}],
                }
                for variant_id, price in self.variants
            ],
            **more,
        }


CATEGORIES = [
    {
        "group_name": "Food",
        "children": [{"id": "cat-snacks", "name": "Snacks"}, {"id": "cat-drinks", "name": "Drinks"}],
    },
    {"group_name": "Home", "children": [{"id": "cat-desk", "name": "Desk"}]},
]

PRODUCTS: tuple[Product, ...] = (
    Product(
        "prod-snacks",
        "Snack box",
        "Nuts and dried fruit",
        "cat-snacks",
        (("var-snacks-small", "24.50"), ("var-snacks-large", "49.00")),
        ("US", "CA", *_EUROPE),
    ),
    Product("prod-tea", "Tea chest", "Twelve teas", "cat-drinks", (("var-tea", "31.75"),), ("US", *_EUROPE)),
    Product("prod-coffee", "Coffee flight", "Four roasts", "cat-drinks", (("var-coffee", "38.00"),), ("US", "CA")),
    Product("prod-lamp", "Desk lamp", "With a dimmer", "cat-desk", (("var-lamp", "89.99"),), ("US",)),
    Product("prod-pen", "Fountain pen", "With a steel nib", "cat-desk", (("var-pen", "45.00"),), ("US", *_EUROPE)),
    Product("prod-brownies", "Brownies", "A dozen", "cat-snacks", (("var-brownies", "29.95"),), ("US",)),
)

_VARIANTS = {variant_id: (product, price) for product in PRODUCTS for variant_id, price in product.variants}


def list_products(query: Mapping[str, str], countries: Sequence[str], categories: Sequence[str]) -> dict[str, Any]:
    """
    Return a page of the products that match a query.

    :param query: ``after``, ``price_gte_usd``, ``price_lte_usd`` and ``text_search``
    :param countries: ``ship_to_country_codes[]``; a product has to ship to one of them (inferred)
    :param categories: ``category_ids[]``
    :raises Refusal: 400 if a filter or the cursor is wrong
    """
    least, most = _read_price(query, "price_gte_usd"), _read_price(query, "price_lte_usd")
    if any(not _CODE.fullmatch(code) for code in countries):
        raise Refusal(400, "ship_to_country_codes is invalid")
    words = query.get("text_search", "").casefold()
    found = [
        product
        for product in PRODUCTS
        if (not countries or not set(countries).isdisjoint(product.ships_to))
        and (not categories or product.category in categories)
        and words in f"{product.name} {product.description}".casefold()
        and any(
            (least is None or float(p) >= least) and (most is None or float(p) <= most) for _, p in product.variants
        )
    ]
    ids = [product.id for product in found]
    after = query.get("after")
    if after is not None and after not in ids:
        raise Refusal(400, "after is invalid")
    start = 0 if after is None else ids.index(after) + 1
    page = found[start : start + PAGE]
    more = start + PAGE < len(found)
    return {
        "pagination": {
            "after": page[-1].id if more else None,
            "next_page": {"url": f"/api/v3/marketplace/products?after={page[-1].id}" if more else None},
        },
        "categories": CATEGORIES,
        "products": [product.as_json() for product in page],
    }


def recommend(query: Mapping[str, str]) -> list[dict[str, Any]]:
    """
    Return the products that fit a person.

    :param query: ``recipient_email``, ``price_lte_usd`` and ``ship_to_country_code``
    :raises Refusal: 400 if a value is missing or wrong
    """
    check_texts(query, ("recipient_email",))
    return [
        product.as_json(interests=["reading", "tea"])
        for product in _fitting(_read_price(query, "price_lte_usd"), query.get("ship_to_country_code"))
    ]


def read_product_send(raw: bytes) -> tuple[dict[str, Any], str, float]:
    """
    Read the body of ``POST /api/v3/marketplace/products/send``.

    :param raw: the request's body
    :return: the body, the variant that is sent, which is the first of the list (published), and its price
    :raises Refusal: 400, 404 or 422
    """
    body = read_object(raw)
    _check_send(body)
    variants = body.get("variant_ids")
    if not isinstance(variants, list) or not variants or not isinstance(variants[0], str):
        raise Refusal(400, "variant_ids can't be blank")
    known = _VARIANTS.get(variants[0])
    if known is None:
        raise Refusal(404, "Variant not found")
    return body, variants[0], float(known[1])


def read_smart_send(raw: bytes) -> tuple[dict[str, Any], str, float]:
    """
    Read the body of ``POST /api/v3/smartsend/recommendations/send``, and pick a variant.

    :param raw: the request's body
    :return: the body, the variant, and its price
    :raises Refusal: 400 or 422
    """
    body = read_object(raw)
    _check_send(body)
    most = body.get("price_lte_usd")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 0):
        raise Refusal(400, "price_lte_usd is invalid")
    country = body.get("ship_to_country_code")
    for product in _fitting(most, country):
        for variant_id, price in product.variants:
            if most is None or float(price) <= most:
                return body, variant_id, float(price)
    raise Refusal(422, "No recommendation matches")


def _check_send(body: Mapping[str, Any]) -> None:
    check_texts(body, _RECIPIENT)
    check_email(body["recipient_email"])
    for name in ("gift_exchange_enabled", "require_approval"):
        if not isinstance(body.get(name), bool | None):
            raise Refusal(400, f"{name} is invalid")


def _fitting(most: float | None, country: str | None) -> list[Product]:
    if country is not None and not _CODE.fullmatch(str(country)):
        raise Refusal(400, "ship_to_country_code is invalid")
    return [
        product
        for product in PRODUCTS
        if (country is None or country in product.ships_to)
        and any(most is None or float(price) <= most for _, price in product.variants)
    ]


def _read_price(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) > _LARGEST_PRICE:
        raise Refusal(400, f"{name} is invalid")
    return int(text)
