"""The marketplace and SmartSend with bad input: from a DAG author, from a warehouse, and from Sendoso."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from trying import SCOPE, FakeTI, Try, batch, people, sendoso_connection

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError, SendosoServerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

PRODUCTS = "/api/v3/marketplace/products"
SMART = "/api/v3/smartsend/recommendations"
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
TEA: dict[str, Any] = {"gift_id": None, "marketplace_variant_id": "var-tea"}
PICK: dict[str, Any] = {"gift_id": None, "smart_send": True, "price_lte_usd": 50}
KINDS = pytest.mark.parametrize(("kind", "path"), [(TEA, f"{PRODUCTS}/send"), (PICK, f"{SMART}/send")])
EACH_ROW: dict[str, Any] = {"gift_id": None, "message": None}
SEVERAL: list[Any] = [
    ["var-tea", "var-pen"],
    ["var-tea"],
    ("var-tea", "var-pen"),
    {"var-tea", "var-pen"},
    {"id": "var-tea"},
    {"variant_ids": ["var-tea", "var-pen"]},
    "['var-tea', 'var-pen']",
    '["var-tea", "var-pen"]',
    "('var-tea', 'var-pen')",
    "{'var-tea', 'var-pen'}",
    "var-tea,var-pen",
    "var-tea, var-pen",
    "var-tea;var-pen",
    "var-tea | var-pen",
    "var-tea var-pen",
    "var-tea\nvar-pen",
    "var-tea\tvar-pen",
    b"var-tea",
]
"""Of several variants Sendoso sends the first, and says nothing."""


@pytest.fixture
def ledger_connection(tmp_path: Any) -> dict[str, Any]:
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


@pytest.fixture
def shop(sendoso: Sandbox, send: Callable[..., Try], set_connection: Any) -> Callable[..., Try]:
    """Runs one try of a batch, with a token that has the scopes."""
    scope = "public write marketplace smartsend"
    connection = sendoso_connection(sendoso, requests_per_second=1000, timeout=60, scope=scope)
    set_connection("sendoso_default", connection)
    return send


def posted(sandbox: Sandbox) -> list[str]:
    """Where something was posted that could be a gift."""
    return [request.path for request in sandbox.requests if request.method == "POST" and "/send" in request.path]


# -- one variant -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", SEVERAL, ids=lambda several: type(several).__name__)
def test_several_variants_are_refused_in_every_way_of_saying_it(sendoso: Sandbox, shop: Any, several: Any) -> None:
    arguments: dict[str, Any] = {"recipient": ADA, "marketplace_variant_id": several}
    with pytest.raises(SendosoConfigError, match="marketplace_variant_id"):
        SendGiftOperator(task_id="thank", dedupe_scope=SCOPE, **arguments).execute({"ti": FakeTI("run-1")})
    with pytest.raises(SendosoConfigError, match="marketplace_variant_id"):
        SendosoHook().send_gift(**arguments)
    with pytest.raises(SendosoConfigError, match="marketplace_variant_id"):
        batch(2, **TEA | {"marketplace_variant_id": several}).execute({"ti": FakeTI("run-1")})
    rows = [ADA | {"marketplace_variant_id": several}]
    tried = shop(rows, **EACH_ROW)
    assert tried.counts == {"invalid": 1}
    assert "marketplace_variant_id" in str(tried.raised)
    assert posted(sendoso) == []


@pytest.mark.parametrize("column", ["variant_ids", "variant_id", "Marketplace Variant IDs"])
def test_a_column_of_variants_is_no_variant(sendoso: Sandbox, shop: Any, column: str) -> None:
    rows = [ADA | {column: "var-tea,var-pen"}]
    with pytest.raises(SendosoConfigError, match=r"No column for .*set .*marketplace_variant_id"):
        batch(rows, **EACH_ROW).execute({"ti": FakeTI("run-1")})
    assert posted(sendoso) == []


# -- unknown, or not there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "country", "reason"),
    [
        ("nothing", "US", "marketplace_variant_id is not in the marketplace"),
        ("var-lamp", "DE", "address_country is DE, to which the product does not ship"),
    ],
)
def test_a_batch_with_a_limit_on_costs_posts_no_variant_that_there_is_not_or_that_does_not_ship(
    sendoso: Sandbox, shop: Any, variant: str, country: str, reason: str
) -> None:
    rows = [
        ADA | {"marketplace_variant_id": variant, "country": country},
        ADA | {"marketplace_variant_id": "var-tea", "country": "DE", "email": "grace@example.com"},
    ]
    assert shop(rows, max_cost=100, **EACH_ROW).counts == {"invalid": 1, "sent": 1}
    assert [send.body["email"] for send in sendoso.campaign_sends()] == ["grace@example.com"]
    tried = shop(rows[:1], max_cost=100, dedupe_scope="other", **EACH_ROW)
    assert tried.counts == {"invalid": 1}
    assert reason in str(tried.raised)


def test_a_refusal_of_a_row_leaves_the_others_alone(sendoso: Sandbox, shop: Any) -> None:
    """Whatever Sendoso says of a variant that does not ship there, when nothing has looked before."""
    body = {"success": False, "message": "The product does not ship to this country"}
    sendoso.fault("status", method="POST", path=f"{PRODUCTS}/send", status=422, body=body)
    assert shop(3, **TEA).counts == {"refused": 1, "sent": 2}
    assert shop(3, run_id="run-2", **TEA).counts == {"refused": 1, "already_sent": 2}
    assert len(posted(sendoso)) == 3


# -- lists -------------------------------------------------------------------------------------------------------------


def without_an_end(sandbox: Sandbox) -> None:
    variant = {"id": "var-other", "estimated_total_price": {"currency": "USD", "price_per_unit": "1"}}
    page = {"pagination": {"after": "a"}, "products": [{"id": "p", "name": "P", "variants": [variant]}]}
    sandbox.fault("status", times=99, method="GET", path=PRODUCTS, status=200, body=page)


@pytest.mark.parametrize("changes", [{"dry_run": True}, {"max_cost": 100}])
def test_a_cursor_that_repeats_ends_the_try_and_proves_no_variant_absent(
    sendoso: Sandbox, shop: Any, changes: dict[str, Any]
) -> None:
    without_an_end(sendoso)
    with pytest.raises(SendosoServerError, match="the list has no end"):
        batch(2, **TEA | changes).execute({"ti": FakeTI("run-1")})
    assert posted(sendoso) == []
    sendoso.clear_faults()
    assert shop(2, max_cost=100, **TEA).counts == {"sent": 2}


# -- 429 ---------------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("reset", [-60, 0, "Thu, 01 Jan 1970 00:00:00 GMT", "soon", ""])
def test_a_reset_in_the_past_or_without_a_meaning_is_a_short_wait(
    sendoso: Sandbox, shop: Any, kind: dict[str, Any], path: str, reset: int | str
) -> None:
    at = round(time.time()) + reset if isinstance(reset, int) and reset else reset
    sendoso.fault("throttle", method="POST", path=path, retry_after=None, reset=at)
    began = time.monotonic()
    assert shop(2, **kind) == Try("", {"sent": 2})
    assert time.monotonic() - began < 60
    assert len(posted(sendoso)) == 3


@KINDS
@pytest.mark.parametrize("form", ["seconds", "moment", "milliseconds"])
def test_a_reset_in_a_year_ends_the_try_sends_nothing_twice_and_leaves_other_kinds_alone(
    sendoso: Sandbox, shop: Any, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any], path: str, form: str
) -> None:
    year = 365 * 86_400
    at = {"seconds": year, "moment": round(time.time()) + year, "milliseconds": (round(time.time()) + year) * 1000}
    sendoso.fault("throttle", method="POST", path=path, retry_after=None, reset=at[form])
    assert shop(3, **kind) == Try("SendosoRateLimitError", {"not_reached": 3})
    assert {record.state for record in SendosoHook().ledger.sends.records(*State)} <= {State.READY}
    assert shop(3, dedupe_scope="gifts") == Try("", {"sent": 3})  # of the catalogue, meanwhile
    assert len(posted(sendoso)) == 4


# -- an answer that is lost --------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("drop_after", {}),
        ("truncate", {}),
        ("garbage", {"accept": True}),
        ("error_after", {"status": 502}),
        ("slow", {"delay": 90, "accept_first": True}),
    ],
)
def test_whatever_becomes_of_an_answer_no_retry_sends_the_product_again(
    sendoso: Sandbox,
    shop: Any,
    set_connection: Any,
    kind: dict[str, Any],
    path: str,
    fault: str,
    options: dict[str, Any],
) -> None:
    """Neither while no list shows it, nor once one does."""
    if fault == "slow":
        scope = "public write marketplace smartsend"
        set_connection("sendoso_default", sendoso_connection(sendoso, timeout=1, scope=scope))
    sendoso.shows_products = False
    sendoso.fault(fault, method="POST", path=path, **options)
    assert shop(2, **kind) == Try("SendHeldError", {"sent": 1, "held": 1})
    for run_id in ("run-1", "run-2"):
        tried = shop(2, run_id=run_id, **kind)
        assert (tried.error, tried.counts["held"]) == ("SendHeldError", 1)
    sendoso.shows_products = True
    assert shop(2, run_id="run-3", **kind).error == ""
    assert len(posted(sendoso)) == 2
    assert Counter(send.body["email"] for send in sendoso.campaign_sends()) == {one["email"]: 1 for one in people(2)}


# -- the token's scopes ------------------------------------------------------------------------------------------------


@KINDS
def test_a_token_whose_scopes_nobody_says_is_told_by_the_first_answer(
    sendoso: Sandbox, shop: Any, monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any], path: str
) -> None:
    """Where Sendoso's token answer names no scopes, a 403 stops the batch, and nobody is refused for good."""
    body = {"success": False, "message": "The token lacks a scope"}
    sendoso.fault("status", times=9, method="POST", path=path, status=403, body=body)
    tried = shop(3, **kind)
    assert (tried.error, tried.counts) == ("SendosoAuthError", {"not_reached": 3})
    assert posted(sendoso) == [path]
    sendoso.clear_faults()
    assert shop(3, **kind) == Try("", {"sent": 3})


def test_rows_of_kinds_that_the_token_may_not_send_stop_the_batch_before_any_of_them(
    sendoso: Sandbox, send: Callable[..., Try]
) -> None:
    rows = [
        ADA | {"gift_id": "gift-donation-trees", "message": "Hi"},
        ADA | {"email": "grace@example.com", "marketplace_variant_id": "var-tea"},
    ]
    with pytest.raises(SendosoError, match="without 'marketplace'"):
        batch(rows, **EACH_ROW).execute({"ti": FakeTI("run-1")})
    assert posted(sendoso) == []
