"""Estimates the cost of a batch from the catalogue's prices and the seed's figures for fulfilment and shipping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_sendoso.models import Delivery, Gift, Item, Touch, Variant
from airflow_provider_sendoso.models.spending import Price
from airflow_provider_sendoso.sending.kinds import BY_ARGUMENT

FULFILMENT = Decimal(15)
"""USD for each physical gift: the upper end of 10 to 15 (seed)."""

_USD = "USD"
"""The currency of the seed's figures, and of a catalogue that names none (inferred)."""


@dataclass(frozen=True)
class Cost:
    """
    The estimated cost of several sends.

    :param amount: ``None`` if a price is not known, or if prices are in several currencies.
    :param currency: the amount's currency.
    :param unknown: one reason for each gift whose price is not known.
    """

    amount: Decimal | None
    currency: str | None
    unknown: tuple[str, ...] = ()


class Prices:
    """
    Estimates what sends cost.

    :param find_gift: finds a gift in the catalogue.
    :param find_touch: finds a campaign.
    :param shipping: what shipping one physical gift is estimated at, in the gift's currency; ``None`` if not known.
    :param find_variant: finds a variant in the marketplace.
    """

    def __init__(
        self,
        find_gift: Callable[[str], Gift | None],
        find_touch: Callable[[str], Touch | None],
        shipping: Decimal | None,
        find_variant: Callable[[str], Variant | None] = lambda variant_id: None,
    ) -> None:
        self._find_variant = find_variant
        self._find_gift = find_gift
        self._find_touch = find_touch
        self._shipping = shipping

    def of(self, item: Item) -> Price | str:
        """
        Estimate the cost of one send, or say why it cannot be.

        :param item: the gift or campaign.
        """
        for kind in BY_ARGUMENT:
            if getattr(item, kind.named_by) is not None:
                price: Price | str = kind.price(item, self)
                return price
        return "what was sent is not known"

    def of_gift(self, gift_id: str) -> Price | str:
        """
        Estimate the cost of one gift of the catalogue, or say why it cannot be.

        :param gift_id: the gift's id.
        """
        return price_of(gift_id, self._find_gift(gift_id), self._shipping)

    def of_campaign(self, touch_id: str) -> Price | str:
        """
        Estimate the cost of one gift of a campaign, or say why it cannot be.

        :param touch_id: the campaign's id.
        """
        item, touch = Item(touch_id=touch_id), self._find_touch(touch_id)
        if touch is None:
            return f"{item} is not known"
        most = touch.ending_egift_price or touch.starting_egift_price
        if most is not None and touch.delivery is Delivery.EMAIL:
            return Price(most, touch.currency or _USD)
        if touch.gift_id is None:
            return f"{item} does not say which gift it sends"
        return self.of_gift(touch.gift_id)

    def of_variant(self, variant_id: str) -> Price | str:
        """
        Estimate the cost of one variant of the marketplace, or say why it cannot be.

        The API's price is an estimated total (published), so nothing is added to it.

        :param variant_id: the variant's id.
        """
        variant = self._find_variant(variant_id)
        if variant is None:
            return f"{variant_id} is not in the marketplace"
        if variant.price is None:
            return f"{variant_id} has no price in the marketplace"
        return Price(variant.price, variant.currency or _USD)

    def at_most(self, usd: str | None) -> Price | str:
        """
        Return the price of a gift that Sendoso picks: the most that it may cost.

        :param usd: in USD; ``None`` if there is no such limit.
        """
        if usd is None:
            return "a gift that Sendoso picks may cost any amount: set price_lte_usd"
        return Price(Decimal(usd), _USD)


def price_of(gift_id: str, gift: Gift | None, shipping: Decimal | None) -> Price | str:
    """
    Estimate the cost of one send, or say why it cannot be.

    An eGift costs the item alone; a physical gift costs the item, fulfilment and shipping (seed). A gift of unknown
    kind is priced as a physical one.

    :param gift_id: the gift's id, for the reason.
    :param gift: the gift of the catalogue; ``None`` if the catalogue does not hold it.
    :param shipping: what shipping one physical gift is estimated at, in the gift's currency; ``None`` if not known.
    """
    if gift is None:
        return f"{gift_id} is not in the catalogue"
    if gift.price is None:
        return f"{gift_id} has no price in the catalogue"
    currency = gift.currency or _USD
    if gift.physical is False:
        return Price(gift.price, currency)
    if currency != _USD:
        return f"{gift_id} is priced in {currency}, and fulfilment is known in {_USD} only"
    if shipping is None:
        return f"shipping of {gift_id} is not known: set shipping_estimate"
    return Price(gift.price + FULFILMENT + shipping, currency)


def estimate(sends: Mapping[Item, int], prices: Prices) -> Cost:
    """
    Estimate the cost of several sends.

    :param sends: the number of sends by gift or campaign.
    :param prices: estimates the cost of one send.
    """
    unknown: list[str] = []
    totals: Counter[str] = Counter()
    for item, count in sends.items():
        price = prices.of(item)
        if isinstance(price, str):
            unknown.append(price)
        else:
            totals[price.currency] += price.amount * count  # type: ignore[assignment]
    if unknown:
        return Cost(None, None, tuple(unknown))
    if len(totals) > 1:
        return Cost(None, None, (f"prices are in several currencies ({', '.join(sorted(totals))})",))
    currency = next(iter(totals), _USD)
    return Cost(Decimal(totals[currency]), currency)
