"""The sandbox's marketplace and SmartSend: products, sends, their limit and their scopes."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_sendoso.sandbox import Sandbox

PRODUCTS = "/api/v3/marketplace/products"
RECOMMENDATIONS = "/api/v3/smartsend/recommendations"
RECIPIENT = {
    "recipient_email": "ada@example.com",
    "recipient_first_name": "Ada",
    "recipient_last_name": "Lovelace",
}


@pytest.fixture
def shopper(client):
    client.token = client.sign_in(scope="public write marketplace smartsend").json()["access_token"]
    return client


def products(shopper: Any, **query: Any) -> list[str]:
    found: list[str] = []
    while True:
        body = shopper.get(PRODUCTS, params=query).json()
        found += [product["id"] for product in body["products"]]
        query["after"] = body["pagination"]["after"]
        if query["after"] is None:
            return found


@pytest.mark.parametrize("path", [PRODUCTS, RECOMMENDATIONS])
def test_a_token_without_the_scope_is_refused(client, path):
    assert client.get(path, params={"recipient_email": "ada@example.com"}).status_code == 403


def test_products_are_paged_by_a_cursor_and_filtered(shopper):
    assert len(products(shopper)) == 6
    assert products(shopper, price_lte_usd=30) == ["prod-snacks", "prod-brownies"]
    assert products(shopper, price_gte_usd=80) == ["prod-lamp"]
    assert products(shopper, **{"ship_to_country_codes[]": ["DE"]}) == ["prod-snacks", "prod-tea", "prod-pen"]
    assert products(shopper, **{"category_ids[]": ["cat-desk"]}) == ["prod-lamp", "prod-pen"]
    assert products(shopper, text_search="TEA") == ["prod-tea"]


@pytest.mark.parametrize(
    "query", [{"after": "nowhere"}, {"price_lte_usd": "4.5"}, {"ship_to_country_codes[]": "Germany"}]
)
def test_a_wrong_filter_is_refused(shopper, query):
    assert shopper.get(PRODUCTS, params=query).status_code == 400


def test_of_several_variants_only_the_first_is_sent(sandbox, shopper):
    body = RECIPIENT | {"variant_ids": ["var-tea", "var-pen"]}
    answer = shopper.call("POST", f"{PRODUCTS}/send", json=body).json()
    assert answer["products"] == [{"variant_id": "var-tea"}]
    (row,) = shopper.tracked()
    assert (row["id"], row["touch"]) == (answer["send"]["id"], None)
    assert row["recipient"]["email"] == "ada@example.com"
    sandbox.shows_products = False
    assert shopper.tracked() == []


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"variant_ids": ["nothing"]}, 404),
        ({"variant_ids": []}, 400),
        ({"recipient_email": ""}, 400),
        ({"recipient_email": "ada"}, 422),
        ({"require_approval": "yes"}, 400),
    ],
)
def test_a_wrong_product_send_is_refused(sandbox, shopper, changes, status):
    body = RECIPIENT | {"variant_ids": ["var-tea"]} | changes
    assert shopper.call("POST", f"{PRODUCTS}/send", json=body).status_code == status
    assert sandbox.campaign_sends() == []


def test_a_send_that_needs_approval_waits_for_it(sandbox, shopper):
    body = RECIPIENT | {"variant_ids": ["var-tea"], "require_approval": True}
    send_id = shopper.call("POST", f"{PRODUCTS}/send", json=body).json()["send"]["id"]
    assert shopper.tracked()[0]["status"] == "Pending Approval"
    sandbox.finish(send_id, "Fulfilling")
    assert shopper.tracked()[0]["status"] == "Fulfilling"


def test_smart_send_keeps_to_price_and_country(shopper):
    query = {"recipient_email": "ada@example.com", "price_lte_usd": 40, "ship_to_country_code": "CA"}
    found = shopper.get(RECOMMENDATIONS, params=query).json()["products"]
    assert [product["id"] for product in found] == ["prod-snacks", "prod-coffee"]
    assert found[0]["interests"]
    body = RECIPIENT | {"price_lte_usd": 40, "ship_to_country_code": "CA"}
    answer = shopper.call("POST", f"{RECOMMENDATIONS}/send", json=body).json()
    assert answer["products"] == [{"variant_id": "var-snacks-small"}]
    nothing = shopper.call("POST", f"{RECOMMENDATIONS}/send", json=body | {"price_lte_usd": 5})
    assert nothing.status_code == 422
    nowhere = shopper.call("POST", f"{RECOMMENDATIONS}/send", json=body | {"ship_to_country_code": "Canada"})
    assert nowhere.status_code == 400


def test_they_have_a_limit_of_their_own(client):
    with Sandbox(rate=0, marketplace_rate=2) as sandbox:
        client.url = sandbox.url
        client.token = client.sign_in(scope="marketplace").json()["access_token"]
        answers = [client.get(PRODUCTS) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 0 < int(answers[2].headers["X-Rate-Limit-Reset"]) <= 60
        assert client.get("/api/v3/me").status_code == 200


def test_sends_of_products_survive_a_restart(tmp_path, shopper):
    file = tmp_path / "state"
    for _ in range(2):
        with Sandbox(rate=0, state=file) as sandbox:
            shopper.url = sandbox.url
            shopper.token = shopper.sign_in(scope="marketplace").json()["access_token"]
            body = RECIPIENT | {"variant_ids": ["var-tea"]}
            assert shopper.call("POST", f"{PRODUCTS}/send", json=body).status_code == 200
    assert sandbox.duplicates() == {("var-tea", "ada@example.com"): 2}


def test_the_page_shows_them(sandbox, shopper):
    shopper.call("POST", f"{PRODUCTS}/send", json=RECIPIENT | {"variant_ids": ["var-tea"]})
    assert "var-tea" in shopper.get("/").text
