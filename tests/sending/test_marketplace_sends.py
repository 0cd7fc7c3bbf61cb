"""Sends of the marketplace and of SmartSend: posted, refused before they are sent, priced, and looked for."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from trying import SCOPE, FakeTI, Try, batch, sendoso_connection

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendOutcomeUnknownError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox

PRODUCTS = "/api/v3/marketplace/products"
SMART = "/api/v3/smartsend/recommendations"
POST = {"method": "POST", "path": f"{PRODUCTS}/send"}
LIST = {"method": "GET", "path": "/api/v3/send"}
TEA: dict[str, Any] = {"gift_id": None, "marketplace_variant_id": "var-tea"}
PICK: dict[str, Any] = {"gift_id": None, "smart_send": True, "price_lte_usd": 50}
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
KINDS = pytest.mark.parametrize(("kind", "path"), [(TEA, f"{PRODUCTS}/send"), (PICK, f"{SMART}/send")])
RESEND: dict[str, Any] = {"on_absent": "resend", "settle_time": 0}


@pytest.fixture
def scope() -> str:
    return "public write marketplace smartsend"


@pytest.fixture
def shop(sendoso: Sandbox, send: Callable[..., Try], set_connection: Any, scope: str) -> Callable[..., Try]:
    """Runs one try of a batch, with a token that has the scopes."""
    connection = sendoso_connection(sendoso, requests_per_second=1000, timeout=60, scope=scope)
    set_connection("sendoso_default", connection)
    return send


@pytest.fixture
def gift(shop: Any) -> Callable[..., Any]:
    """Sends one gift to Ada."""

    def run(**changes: Any) -> Any:
        arguments = {"recipient": ADA, "dedupe_scope": SCOPE, **changes}
        ti = FakeTI("run-1", arguments["dedupe_scope"])
        return SendGiftOperator(task_id="thank", **arguments).execute({"ti": ti})

    return run


def records() -> list[Record]:
    return list(SendosoHook().ledger.sends.records(*State))


def bodies(sandbox: Sandbox) -> list[dict[str, Any]]:
    """What was posted, without what the sandbox adds."""
    own = ("email", "name", "via_from")
    return [{k: v for k, v in sent.body.items() if k not in own} for sent in sandbox.campaign_sends()]


# -- what is posted ----------------------------------------------------------------------------------------------------


def test_a_product_is_sent_once_and_stored_as_its_kind(sendoso: Sandbox, gift: Any) -> None:
    sender = {"first_name": "Grace", "organization_name": "Navy", "email": None}
    arguments: dict[str, Any] = {
        "marketplace_variant_id": "var-tea",
        "message": "For you",
        "gift_exchange_enabled": "true",
        "meeting_url": "https://meet.example.com/ada",
        "require_approval": False,
        "sender": sender,
    }
    send_id = gift(**arguments)
    assert gift(**arguments) == send_id
    assert bodies(sendoso) == [
        {
            "variant_ids": ["var-tea"],
            "recipient_email": "ada@example.com",
            "recipient_first_name": "Ada",
            "recipient_last_name": "Lovelace",
            "message": "For you",
            "gift_exchange_enabled": True,
            "meeting_url": "https://meet.example.com/ada",
            "require_approval": False,
            "sender_first_name": "Grace",
            "sender_organization_name": "Navy",
        }
    ]
    (record,) = records()
    assert (record.kind, record.item) == (Kind.MARKETPLACE, Item(marketplace_variant_id="var-tea"))
    assert record.send_id == send_id == str(sendoso.campaign_sends()[0].id)


def test_the_country_of_a_row_goes_to_smart_send_and_nothing_else_of_the_address(sendoso: Sandbox, gift: Any) -> None:
    address = {"line1": "12 St James's Square", "city": "London", "postal_code": "nonsense", "country": "gb"}
    gift(smart_send=True, price_lte_usd="40", recipient=ADA | {"address": address, "company": "Engines"})
    (body,) = bodies(sendoso)
    assert body == {
        "price_lte_usd": 40,
        "ship_to_country_code": "GB",
        "recipient_email": "ada@example.com",
        "recipient_first_name": "Ada",
        "recipient_last_name": "Lovelace",
    }
    assert records()[0].item == Item(smart_send="40")


def test_each_row_names_its_kind(sendoso: Sandbox, shop: Callable[..., Try]) -> None:
    rows = [
        {"gift_id": "gift-donation-trees", "message": "Hi"},
        {"touch_id": "102"},
        {"marketplace_variant_id": "var-pen", "require_approval": "yes", "sender": {"first_name": "Grace"}},
        {"smart_send": "true", "price_lte_usd": "30", "country": "US"},
        {"smart_send": "false", "gift_id": "gift-donation-trees", "message": "Hi"},
        {"smart_send": "true", "gift_id": "gift-donation-trees"},
        {"smart_send": "false"},
    ]
    people = [ADA | {"email": f"ada{number}@example.com"} | row for number, row in enumerate(rows)]
    tried = shop(people, gift_id=None, message=None)
    assert tried.counts == {"sent": 5, "invalid": 2}
    assert len(sendoso.sends) == 2
    assert {record.kind for record in records()} == set(Kind) - {Kind.LINK}
    product = next(body for body in bodies(sendoso) if "variant_ids" in body)
    assert (product["require_approval"], product["sender_first_name"]) == (True, "Grace")


@KINDS
def test_a_batch_sends_each_recipient_one(
    sendoso: Sandbox, shop: Callable[..., Try], kind: dict[str, Any], path: str
) -> None:
    assert shop(3, **kind) == Try("", {"sent": 3})
    assert shop(4, run_id="run-2", **kind) == Try("", {"already_sent": 3, "sent": 1})
    assert [request.path for request in sendoso.requests].count(path) == 4


# -- what is refused before it is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"marketplace_variant_id": ["var-tea", "var-pen"]}, "marketplace_variant_id is a list of 2 entries"),
        ({"marketplace_variant_id": "['var-tea', 'var-pen']"}, "give one id"),
        ({"marketplace_variant_id": "var-tea", "smart_send": True}, "marketplace_variant_id: not with smart_send"),
        ({"marketplace_variant_id": "var-tea", "gift_id": "gift-mug"}, "gift_id: not with marketplace_variant_id"),
        ({"marketplace_variant_id": "var-tea", "touch_id": 101}, "touch_id: not with marketplace_variant_id"),
        ({"smart_send": True, "touch_id": 101}, "touch_id: not with smart_send"),
        ({"smart_send": True, "sender": {"first_name": "G"}}, "sender_first_name: not with smart_send"),
        ({"marketplace_variant_id": "var-tea", "price_lte_usd": 5}, "price_lte_usd: not with marketplace_variant_id"),
        ({"marketplace_variant_id": "var-tea", "sender": {"age": 5}}, "sender has fields that no sender has: age"),
        ({"marketplace_variant_id": "var-tea", "sender": "Grace"}, "sender is"),
        ({"marketplace_variant_id": "var-tea", "sender": {"email": "grace"}}, "sender_email is not an e-mail"),
        ({"marketplace_variant_id": "var-tea", "meeting_url": "javascript:1"}, "meeting_url is not an address"),
        ({"smart_send": True, "price_lte_usd": 49.5}, "price_lte_usd is 49.5; use a whole number"),
        ({"smart_send": True, "price_lte_usd": 0}, "price_lte_usd is not a whole number of USD"),
        ({"smart_send": "perhaps"}, "neither true nor false"),
        ({"smart_send": True, "recipient": ADA | {"address": {"country": "UK"}}}, "address_country is not a two"),
        ({"gift_id": "gift-mug", "message": "Hi", "require_approval": True}, "require_approval: only with"),
        ({"touch_id": 102, "meeting_url": "https://m.example.com"}, "meeting_url: not with touch_id"),
    ],
)
def test_wrong_arguments_are_refused(sendoso: Sandbox, gift: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SendosoConfigError, match=words.replace("(", r"\(")) as raised:
        gift(**arguments)
    assert "nothing was sent" in str(raised.value).casefold()
    assert sendoso.campaign_sends() == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"country": "Germany"}, "is not a two-letter code of ISO 3166"),
        ({"price_lte_usd": "50 USD"}, "is not a whole number of USD"),
        ({"require_approval": "maybe"}, "is neither true nor false"),
    ],
)
def test_a_wrong_cell_makes_its_row_invalid(sendoso: Sandbox, shop: Any, row: dict[str, Any], reason: str) -> None:
    rows = [ADA | row, ADA | dict.fromkeys(row) | {"email": "grace@example.com"}]
    tried = shop(rows, gift_id=None, message=None, smart_send=True)
    assert tried.counts == {"invalid": 1, "sent": 1}
    assert len(sendoso.campaign_sends()) == 1


def test_an_unknown_variant_of_a_row_is_refused_and_the_batchs_own_stops_it(sendoso: Sandbox, shop: Any) -> None:
    rows = [ADA | {"marketplace_variant_id": "nothing"}]
    rows.append(ADA | {"email": "grace@example.com", "marketplace_variant_id": "var-tea"})
    assert shop(rows, gift_id=None, message=None).counts == {"refused": 1, "sent": 1}
    tried = shop(2, **TEA | {"marketplace_variant_id": "nothing", "dedupe_scope": "other"})
    assert tried == Try("SendosoNotFoundError", {"not_reached": 2})


@pytest.mark.parametrize("scope", ["public write", "public write smartsend"])
def test_a_token_without_the_scope_is_told_before_the_first_send(sendoso: Sandbox, shop: Any, gift: Any) -> None:
    with pytest.raises(SendosoConfigError, match=r"airflow sendoso authorize --scope 'public write.* marketplace'"):
        gift(marketplace_variant_id="var-tea")
    with pytest.raises(SendosoConfigError, match="without 'marketplace'"):
        batch(2, **TEA).execute({"ti": FakeTI("run-1")})
    with pytest.raises(SendosoConfigError, match="without 'marketplace'"):
        SendosoHook().send_gift(marketplace_variant_id="var-tea", recipient=ADA)
    assert not any(request.method == "POST" and "/send" in request.path for request in sendoso.requests)


# -- prices and dry runs -----------------------------------------------------------------------------------------------


def dry_run(recipients: Any, **changes: Any) -> dict[str, Any]:
    summary: dict[str, Any] = batch(recipients, dry_run=True, **changes).execute({"ti": FakeTI("dry")})
    return summary


def test_a_dry_run_prices_products_and_the_most_of_smart_send(sendoso: Sandbox, shop: Any) -> None:
    summary = dry_run(3, **TEA)
    assert (summary["would_send"], summary["estimated_cost"], summary["currency"]) == (3, 95.25, "USD")
    assert dry_run(3, **PICK)["estimated_cost"] == 150
    assert sendoso.campaign_sends() == []


def test_a_dry_run_finds_variants_that_do_not_exist_or_do_not_ship(shop: Any) -> None:
    rows = [
        ADA | {"email": f"ada{number}@example.com", "marketplace_variant_id": variant, "country": country}
        for number, (variant, country) in enumerate(
            [("var-tea", "DE"), ("var-lamp", "DE"), ("var-lamp", "US"), ("var-laamp", "US"), ("var-lamp", None)]
        )
    ]
    summary = dry_run(rows, gift_id=None, message=None)
    assert (summary["would_send"], summary["invalid"]) == (3, 2)
    with pytest.raises(SendosoConfigError, match="'var-te' is not in the marketplace \\(did you mean 'var-tea'"):
        dry_run(2, **TEA | {"marketplace_variant_id": "var-te"})


def test_a_limit_on_costs_needs_the_most_of_smart_send(sendoso: Sandbox, shop: Any) -> None:
    tried = shop(2, **PICK | {"price_lte_usd": None, "max_cost": 1000})
    assert tried == Try("SendosoLimitError", {"not_reached": 2})
    assert "set price_lte_usd" in str(tried.raised)
    assert shop(2, max_cost=99, **PICK).error == "SendosoLimitError"
    assert shop(2, max_cost=100, **PICK) == Try("", {"sent": 2})


def test_a_price_that_rises_between_preview_and_send_is_seen(
    sendoso: Sandbox, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = dry_run(2, max_cost=70, **TEA)["fingerprint"]
    dearer = {
        "products": [{"id": "p", "variants": [{"id": "var-tea", "estimated_total_price": {"price_per_unit": "36"}}]}]
    }
    sendoso.fault("status", times=9, method="GET", path=PRODUCTS, status=200, body=dearer)
    tried = shop(2, max_cost=70, approved_fingerprint=fingerprint, **TEA)
    assert tried == Try("SendosoLimitError", {"not_reached": 2})
    assert "72" in str(tried.raised)
    assert sendoso.campaign_sends() == []


# -- unknown outcomes --------------------------------------------------------------------------------------------------


@KINDS
def test_a_lost_answer_is_found_by_recipient_and_time(
    sendoso: Sandbox, shop: Callable[..., Try], kind: dict[str, Any], path: str
) -> None:
    sendoso.fault("drop_after", method="POST", path=path)
    assert shop(3, **kind) == Try("", {"sent": 3})
    assert {record.send_id for record in records()} == {str(sent.id) for sent in sendoso.campaign_sends()}


@KINDS
@pytest.mark.parametrize(
    "body", [{"products": []}, {"send": {}}, {"send": None, "id": 5}, {"success": False, "send": {"id": 5}}]
)
def test_a_200_without_an_id_is_of_unknown_outcome(
    sendoso: Sandbox, gift: Any, kind: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    sendoso.fault("status", method="POST", path=path, status=200, body=body)
    with pytest.raises(SendOutcomeUnknownError, match="unreadable"):
        gift(**{name: value for name, value in kind.items() if value is not None})


def test_an_answer_that_names_another_variant_is_of_unknown_outcome(sendoso: Sandbox, gift: Any) -> None:
    body = {"products": [{"variant_id": "var-pen"}], "send": {"id": 5}}
    sendoso.fault("status", **POST, status=200, body=body)
    with pytest.raises(SendOutcomeUnknownError):
        gift(marketplace_variant_id="var-tea")


@KINDS
def test_a_list_that_never_shows_such_sends_proves_nothing(
    sendoso: Sandbox, shop: Callable[..., Try], an_hour_later: Any, kind: dict[str, Any], path: str
) -> None:
    sendoso.shows_products = False
    assert shop(4, touch_id=102, gift_id=None, message=None, dedupe_scope="campaign").counts == {"sent": 4}
    sendoso.fault("drop_before", method="POST", path=path)
    assert shop(3, **kind) == Try("SendHeldError", {"sent": 2, "held": 1})
    an_hour_later()
    with pytest.raises(TaskDeferred):  # it is looked for once more, and not posted
        shop(3, run_id="run-2", **kind | RESEND)
    assert sum(record.state is State.HELD for record in records()) == 1
    assert len(bodies(sendoso)) == 6


@KINDS
def test_a_send_that_a_list_of_such_sends_does_not_show_is_sent_again_if_asked_for(
    sendoso: Sandbox, shop: Callable[..., Try], an_hour_later: Any, kind: dict[str, Any], path: str
) -> None:
    sendoso.fault("drop_before", method="POST", path=path)
    assert shop(3, **kind) == Try("SendHeldError", {"sent": 2, "held": 1})
    an_hour_later()
    assert shop(3, run_id="run-2", **kind | RESEND) == Try("", {"sent": 1, "already_sent": 2})
    assert len(sendoso.campaign_sends()) == 3


def test_a_list_with_other_ids_does_not_give_a_send_the_row_of_another(sendoso: Sandbox, shop: Any) -> None:
    """An accepted send that the list does not show under its id may be the one whose row it shows."""
    rows = [ADA | {"id": 1}]
    assert shop(rows, **TEA) == Try("", {"sent": 1})
    row = {
        "id": 4711,
        "status": "Initiated",
        "created_at": email.utils.format_datetime(email.utils.localtime()),
        "touch": None,
        "recipient": {"email": "ada@example.com"},
    }
    sendoso.fault("drop_before", **POST)
    sendoso.fault("status", times=9, **LIST, status=200, body={"sends": [row], "total_count": 1})
    assert shop(rows, **TEA | {"dedupe_scope": "second"}) == Try("SendHeldError", {"held": 1})


def test_the_row_of_a_catalogue_gift_is_not_given_to_a_product(sendoso: Sandbox, shop: Any) -> None:
    """Whether the list shows catalogue gifts is not known, and they have no campaign either."""
    assert shop([ADA], dedupe_scope="gifts") == Try("", {"sent": 1})
    sendoso.fault("drop_before", **POST)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    row = {"id": 4711, "status": "Sent", "created_at": created, "touch": None, "recipient": {"email": ADA["email"]}}
    sendoso.fault("status", times=9, **LIST, status=200, body={"sends": [row], "total_count": 1})
    assert shop([ADA], **TEA) == Try("SendHeldError", {"held": 1})
