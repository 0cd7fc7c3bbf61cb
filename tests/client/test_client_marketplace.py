"""The marketplace: when its limit resets, its second pace, and lists that are paged by a cursor."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase
from airflow_provider_sendoso.client.endpoints import Request, me_request
from airflow_provider_sendoso.client.marketplace import (
    CursorListing,
    products_request,
    read_product_send,
    recommendations_request,
)
from airflow_provider_sendoso.client.outcomes import Verdict, classify
from airflow_provider_sendoso.client.retrying import push_backs
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoServerError

POST = Request("POST", "/api/v3/marketplace/products/send", has_minute_limit=True)
NOW = "Fri, 27 Nov 2026 12:00:00 GMT"
EPOCH = 1795780800


def throttle(**headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(429, {"date": NOW} | named, b'{"success": false}')


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("37", 37.0),
        ("0.5", 0.5),
        (str(EPOCH + 42), 42.0),
        (f"{EPOCH + 42}.5", 42.5),
        (f"{(EPOCH + 42) * 1000}", 42.0),
        ("Fri, 27 Nov 2026 12:00:30 GMT", 30.0),
        ("2026-11-27T12:00:30Z", 30.0),
        ("2026-11-27T13:00:30+01:00", 30.0),
        (str(EPOCH - 60), 0.0),
        ("Fri, 27 Nov 2026 11:00:00 GMT", 0.0),
        (str(EPOCH + 31_536_000), 86_400.0),
        ("31536000", 86_400.0),
        ("Sat, 27 Nov 2027 12:00:00 GMT", 86_400.0),
        ("soon", None),
        ("", None),
        ("-5", None),
    ],
)
def test_a_reset_is_read_in_every_form(reset: str, seconds: float | None) -> None:
    answer = throttle(x_rate_limit_reset=reset)
    assert answer.rate_limit_reset == answer.retry_after == seconds


def test_the_longer_of_two_waits_is_obeyed() -> None:
    assert throttle(x_rate_limit_reset="30", retry_after="2").retry_after == 30
    assert throttle(x_rate_limit_reset="3", retry_after="20").retry_after == 20


@pytest.mark.parametrize(
    ("request_", "headers", "delays"),
    [
        (POST, {"x_rate_limit_reset": "30"}, (None, 30.0)),
        (POST, {"x_rate_limit_reset": str(EPOCH - 5)}, (None, 10.0)),
        (POST, {"x_rate_limit_reset": str(EPOCH + 31_536_000)}, (None, 120.0)),
        (POST, {"retry_after": "3"}, (3.0, 3.0)),
        (POST, {}, (1.0, 10.0)),
        (me_request(), {"x_rate_limit_reset": "30"}, (30.0, None)),
        (me_request(), {}, (1.0, None)),
    ],
)
def test_a_429_of_the_marketplaces_own_limit_delays_nothing_else(
    request_: Request, headers: dict[str, str], delays: tuple[float | None, float | None]
) -> None:
    assert push_backs(request_, throttle(**headers)) == delays


@pytest.mark.parametrize(
    ("reset", "verdict"),
    [("60", Verdict.RETRY), (str(EPOCH - 5), Verdict.RETRY), (str(EPOCH + 31_536_000), Verdict.STOP)],
)
def test_a_send_is_tried_again_unless_the_reset_is_too_far_away(reset: str, verdict: Verdict) -> None:
    exchange = Exchange(Phase.ANSWERED, throttle(x_rate_limit_reset=reset))
    assert classify(POST, exchange, renewed=False, own_gift=False).verdict is verdict


def test_calls_to_the_marketplace_take_a_slot_of_both_paces(session_on: Any, pace: Any, requests_mock: Any) -> None:
    session = session_on("https://app.sendoso.com")
    session.minute_pace = type(pace)()
    requests_mock.get("https://app.sendoso.com/api/v3/marketplace/products", json={"products": []})
    requests_mock.get("https://app.sendoso.com/api/v3/me", json={"id": 1})
    session.paced(me_request(), "token")
    assert (pace.slots, session.minute_pace.slots) == (1, 0)
    session.paced(products_request(), "token")
    assert (pace.slots, session.minute_pace.slots) == (2, 1)


def test_a_slot_of_the_second_pace_that_the_account_outlasts_is_taken_anew(
    session_on: Any, pace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that have waited together for the account must not come to the marketplace all at once."""
    session = session_on("https://app.sendoso.com")
    session.minute_pace = type(pace)()
    monkeypatch.setattr("airflow_provider_sendoso.client.session.SLOT_KEEPS", -60.0)
    committed: list[tuple[int, int]] = []
    session.await_turn(POST, before=lambda: committed.append((session.minute_pace.slots, pace.slots)))
    assert committed == [(3, 3)]  # however late its slots are, a call commits before it is made


# -- lists -------------------------------------------------------------------------------------------------------------


def page(*ids: int, after: Any = None) -> dict[str, Any]:
    pagination = {"after": after, "next_page": {"url": "https://elsewhere.example.com/"}}
    return {"pagination": pagination, "products": [{"id": str(number)} for number in ids]}


def test_only_the_cursor_is_followed_and_each_product_is_returned_once() -> None:
    listing = CursorListing(products_request(price_lte_usd=50))
    assert [row["id"] for row in listing.read(page(1, 2, after="a"))] == ["1", "2"]
    request = listing.next_request()
    assert (request.path, dict(request.params)) == (
        "/api/v3/marketplace/products",
        {"price_lte_usd": 50, "after": "a"},
    )
    assert [row["id"] for row in listing.read(page(2, 3))] == ["3"]
    assert listing.done


def test_a_cursor_that_repeats_is_an_error_and_no_end() -> None:
    listing = CursorListing(products_request())
    listing.read(page(1, after="a"))
    listing.read(page(2, after="b"))
    with pytest.raises(SendosoServerError, match="the list has no end"):
        listing.read(page(3, after="a"))


@pytest.mark.parametrize("body", [None, [], {}, {"products": {}}, {"products": [1]}])
def test_a_page_without_products_is_an_error(body: Any) -> None:
    with pytest.raises(SendosoServerError, match="without a list of 'products'"):
        CursorListing(products_request()).read(body)


@pytest.mark.parametrize(
    "filters",
    [
        {"ship_to_country_codes": ["Germany"]},
        {"ship_to_country_codes": "UK"},
        {"price_gte_usd": 4.5},
        {"price_lte_usd": -1},
    ],
)
def test_a_wrong_filter_is_refused_before_anything_is_read(filters: dict[str, Any]) -> None:
    with pytest.raises(SendosoConfigError, match="Nothing was read"):
        products_request(**filters)


def test_countries_are_read_in_any_case() -> None:
    request = products_request(ship_to_country_codes=["gb", "US"], category_ids="cat-1")
    assert dict(request.params) == {"ship_to_country_codes[]": ["GB", "US"], "category_ids[]": ["cat-1"]}
    assert dict(recommendations_request(" ada@example.com ", ship_to_country_code="gb").params) == {
        "recipient_email": "ada@example.com",
        "ship_to_country_code": "GB",
    }
    with pytest.raises(SendosoConfigError):
        recommendations_request(" ")


@pytest.mark.parametrize("send_id", [5, "5"])
def test_the_id_of_a_send_is_inside_send(send_id: Any) -> None:
    send = read_product_send({"products": [{"variant_id": "v"}], "send": {"id": send_id}}, "v")
    assert send is not None
    assert send.id == "5"
    assert read_product_send({"products": [], "id": send_id}) is None
