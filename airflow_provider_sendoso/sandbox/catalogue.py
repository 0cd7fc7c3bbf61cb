"""The invented gifts that the sandbox offers, one or more of each kind that Sendoso's catalogue has (seed)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_NORTH_AMERICA = ("CA", "US")
# fmt: off
_EUROPE = (
    "AT", "BE", "CH", "CZ", "DE", "DK", "ES", "FI", "FR", "GB",
    "GR", "IE", "IT", "LU", "NL", "NO", "PL", "PT", "RO", "SE",
)
# fmt: on
_ANYWHERE = (*_NORTH_AMERICA, *_EUROPE, "AU", "BR", "IN", "JP", "MX", "NZ", "SG", "ZA")


@dataclass(frozen=True)
class Variant:
    """One size or colour of a branded item."""

    id: str
    name: str


@dataclass(frozen=True)
class Gift:
    """
    One item of the catalogue.

    The names of the fields are inferred, after those that Sendoso publishes for campaigns.

    :param category: ``swag``, ``physical``, ``egift`` or ``donation``
    :param price: the item alone in USD, without fulfilment and shipping
    :param delivery_type: ``mail`` needs a postal address, ``email`` does not
    :param ship_to_countries: ISO 3166 codes of the countries where it can be received
    """

    id: str
    name: str
    category: str
    price: float
    delivery_type: str
    ship_to_countries: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    currency: str = "USD"

    @property
    def is_mailed(self) -> bool:
        """Return whether the gift goes by post."""
        return self.delivery_type == "mail"

    def as_json(self) -> dict[str, Any]:
        """Return the gift as the API shows it."""
        return asdict(self)


_MUGS = (Variant("mug-white", "White"), Variant("mug-black", "Black"))
_NOTEBOOKS = (Variant("notebook-lined", "Lined"), Variant("notebook-dotted", "Dotted"))
_HOODIES = (Variant("hoodie-s", "Small"), Variant("hoodie-m", "Medium"), Variant("hoodie-l", "Large"))

CATALOGUE: tuple[Gift, ...] = (
    Gift("gift-mug", "Enamel mug", "swag", 18.0, "mail", _ANYWHERE, _MUGS),
    Gift("gift-notebook", "Linen notebook", "swag", 16.5, "mail", _ANYWHERE, _NOTEBOOKS),
    Gift("gift-hoodie", "Heavyweight hoodie", "swag", 54.0, "mail", _ANYWHERE, _HOODIES),
    Gift("gift-cookies", "A dozen cookies", "physical", 32.0, "mail", _NORTH_AMERICA),
    Gift("gift-chocolate", "Box of chocolates", "physical", 28.5, "mail", (*_NORTH_AMERICA, *_EUROPE)),
    Gift("gift-plant", "Potted succulent", "physical", 45.0, "mail", ("US",)),
    Gift("gift-egift-coffee", "Coffee eGift card", "egift", 10.0, "email", ("CA", "GB", "US")),
    Gift("gift-egift-books", "Bookshop eGift card", "egift", 25.0, "email", (*_NORTH_AMERICA, *_EUROPE)),
    Gift("gift-egift-dinner", "Dinner eGift card", "egift", 50.0, "email", _NORTH_AMERICA),
    Gift("gift-donation-trees", "Ten trees planted", "donation", 15.0, "email", _ANYWHERE),
    Gift("gift-donation-meals", "Forty school meals", "donation", 20.0, "email", _ANYWHERE),
)

_BY_ID = {gift.id: gift for gift in CATALOGUE}


def find_gift(gift_id: str) -> Gift | None:
    """
    Find a gift by its id.

    :param gift_id: such as ``gift-mug``
    """
    return _BY_ID.get(gift_id)


def filter_gifts(
    category: str | None = None, min_price: float | None = None, max_price: float | None = None
) -> list[Gift]:
    """
    Select gifts by category and price, both limits included; the names of the filters are inferred.

    :param category: one of the categories, in any case
    :param min_price: in USD
    :param max_price: in USD
    """
    return [
        gift
        for gift in CATALOGUE
        if (category is None or gift.category == category.casefold())
        and (min_price is None or gift.price >= min_price)
        and (max_price is None or gift.price <= max_price)
    ]
