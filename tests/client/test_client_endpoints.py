"""Building requests: fields without a value are left out."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.client.endpoints import (
    get_send_request,
    gift_send_request,
    list_gifts_request,
    me_request,
    object_request,
)
from airflow_provider_sendoso.models import GiftSend

ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}


def gift_send(**fields) -> GiftSend:
    return GiftSend.model_validate({"gift_id": "gift-mug", "message": "Thanks", "recipient": ADA} | fields)


class TestGiftSend:
    def test_a_gift_send_with_required_fields_only(self):
        request = gift_send_request(gift_send())
        assert (request.method, request.path, request.params) == ("POST", "/api/v3/sends", {})
        assert request.json == {"send": {"gift_id": "gift-mug", "message": "Thanks", **ADA}}

    def test_a_gift_send_with_every_field(self):
        address = {
            "line1": "12 St James's Square",
            "line2": "Flat 1",
            "city": "London",
            "state": "Greater London",
            "postal_code": "SW1Y 4JH",
            "country": "GB",
        }
        full = ADA | {"company": "Engines", "title": "Countess"}
        more = {"variant_id": "v", "team_id": "7", "metadata": {"contact_id": 42}}
        request = gift_send_request(gift_send(recipient=full | {"address": address}, **more))
        assert request.json == {
            "send": {"gift_id": "gift-mug", "message": "Thanks", **full, "address": address, **more}
        }

    def test_empty_fields_and_nulls_are_left_out_of_a_request(self):
        recipient = ADA | {"company": "", "title": None, "address": {"line1": " ", "city": "London", "state": None}}
        request = gift_send_request(gift_send(recipient=recipient, variant_id=""))
        assert request.json["send"] == {
            "gift_id": "gift-mug",
            "message": "Thanks",
            **ADA,
            "address": {"city": "London"},
        }

    def test_an_empty_address_is_left_out_of_a_request(self):
        assert "address" not in gift_send_request(gift_send(recipient=ADA | {"address": {"line1": ""}})).json["send"]

    def test_the_ledgers_mark_is_added_to_the_metadata(self):
        assert gift_send_request(gift_send(), "k1").json["send"]["metadata"] == {"airflow_key": "k1"}
        marked = gift_send_request(gift_send(metadata={"contact_id": "42"}), "k1")
        assert marked.json["send"]["metadata"] == {"contact_id": "42", "airflow_key": "k1"}


class TestReads:
    @pytest.mark.parametrize(
        ("send_id", "path"),
        [
            ("send-1", "/api/v3/sends/send-1"),
            ("a/b", "/api/v3/sends/a%2Fb"),
            ("a?b#c", "/api/v3/sends/a%3Fb%23c"),
            ("é 1", "/api/v3/sends/%C3%A9%201"),
        ],
    )
    def test_the_id_of_a_send_is_quoted_in_the_path(self, send_id, path):
        request = get_send_request(send_id)
        assert (request.method, request.path, request.json) == ("GET", path, None)

    def test_a_catalogue_request_has_the_filters_that_are_set(self):
        request = list_gifts_request({"category": "swag", "min_price": 0, "max_price": None})
        assert (request.path, request.params) == ("/api/v3/gifts", {"category": "swag", "min_price": 0})

    @pytest.mark.parametrize(
        ("name", "path"),
        [
            (("touches",), "/api/v3/touches"),
            (("touches", 7), "/api/v3/touches/7"),
            (("groups", 7, "members"), "/api/v3/groups/7/members"),
            (("marketplace/products", "a/b?c"), "/api/v3/marketplace/products/a%2Fb%3Fc"),
        ],
    )
    def test_an_object_request_has_path_and_filters(self, name, path):
        request = object_request(*name, filters={"open": True, "closed": False, "none": None, "ids[]": [1, 2]})
        assert str(request) == f"GET {path}"
        assert request.params == {"open": "true", "closed": "false", "ids[]": [1, 2]}

    def test_the_request_for_the_current_user_has_its_path(self):
        assert str(me_request()) == "GET /api/v3/me"
