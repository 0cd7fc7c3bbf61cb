"""The limits of a batch, and the estimate of its cost: pure rules."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_sendoso.batch.limits import Limits
from airflow_provider_sendoso.batch.pricing import Cost, Price, Prices, estimate, price_of
from airflow_provider_sendoso.models import Gift, Item, Touch

USD_90 = Cost(Decimal(90), "USD")


def gift(**fields: Any) -> Gift:
    return Gift.model_validate({"id": "g", "price": "18.50", "currency": "USD", "delivery_type": "email", **fields})


@pytest.mark.parametrize(
    ("found", "shipping", "price"),
    [
        (gift(), None, Price(Decimal("18.50"), "USD")),
        (gift(currency="EUR"), None, Price(Decimal("18.50"), "EUR")),
        (gift(currency=None), None, Price(Decimal("18.50"), "USD")),
        (gift(delivery_type="mail"), Decimal(9), Price(Decimal("42.50"), "USD")),
        (gift(delivery_type="mail"), Decimal(0), Price(Decimal("33.50"), "USD")),
        (gift(delivery_type="mail"), None, "shipping of g is not known: set shipping_estimate"),
        (gift(delivery_type=None), None, "shipping of g is not known: set shipping_estimate"),
        (gift(delivery_type="mail", currency="EUR"), Decimal(9), "g is priced in EUR, and fulfilment is known in USD"),
        (gift(price=None), None, "g has no price in the catalogue"),
        (None, Decimal(9), "g is not in the catalogue"),
    ],
)
def test_the_price_of_a_gift_includes_fulfilment_and_shipping_or_says_why_it_is_unknown(
    found: Gift | None, shipping: Decimal | None, price: Price | str
) -> None:
    got = price_of("g", found, shipping)
    if isinstance(price, str):
        assert isinstance(got, str)
        assert got.startswith(price)
    else:
        assert got == price


def test_the_cost_of_several_gifts_is_the_sum_of_their_prices_in_one_currency() -> None:
    found = {"a": gift(id="a"), "b": gift(id="b", price=1), "e": gift(id="e", currency="EUR")}
    prices = Prices(found.get, {}.get, None)

    def cost(**sends: int) -> Cost:
        return estimate({Item(gift_id): count for gift_id, count in sends.items()}, prices)

    assert cost(a=2, b=3) == Cost(Decimal("40.00"), "USD")
    assert cost() == Cost(Decimal(0), "USD")
    assert cost(a=1, x=1).unknown == ("x is not in the catalogue",)
    assert cost(a=1, e=1) == Cost(None, None, ("prices are in several currencies (EUR, USD)",))


@pytest.mark.parametrize(
    ("touch", "price"),
    [
        ({"delivery_type": "email", "starting_egift_price": 5, "ending_egift_price": 25}, Price(Decimal(25), "USD")),
        ({"delivery_type": "email", "starting_egift_price": 5, "currency": "EUR"}, Price(Decimal(5), "EUR")),
        ({"delivery_type": "email", "gift_id": "g"}, Price(Decimal("18.50"), "USD")),
        ({"delivery_type": "mail", "gift_id": "box"}, Price(Decimal("42.50"), "USD")),
        ({"delivery_type": "mail", "gift_id": 39}, "39 is not in the catalogue"),
        ({"delivery_type": "mail"}, "campaign 101 does not say which gift it sends"),
        (None, "campaign 101 is not known"),
    ],
)
def test_the_price_of_a_campaign_send_is_that_of_its_egift_or_gift(
    touch: dict[str, Any] | None, price: Price | str
) -> None:
    found = {"g": gift(), "box": gift(id="box", delivery_type="mail")}
    touches = {} if touch is None else {"101": Touch.model_validate({"id": 101, **touch})}
    assert Prices(found.get, touches.get, Decimal(9)).of(Item(touch_id="101")) == price


@pytest.mark.parametrize(
    ("limits", "sends", "refusal"),
    [
        (Limits(), 10**6, None),
        (Limits(max_sends=9), 9, None),
        (Limits(max_sends=9), 10, "It would make 10 sends, more than max_sends=9."),
        (Limits(max_sends=0), 1, "It would make 1 send, more than max_sends=0."),
        (Limits(max_cost=Decimal(90)), 1, None),
        (Limits(max_cost=Decimal("89.99")), 1, "It would cost an estimated 90 USD, more than max_cost=89.99."),
        (Limits(max_cost=Decimal(0)), 1, "more than max_cost=0"),
        (Limits(approved_fingerprint="f00d"), 1, None),
        (Limits(approved_fingerprint="beef"), 1, "something else than was approved"),
    ],
)
def test_a_batch_over_a_limit_or_with_another_fingerprint_is_refused(
    limits: Limits, sends: int, refusal: str | None
) -> None:
    why = limits.why_refused(sends, USD_90, "f00d")
    if refusal is None:
        assert why is None
    else:
        assert why is not None
        assert refusal in why


def test_a_batch_of_unknown_cost_is_refused_under_max_cost() -> None:
    why = Limits(max_cost=Decimal(100)).why_refused(1, Cost(None, None, ("g has no price in the catalogue",)), "f00d")
    assert why == ("What it would cost is not known, so max_cost cannot be kept: g has no price in the catalogue.")


def test_without_a_limit_nothing_is_checked() -> None:
    assert not Limits().any
    assert Limits(max_sends=0).any
