"""Sendoso's endpoints, answer by answer."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime

import pytest

from airflow_provider_sendoso.sandbox import Sandbox


def refusal(answer) -> tuple[int, str]:
    body = answer.json()
    assert body["success"] is False
    assert answer.headers["Content-Type"].startswith("application/json")
    return answer.status_code, body["message"]


def test_the_current_user_has_the_published_fields(client):
    body = client.get("/api/v3/me").json()
    assert set(body) == {"id", "name", "email", "balance", "team_balance"}


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/v3/nothing"), ("GET", "/nothing"), ("GET", "/api")])
def test_an_unknown_route_answers_404(sandbox, client, method, path):
    assert refusal(client.call(method, path)) == (404, "Not Found")
    assert sandbox.requests[-1].path == path


def test_a_wrong_method_answers_405(client):
    answer = client.call("DELETE", "/api/v3/sends")
    assert refusal(answer) == (405, "Method Not Allowed")
    assert "POST" in answer.headers["Allow"]


class TestGifts:
    def ids(self, client, query: str = "") -> list[str]:
        answer = client.get(f"/api/v3/gifts{query}")
        assert answer.status_code == 200
        return [gift["id"] for gift in answer.json()["gifts"]]

    def test_the_catalogue_has_gifts_of_every_category(self, client):
        body = client.get("/api/v3/gifts").json()
        assert (body["current_page"], body["per_page"]) == (1, 25)
        assert body["total_count"] == len(body["gifts"]) >= 10
        gifts = {gift["id"]: gift for gift in body["gifts"]}
        assert {gift["category"] for gift in gifts.values()} == {"swag", "physical", "egift", "donation"}
        mug = gifts["gift-mug"]
        assert (mug["delivery_type"], mug["currency"], mug["price"]) == ("mail", "USD", 18.0)
        assert mug["variants"] == [
            {"id": "mug-white", "name": "White"},
            {"id": "mug-black", "name": "Black"},
        ]
        coffee = gifts["gift-egift-coffee"]
        assert (coffee["delivery_type"], coffee["ship_to_countries"]) == ("email", ["CA", "GB", "US"])

    def test_the_catalogue_is_filtered_by_category_and_price(self, client):
        assert self.ids(client, "?category=eGift") == [
            "gift-egift-coffee",
            "gift-egift-books",
            "gift-egift-dinner",
        ]
        assert self.ids(client, "?min_price=50") == ["gift-hoodie", "gift-egift-dinner"]
        assert self.ids(client, "?max_price=15") == ["gift-egift-coffee", "gift-donation-trees"]
        assert self.ids(client, "?category=egift&min_price=11&max_price=49.99") == ["gift-egift-books"]
        assert self.ids(client, "?category=none") == []

    def test_pages_cover_everything_once(self, client):
        pages = [self.ids(client, f"?per_page=4&page={page}") for page in (1, 2, 3, 4)]
        assert [len(page) for page in pages] == [4, 4, 3, 0]
        assert [gift for page in pages for gift in page] == self.ids(client)

    @pytest.mark.parametrize(
        "query", ["page=0", "page=x", "page=-1", "per_page=0", "per_page=", "min_price=x", "max_price=nan"]
    )
    def test_an_invalid_query_parameter_is_refused(self, client, query):
        name = query.partition("=")[0]
        assert refusal(client.get(f"/api/v3/gifts?{query}")) == (400, f"{name} is invalid")

    def test_pages_have_at_most_a_hundred(self, client):
        assert client.get("/api/v3/gifts?per_page=1000").json()["per_page"] == 100


class TestAccepting:
    def test_an_accepted_send_is_answered_with_its_fields(self, sandbox, client, address):
        answer = client.send(variant_id="mug-black", metadata={"contact_id": "42"}, company="Analytical Engines")
        assert answer.status_code == 201
        send = answer.json()["send"]
        assert send["gift_id"] == "gift-mug"
        assert send["variant_id"] == "mug-black"
        assert send["status"] == "pending"
        assert send["recipient"] == {"name": "Ada Lovelace", "email": "ada@example.com"}
        assert send["metadata"] == {"contact_id": "42"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", send["created_at"])
        assert abs((datetime.fromisoformat(send["created_at"]) - datetime.now(UTC)).total_seconds()) < 60

        [accepted] = sandbox.sends
        assert (accepted.id, accepted.client_id) == (send["id"], "sandbox")
        assert accepted.body["address"] == address
        assert accepted.body["company"] == "Analytical Engines"
        assert abs(accepted.accepted_at - datetime.now(UTC).timestamp()) < 60

    def test_the_answer_to_a_send_says_pending_however_short_the_step(self, client_of):
        with Sandbox(step=0) as sandbox:
            client = client_of(sandbox)
            send = client.send().json()["send"]
            assert send["status"] == "pending"
            assert client.get(f"/api/v3/sends/{send['id']}").json()["send"]["status"] == "delivered"

    def test_every_duplicate_is_a_new_send(self, sandbox, client):
        ids = {
            client.send(email=email).json()["send"]["id"]
            for email in ("ada@example.com", "ada@example.com", "ADA@example.com", "bob@example.com")
        }
        client.send(gift_id="gift-egift-coffee")
        assert len(ids) == 4
        assert len(sandbox.sends) == 5
        assert sandbox.duplicates() == {("gift-mug", "ada@example.com"): 3}

    def test_parallel_sends_are_all_kept(self, sandbox, client):
        threads = [threading.Thread(target=client.send) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({send.id for send in sandbox.sends}) == 20

    def test_an_egift_needs_no_address(self, client):
        assert client.send(gift_id="gift-egift-coffee", address=None).status_code == 201


class TestRefusing:
    @pytest.fixture(autouse=True)
    def _accepts_nothing(self, sandbox):
        yield
        assert sandbox.sends == []

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"send"', b"\xff\xfe\xfd", b"[" * 100_000])
    def test_an_unreadable_body_is_refused(self, client, body):
        answer = client.call("POST", "/api/v3/sends", data=body)
        assert refusal(answer) == (400, "The request body is not a JSON object")

    @pytest.mark.parametrize("body", [{}, {"send": None}, {"send": []}, {"sends": {}}])
    def test_a_body_without_a_send_is_refused(self, client, body):
        assert refusal(client.call("POST", "/api/v3/sends", json=body)) == (400, "send can't be blank")

    @pytest.mark.parametrize("field", ["gift_id", "first_name", "last_name", "email", "message"])
    @pytest.mark.parametrize("blank", [None, "", "  "])
    def test_a_missing_required_field_is_refused(self, client, field, blank):
        assert refusal(client.send(**{field: blank})) == (400, f"{field} can't be blank")

    def test_all_missing_fields_are_named(self, client):
        expected = "first_name can't be blank, email can't be blank"
        assert refusal(client.send(first_name=None, email="", gift_id="gift-none")) == (400, expected)

    @pytest.mark.parametrize("field", ["email", "first_name", "metadata", "address"])
    @pytest.mark.parametrize("value", [7, ["x"]])
    def test_a_field_of_another_type_is_refused(self, client, field, value):
        assert refusal(client.send(**{field: value})) == (400, f"{field} is invalid")

    @pytest.mark.parametrize("gift", ["gift-none", 7, ["gift-mug"]])
    def test_an_unknown_gift_is_refused(self, client, gift):
        assert refusal(client.send(gift_id=gift, address=None)) == (404, "Gift not found")

    @pytest.mark.parametrize("variant", ["hoodie-m", 1, ["mug-white"]])
    def test_an_unknown_variant_is_refused(self, client, variant):
        assert refusal(client.send(variant_id=variant, address=None)) == (422, "Variant not found")

    @pytest.mark.parametrize("field", ["line1", "city", "postal_code", "country"])
    def test_an_incomplete_address_is_refused(self, client, address, field):
        del address[field]
        assert refusal(client.send(address=address)) == (400, f"address {field} can't be blank")

    def test_a_physical_gift_without_an_address_is_refused(self, client):
        status, message = refusal(client.send(address=None))
        assert status == 400
        assert "address line1 can't be blank" in message

    def test_an_address_in_the_us_needs_a_state(self, client, address):
        assert refusal(client.send(address=address | {"country": "us"})) == (
            400,
            "address state can't be blank",
        )

    @pytest.mark.parametrize(
        "email", ["ada", "ada@", "@example.com", "ada@example", "a b@example.com", "a@b@example.com", "a@b..com"]
    )
    def test_an_egift_to_an_invalid_email_is_refused(self, client, email):
        answer = client.send(gift_id="gift-egift-coffee", email=email, address=None)
        assert refusal(answer) == (422, "email is invalid")

    @pytest.mark.parametrize(
        ("gift", "country"), [("gift-mug", "XX"), ("gift-plant", "GB"), ("gift-egift-coffee", "DE")]
    )
    def test_a_country_that_the_gift_does_not_ship_to_is_refused(self, client, address, gift, country):
        answer = client.send(gift_id=gift, address=address | {"country": country})
        assert refusal(answer) == (422, "Gift is not eligible in the recipient's country")


class TestReading:
    def test_a_send_is_read_by_its_id(self, client):
        sent = client.send(metadata={"k": "v"}).json()["send"]
        answer = client.get(f"/api/v3/sends/{sent['id']}")
        assert answer.status_code == 200
        assert answer.json() == {"send": sent}
        assert sent["status_updates"] == [{"status": "pending", "occurred_at": sent["created_at"]}]

    def test_an_unknown_send_is_not_found(self, client):
        assert refusal(client.get("/api/v3/sends/send-none")) == (404, "Send not found")

    def test_the_list_is_newest_first_and_paged(self, client):
        ids = [client.send(email=f"{n}@example.com").json()["send"]["id"] for n in range(5)]
        pages = [client.get(f"/api/v3/sends?per_page=2&page={page}").json() for page in (1, 2, 3, 4)]
        assert [send["id"] for page in pages for send in page["sends"]] == ids[::-1]
        assert [page["current_page"] for page in pages] == [1, 2, 3, 4]
        assert {(page["per_page"], page["total_count"]) for page in pages} == {(2, 5)}
        assert pages[0]["sends"][0]["recipient"] == {"name": "Ada Lovelace", "email": "4@example.com"}

    def test_the_status_of_a_send_follows_time(self, client_of):
        with Sandbox(step=0.02, rate=0) as sandbox:
            client = client_of(sandbox)
            sent = client.send(email="ada+returned@example.com").json()["send"]
            seen = []
            while not seen or seen[-1] != "returned":
                send = client.get(f"/api/v3/sends/{sent['id']}").json()["send"]
                assert send["status_updates"][-1]["status"] == send["status"]
                seen.append(send["status"])
            order = ["pending", "processing", "shipped", "returned"]
            assert seen == sorted(seen, key=order.index)
            assert [update["status"] for update in send["status_updates"]] == order

    def test_a_status_can_be_forced(self, sandbox, client):
        sent = client.send().json()["send"]
        sandbox.finish(sent["id"], "failed")
        send = client.get(f"/api/v3/sends/{sent['id']}").json()["send"]
        assert send["status"] == "failed"
        assert [update["status"] for update in send["status_updates"]] == ["pending", "failed"]
        with pytest.raises(ValueError, match="lost"):
            sandbox.finish(sent["id"], "lost")
        with pytest.raises(KeyError):
            sandbox.finish("send-none", "failed")
