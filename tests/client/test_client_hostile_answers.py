"""Values of a hostile or broken answer: each is refused when it is read, and none causes a crash."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase, read_campaign_send, read_send
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.objects import read_object
from airflow_provider_sendoso.client.outcomes import Verdict, classify
from airflow_provider_sendoso.exceptions import SendosoServerError
from airflow_provider_sendoso.models import Gift, Touch, User, read_balance

POST = Request("POST", "/api/v3/sends", json={"send": {"gift_id": "gift-mug", "email": "ada@example.com"}})

NO_IDS: list[Any] = [
    *("", " ", ".", "..", "a\0b", "a\nb", "s-1\n", "a/b", "../touches/1", "a\\b", "a?b", "a%2fb", "a\u202eb", "\ud800"),
    *("x" * 191, "x" * 9000, 1e30, 1.5, -(2**70), 10**400, float("inf"), True, None, ["s-1"], {"id": "s-1"}),
]


def body_of(raw: str) -> Any:
    return Answer(200, {}, raw.encode()).json


def verdict(raw: str, read: Any = read_send) -> Verdict:
    exchange = Exchange(Phase.ANSWERED, Answer(200, {}, raw.encode()))
    return classify(POST, exchange, renewed=False, own_gift=True, read=read).verdict


@pytest.mark.parametrize("value", NO_IDS, ids=lambda value: repr(value)[:20])
def test_an_id_that_no_database_and_no_path_could_hold_leaves_a_send_unknown(value: Any) -> None:
    raw = json.dumps({"success": True, "id": value})
    assert verdict(raw) is Verdict.UNKNOWN
    assert verdict(json.dumps({"send": {"id": value}})) is Verdict.UNKNOWN
    with pytest.raises(SendosoServerError):
        read_object(Request("GET", "/api/v3/gifts/1"), Gift, body_of(raw))


@pytest.mark.parametrize("code", ["a\0b", "a\nb", "\ud800", "../1", "x" * 182], ids=lambda code: repr(code)[:20])
def test_a_tracking_code_that_cannot_be_kept_leaves_a_send_unknown(code: str) -> None:
    assert verdict(json.dumps({"success": True, "tracking_code": code}), read_campaign_send) is Verdict.UNKNOWN


@pytest.mark.parametrize("value", ["s-1", " s-1 ", "gift:é_1.2", 17, 17.0, 2**62])
def test_a_send_with_an_ordinary_id_is_sent(value: Any) -> None:
    assert verdict(json.dumps({"id": value})) is Verdict.SENT


@pytest.mark.parametrize(
    "raw",
    [
        '{"id": "s-1", "id": "s-2"}',
        '{"send": {"id": 1, "id": 2}}',
        '{"id": "s-1", "notes": ' + "[" * 60 + "]" * 60 + "}",
        '{"id": "s-1", "notes": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
        '{"id": "s-1", "notes": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"id": "s-1", "\\ud800": ' + "9" * 5000 + "}",
        "NaN",
        "17",
    ],
    ids=lambda raw: raw[:30],
)
def test_an_answer_that_contradicts_itself_or_nests_too_deep_leaves_a_send_unknown(raw: str) -> None:
    assert verdict(raw) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "field",
    ['"balance": NaN', '"x": 1e999', '"status": "a\\u0000b"', '"status": {"a": [1]}', '"tracking_url": "\\ud800"'],
)
def test_an_odd_field_beside_the_id_does_not_lose_the_id(field: str) -> None:
    assert verdict(f'{{"id": "s-1", "id": "s-1", {field}}}') is Verdict.SENT
    send = read_send(body_of(f'{{"id": "s-1", {field}}}'))
    assert send is not None
    assert send.status_word is None
    assert send.tracking_url is None


@pytest.mark.parametrize(
    "price", ["1e30", "-100", "NaN", '"NaN"', '"Infinity"', '"1e400"', "1e999", "[25]", "true", '"' + "9" * 5000 + '"']
)
def test_a_price_that_is_not_an_amount_is_read_as_none(price: str) -> None:
    assert read_object(Request("GET", "/x"), Gift, body_of(f'{{"id": 1, "price": {price}}}')).price is None
    touch = read_object(Request("GET", "/x"), Touch, body_of(f'{{"id": 1, "ending_egift_price": {price}}}'))
    assert touch.ending_egift_price is None


@pytest.mark.parametrize("balance", ["NaN", "-inf", 1e30, -(10**400), "1e99", [], {}, "", None])
def test_a_balance_that_is_not_an_amount_is_read_as_none(balance: Any) -> None:
    assert read_balance(balance) is None
    assert User.model_validate({"id": "1", "balance": balance}).balance is None


@pytest.mark.parametrize(("given", "read"), [("19.90", Decimal("19.90")), (25, Decimal(25)), (-3.5, Decimal("-3.5"))])
def test_a_balance_is_read_as_a_decimal(given: Any, read: Decimal) -> None:
    assert read_balance(given) == read


@pytest.mark.parametrize(("given", "read"), [("usd", "USD"), (None, None), ("$", "XXX"), ("U\0D", "XXX")])
def test_a_malformed_currency_is_not_taken_for_dollars(given: Any, read: str | None) -> None:
    assert Gift.model_validate({"id": "1", "currency": given}).currency == read
