"""The hook's reads, against a local Sendoso on a real socket, whose lists change while they are read."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from pydantic import ValidationError
from tenacity import wait_none

from airflow_provider_sendoso.client import pages, retrying
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoNotFoundError, SendosoServerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.models import (
    Gift,
    Group,
    ReturnAddress,
    SendosoObject,
    SendStatus,
    Touch,
    User,
)

TOUCHES = "/api/v3/touches"
ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}


@pytest.fixture
def hook(sendoso, monkeypatch) -> SendosoHook:
    monkeypatch.setattr(retrying, "backoff", wait_none())
    return SendosoHook()


@pytest.fixture
def many(sendoso, monkeypatch):
    """Twelve touches in pages of five, the newest first: 211, 210, …, 200."""
    monkeypatch.setattr(pages, "PER_PAGE", 5)
    for touch in SendosoHook().list_touches():
        sendoso.remove("touches", touch.id)
    for number in range(200, 212):
        sendoso.add("touches", {"id": number, "name": f"Campaign {number}"})
    return sendoso


@pytest.fixture
def token(hook, requests_mock):
    """The hook on a host that answers what a test wants it to."""
    requests_mock.post(f"{hook.config.base_url}/oauth/token", json={"access_token": "t"})
    return f"{hook.config.base_url}/api/v3"


def asked(sandbox, path: str) -> int:
    return sum(request.path == path for request in sandbox.requests)


class TestTouches:
    def test_touches_of_both_delivery_types_are_read(self, hook):
        touches = {touch.name: touch for touch in hook.list_touches()}
        parcel, egift = touches["Welcome box"], touches["Coffee on us"]
        assert (parcel.id, parcel.delivery_type, parcel.status, parcel.gift_id) == ("101", "mail", "Active", "3101")
        assert (parcel.ship_to_countries, parcel.currency) == (("US", "CA", "GB"), "USD")
        assert parcel.start_date == datetime(2025, 1, 6, 8, tzinfo=UTC)
        assert (parcel.end_date, parcel.starting_egift_price) == (None, None)
        assert (egift.delivery_type, egift.starting_egift_price, egift.ending_egift_price) == ("email", 5, 25)
        assert parcel.is_default_price is True  # a field that has no name in the model

    @pytest.mark.parametrize(("kind", "count"), [("mail", 2), ("email", 2), ("pigeon", 0), (None, 4)])
    def test_filters_of_touches_are_passed_on(self, hook, kind, count):
        touches = hook.list_touches(delivery_type=kind)
        assert {touch.delivery_type for touch in touches} <= {kind or "mail", kind or "email"}
        assert touches.total == count

    @pytest.mark.parametrize("touch_id", [102, "102"])
    def test_a_single_touch_is_read(self, hook, touch_id):
        touch = hook.get_touch(touch_id)
        assert isinstance(touch, Touch)
        assert (touch.id, touch.name) == ("102", "Coffee on us")

    def test_a_missing_touch_is_not_found(self, hook):
        with pytest.raises(SendosoNotFoundError, match='GET /api/v3/touches/7 answered 404: "Touch not found"'):
            hook.get_touch(7)


class TestTheOthers:
    def test_groups_are_read(self, hook):
        groups = hook.list_groups()
        assert [(group.id, group.name, group.budget) for group in groups] == [
            ("12", "Customer Success", 20_000),
            ("11", "Field Marketing", 50_000),
        ]
        assert groups.total == 2

    def test_members_of_a_group_are_read(self, hook, sendoso):
        members = hook.list_members(11)
        assert [(user.id, user.first_name) for user in members] == [("2", "Grace"), ("1", "Sandbox")]
        assert members.total is None  # it is a bare list
        assert asked(sendoso, "/api/v3/groups/11/members") == 1

    def test_members_of_a_missing_group_are_not_found(self, hook):
        with pytest.raises(SendosoNotFoundError, match="Group not found"):
            next(hook.list_members(99))

    def test_users_are_read(self, hook):
        users = hook.list_users()
        assert {user.email for user in users} == {"sandbox@example.com", "grace@example.com", "katherine@example.com"}
        assert users.total == 3

    def test_return_addresses_are_read(self, hook):
        (address,) = hook.list_return_addresses()
        assert isinstance(address, ReturnAddress)
        assert (address.id, address.city, address.country) == ("21", "Reno", "US")

    def test_the_current_user_is_read(self, hook):
        me = hook.get_me()
        assert (me.id, me.balance, me.team_balance) == ("1", Decimal(1000), Decimal(25_000))

    def test_sends_are_read(self, hook, sendoso):
        ids = [
            hook.send_gift(gift_id="gift-egift-coffee", recipient=ADA, message=f"Thank you {n}").id for n in range(3)
        ]
        sendoso.finish(ids[0], "returned")
        sends = hook.list_sends()
        assert {send.id: send.status for send in sends}[ids[0]] is SendStatus.RETURNED
        assert sends.total == 3

    def test_campaign_sends_are_read_from_the_send_tracker(self, hook, token, requests_mock):
        row = {"id": 1, "status": "Address Confirmation - Cancelled", "recipient": ADA, "touch": {"id": 12}}
        requests_mock.get(f"{token}/send", json={"sends": [row], "current_page": 1, "total_count": 1})
        (send,) = hook.list_objects("send")
        assert (send.id, send.status, send.touch) == ("1", SendStatus.FAILED, {"id": 12})
        assert send.status_word == "Address Confirmation - Cancelled"


class TestByName:
    @pytest.mark.parametrize(
        ("name", "model"),
        [
            (("gifts",), Gift),
            (("groups",), Group),
            (("groups", 11, "members"), User),
            (("return-addresses",), ReturnAddress),
            (("touches",), Touch),
            (("users",), User),
        ],
    )
    def test_a_known_list_has_its_model(self, hook, name, model):
        rows = list(hook.list_objects(*name))
        assert rows
        assert {type(row) for row in rows} == {model}

    def test_an_unknown_list_has_a_general_model(self, hook, token, requests_mock):
        call = requests_mock.get(f"{token}/wallets/a%2Fb/entries", json={"entries": [{"amount": 5}, {"amount": 5}]})
        rows = list(hook.list_objects("wallets", "a/b", "entries", object_id=7, open=True, name="x", nothing=None))
        assert [(type(row), row.id, row.amount) for row in rows] == [(SendosoObject, None, 5)] * 2
        assert {name: value for name, (value,) in call.last_request.qs.items() if "page" not in name} == {
            "object_id": "7",
            "open": "true",
            "name": "x",
        }

    def test_a_single_object_has_its_model(self, hook):
        assert type(hook.get_object("touches", 101)) is Touch
        assert type(hook.get_object("me")) is User

    @pytest.mark.parametrize(
        "body", [{"id": 3, "owner": {"id": 9}}, {"success": True, "wallet": {"id": 3}}, {"data": {"id": "3"}}]
    )
    def test_a_single_object_is_read_at_the_top_or_under_any_name(self, hook, token, requests_mock, body):
        requests_mock.get(f"{token}/wallets/3", json=body)
        assert hook.get_object("wallets", 3).id == "3"

    def test_a_list_paged_by_a_cursor_is_read_one_page_at_a_time(self, hook, token, requests_mock):
        page = {"products": [{"id": 1}], "cursor": {"after": "x"}}
        requests_mock.get(f"{token}/marketplace/products", json=page)
        assert hook.get_object("marketplace/products", after="w").products == [{"id": 1}]
        with pytest.raises(SendosoConfigError, match="'marketplace/products' is paged by a cursor"):
            hook.list_objects("marketplace/products")

    @pytest.mark.parametrize("body", [[], 5, {"success": False, "id": 1}, {"success": True}, {"touch": {"id": None}}])
    def test_an_answer_without_the_object_is_a_server_error(self, hook, token, requests_mock, body):
        requests_mock.get(f"{token}/touches/3", json=body)
        with pytest.raises(SendosoServerError, match="GET /api/v3/touches/3 answered without such an object"):
            hook.get_touch(3)

    @pytest.mark.parametrize(
        "name", [("",), ("touches", ""), ("touches", ".."), ("a//b",), ("users", "ada@example.com")]
    )
    def test_an_empty_or_unsafe_name_is_refused_without_a_request(self, hook, sendoso, name):
        for read in (hook.get_object, hook.list_objects):
            with pytest.raises(SendosoConfigError, match="Nothing was read") as caught:
                read(*name)
            assert "ada@" not in str(caught.value)
        assert sendoso.requests == []

    @pytest.mark.parametrize("name", ["page", "per_page"])
    def test_page_and_per_page_are_refused_as_filters(self, hook, name):
        for read in (hook.list_gifts, hook.list_touches, lambda **filters: hook.list_objects("users", **filters)):
            with pytest.raises(SendosoConfigError, match=f"^{name} cannot be asked for"):
                read(**{name: 2})


class TestAListThatChanges:
    def test_no_page_is_requested_before_the_list_is_used(self, hook, many, monkeypatch):
        monkeypatch.setattr(BaseHook, "get_connection", None)
        before = asked(many, TOUCHES)
        touches = SendosoHook().list_touches()
        monkeypatch.undo()
        assert touches.total is None
        assert asked(many, TOUCHES) == before

    def test_a_list_is_read_whole_and_once(self, hook, many, monkeypatch):
        before = asked(many, TOUCHES)
        touches = hook.list_touches()
        assert [touch.id for touch in touches] == [str(number) for number in range(211, 199, -1)]
        assert (touches.total, asked(many, TOUCHES) - before) == (12, 3)
        assert list(touches) == []

    def test_no_row_is_missed_in_a_list_that_shrinks(self, hook, many):
        touches = hook.list_touches()
        first = [next(touches) for _ in range(5)]
        many.remove("touches", 210)
        rest = list(touches)
        assert len(first + rest) == 12
        assert {touch.id for touch in [*first, *rest]} == {str(number) for number in range(200, 212)}
        assert rest[-1].id == "206"  # the row that had moved to the first page
        assert touches.total == 11

    def test_no_row_is_repeated_in_a_list_that_grows(self, hook, many):
        touches = hook.list_touches()
        first = [next(touches) for _ in range(5)]
        many.add("touches", {"id": 300})
        rest = [touch.id for touch in touches]
        assert rest == [str(number) for number in range(206, 199, -1)]
        assert (len(first), touches.total) == (5, 13)

    def test_a_list_that_is_emptied_meanwhile_ends(self, hook, many):
        touches = hook.list_touches()
        next(touches)
        for number in range(200, 212):
            many.remove("touches", number)
        assert len(list(touches)) == 4
        assert touches.total == 0

    def test_a_list_that_changes_in_every_walk_is_an_error(self, hook, many, monkeypatch):
        """The newest row is removed after every third page: each walk misses a row, and in the end that is an error."""
        for number in range(212, 250):
            many.add("touches", {"id": number})
        read, newest, calls = hook.session.read, iter(range(249, 0, -1)), count(1)

        def and_one_goes(request):
            answer = read(request)
            if next(calls) % 3 == 0:
                many.remove("touches", next(newest))
            return answer

        monkeypatch.setattr(hook.session, "read", and_one_goes)
        with pytest.raises(SendosoServerError, match=r"GET /api/v3/touches could not be read whole in 5 walks.*counts"):
            list(hook.list_touches())

    def test_an_error_between_pages_is_retried(self, hook, many):
        touches = hook.list_touches()
        next(touches)
        many.fault("error_before", times=2, path=TOUCHES, status=502)
        assert len(list(touches)) == 11

    def test_a_row_without_an_id_is_an_error(self, hook, sendoso):
        sendoso.fault("status", path=TOUCHES, status=200, body={"touches": [{"name": "Ada's"}], "total_posts": 1})
        with pytest.raises(SendosoServerError, match=r"^GET /api/v3/touches has a row without an id") as caught:
            list(hook.list_touches())
        assert "Ada" not in str(caught.value)


class TestModels:
    @pytest.mark.parametrize("model", [Group, ReturnAddress, SendosoObject, Touch, User])
    def test_unknown_fields_are_kept_and_not_shown(self, model):
        row = model.model_validate({"id": 7, "nick": "Ada", "addresses": ["ada@example.com"]})
        assert (row.nick, row.addresses) == ("Ada", ["ada@example.com"])
        assert "Ada" not in f"{row!r} {row}"
        assert row.model_dump()["nick"] == "Ada"
        assert row.id == "7"

    @pytest.mark.parametrize("model", [User, ReturnAddress])
    def test_personal_fields_are_not_shown(self, model):
        names = [name for name in model.model_fields if not name.endswith(("id", "balance"))]
        row = model.model_validate({"id": 1} | dict.fromkeys(names, "Ada"))
        assert "Ada" not in f"{row!r} {row}"
        assert len(names) >= 3

    def test_a_malformed_value_costs_its_field_alone(self):
        touch = Touch.model_validate(
            {"id": 1, "start_date": "soon", "ship_to_countries": "US", "gift_id": {}, "name": 5}
        )
        assert (touch.start_date, touch.ship_to_countries, touch.gift_id, touch.name) == (None, None, None, None)

    def test_a_time_without_a_zone_is_utc(self):
        assert Touch.model_validate({"id": 1, "end_date": "2026-05-01"}).end_date == datetime(2026, 5, 1, tzinfo=UTC)

    def test_models_are_immutable(self):
        with pytest.raises(ValidationError):
            Touch(id="1").name = "x"
