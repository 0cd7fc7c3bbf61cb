"""Campaign sends in the sandbox: which are accepted, which are refused, and their statuses."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import requests

from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.statuses import campaign_path

SHAPES = ("egift", "mail", "asked")


def refusal(answer: requests.Response) -> tuple[int, str]:
    assert answer.json()["success"] is False
    return answer.status_code, answer.json()["message"]


class TestAccepting:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_answer_to_a_campaign_send_has_a_tracking_code_and_no_id(self, sandbox, client, shape):
        answer = client.campaign(shape)
        assert answer.status_code == 200
        body = answer.json()
        assert body["success"] is True
        urls = {"tracking_url"} if shape == "egift" else set()
        assert set(body) == {"success", "message", "tracking_code"} | urls
        (send,) = sandbox.campaign_sends()
        assert send.tracking_code == body["tracking_code"]
        assert (send.body["via_from"], send.body["email"], send.client_id) == ("Airflow", "ada@example.com", "sandbox")
        assert isinstance(send.id, int)
        assert sandbox.sends == []

    def test_a_touch_id_may_be_text(self, client):
        assert client.campaign("mail", touch_id="101").status_code == 200

    def test_duplicates_are_accepted(self, sandbox, client):
        codes = {client.campaign("mail", email=email).json()["tracking_code"] for email in ("a@b.co", "A@B.co")}
        codes.add(client.campaign("mail", email="a@b.co", touch_id="101").json()["tracking_code"])
        client.campaign("egift", email="a@b.co")
        assert len(codes) == 3
        assert len({send.id for send in sandbox.campaign_sends()}) == 4
        assert sandbox.duplicates() == {("101", "a@b.co"): 3}
        assert sandbox.state()["duplicates"] == 1

    def test_gift_sends_and_campaign_sends_are_counted_apart(self, sandbox, client):
        client.send()
        client.send()
        client.campaign("mail")
        client.campaign("mail")
        assert sandbox.duplicates() == {("gift-mug", "ada@example.com"): 2, ("101", "ada@example.com"): 2}
        assert (len(sandbox.sends), len(sandbox.campaign_sends())) == (2, 2)
        assert client.get("/api/v3/sends").json()["total_count"] == 2
        assert client.get("/api/v3/send").json()["total_count"] == 2

    def test_a_request_without_a_token_is_refused(self, sandbox, client):
        for method, path in (("POST", "send"), ("POST", "send/generate_egift_links"), ("GET", "send")):
            assert client.call(method, f"/api/v3/{path}", token=None, json={}).status_code == 401
        assert sandbox.campaign_sends() == []


class TestRefusing:
    @pytest.fixture(autouse=True)
    def _accepts_nothing(self, sandbox):
        yield
        assert sandbox.campaign_sends() == []

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"send": []}'])
    def test_a_body_without_a_send_is_refused(self, client, body):
        assert client.call("POST", "/api/v3/send", data=body).status_code == 400

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("field", ["email", "touch_id", "via", "via_from"])
    @pytest.mark.parametrize("blank", [None, " "])
    def test_a_missing_required_field_is_refused(self, client, shape, field, blank):
        assert refusal(client.campaign(shape, **{field: blank})) == (400, f"{field} can't be blank")

    @pytest.mark.parametrize("field", ["name", "address", "city", "state", "zip", "country"])
    def test_a_missing_field_of_an_address_is_refused(self, client, field):
        assert refusal(client.campaign("mail", **{field: None})) == (400, f"{field} can't be blank")

    def test_an_address_that_is_not_one_line_is_refused(self, client, address):
        assert refusal(client.campaign("mail", address=address)) == (400, "address is invalid")

    def test_a_recipient_who_is_asked_for_an_address_needs_a_name(self, client):
        assert refusal(client.campaign("asked", name=None)) == (400, "name can't be blank")

    @pytest.mark.parametrize("touch", [999, "x", [101]])
    def test_an_unknown_touch_is_refused(self, client, touch):
        assert refusal(client.campaign("mail", touch_id=touch)) == (404, "Touch not found")

    @pytest.mark.parametrize(
        ("shape", "via", "expected"),
        [
            ("egift", "single_person_or_company", "single_email_address"),
            ("mail", "single_email_address", "single_person_or_company"),
            ("mail", "generate_egift_links", "single_person_or_company"),
            ("asked", "x", "single_person_or_company"),
        ],
    )
    def test_a_via_of_another_kind_of_touch_is_refused(self, client, shape, via, expected):
        assert refusal(client.campaign(shape, via=via)) == (422, f"via must be {expected} for this touch")

    @pytest.mark.parametrize(
        ("shape", "changes", "word"),
        [
            ("mail", {"confirm_address": True}, "confirm_address must be false"),
            ("mail", {"confirm_address": None}, "confirm_address must be false"),
            ("asked", {"confirm_address": False}, "confirm_address must be true"),
            ("asked", {"no_address": "yes"}, "no_address must be true"),
            ("asked", {"address": "1 Dock Road"}, "address must be absent"),
            ("asked", {"address_confirmation_via": "phone"}, "must be email or link"),
            ("asked", {"address_confirmation_via": None}, "must be email or link"),
            ("asked", {"expire_after_days": 1}, "from 2 to 7"),
            ("asked", {"expire_after_days": 8}, "from 2 to 7"),
            ("asked", {"expire_after_days": "5"}, "from 2 to 7"),
            ("asked", {"email": "ada"}, "email is invalid"),
            ("egift", {"email": "ada"}, "email is invalid"),
        ],
    )
    def test_a_field_of_another_shape_is_refused(self, client, shape, changes, word):
        status, message = refusal(client.campaign(shape, **changes))
        assert status == 422
        assert word in message


@pytest.mark.parametrize("days", [2, 7])
@pytest.mark.parametrize("via", ["email", "link"])
def test_an_address_can_be_asked_for_by_email_or_link(client, days, via):
    answer = client.campaign("asked", expire_after_days=days, address_confirmation_via=via, hide_product_info=True)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [
        (None, None, 200),
        (-1, 1, 200),
        (0, 0, 200),
        (1, None, 404),
        (None, -1, 404),
        (-5, -2, 404),
    ],
)
@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%S.000+00:00", "%Y-%m-%d"])
def test_a_touch_is_accepted_between_its_dates_only(sandbox, client, start, end, status, form):
    today = datetime.now(UTC)
    start_date, end_date = (None if days is None else (today + timedelta(days)).strftime(form) for days in (start, end))
    sandbox.add("touches", {"id": 7, "name": "Ours", "start_date": start_date, "end_date": end_date})
    answer = client.campaign("mail", touch_id=7)
    assert answer.status_code == status
    if status == 404:
        assert refusal(answer) == (404, "Touch not found")


def test_a_removed_touch_is_refused_and_its_sends_keep_its_name(sandbox, client):
    assert client.campaign("mail").status_code == 200
    sandbox.remove("touches", 101)
    assert client.campaign("mail").status_code == 404
    assert client.tracked()[0]["touch"] == {"id": 101, "name": "Welcome box"}


class TestEgiftLinks:
    @pytest.mark.parametrize("wrapped", [True, False])
    def test_each_egift_link_is_a_send(self, sandbox, client, wrapped):
        answer = client.egift_links("ada@example.com", "bob@example.com", wrapped=wrapped)
        assert answer.status_code == 200
        body = answer.json()
        assert body["success"] is True
        assert [link["recipient_email_or_phone_number"] for link in body["egift_links"]] == [
            "ada@example.com",
            "bob@example.com",
        ]
        for link, send in zip(body["egift_links"], sandbox.campaign_sends(), strict=True):
            assert link["egift_link"] == f"{sandbox.url}/?send={send.tracking_code}"
            assert send.body["via"] == "generate_egift_links"
        assert {row["recipient"]["email"] for row in client.tracked()} == {"ada@example.com", "bob@example.com"}
        assert sandbox.state()["counts"]["pending"] == 2

    def test_two_links_for_one_person_are_duplicates(self, sandbox, client):
        client.egift_links("ada@example.com", "ADA@example.com")
        client.campaign("egift")
        assert sandbox.duplicates() == {("102", "ada@example.com"): 3}

    @pytest.mark.parametrize(
        ("emails", "changes", "expected"),
        [
            ((), {}, (400, "recipient_users can't be blank")),
            ((), {"recipient_users": "ada@example.com"}, (400, "recipient_users can't be blank")),
            (("ada@example.com", ""), {}, (400, "email can't be blank")),
            ((), {"recipient_users": ["ada@example.com"]}, (400, "email can't be blank")),
            (("ada@example.com", "bob"), {}, (422, "email is invalid")),
            (("ada@example.com",), {"via_from": None}, (400, "via_from can't be blank")),
            (("ada@example.com",), {"touch_id": 101}, (422, "Touch has no eGift")),
            (("ada@example.com",), {"touch_id": 9}, (404, "Touch not found")),
            (
                ("ada@example.com",),
                {"via": "single_email_address"},
                (422, "via must be generate_egift_links for this touch"),
            ),
        ],
    )
    def test_a_request_with_one_invalid_recipient_makes_no_link(self, sandbox, client, emails, changes, expected):
        assert refusal(client.egift_links(*emails, **changes)) == expected
        assert sandbox.campaign_sends() == []


class TestStatuses:
    @pytest.mark.parametrize(
        ("shape", "email", "words", "statuses"),
        [
            ("mail", "ada", "Order Received/Fulfilling/Shipped/Delivered", "pending/processing/shipped/delivered"),
            (
                "asked",
                "ada",
                "Confirming Address/Order Received/Fulfilling/Shipped/Delivered",
                "pending/pending/processing/shipped/delivered",
            ),
            ("egift", "ada", "Initiated/Sent/Opened/Redeemed", "pending/shipped/delivered/delivered"),
            ("mail", "ada+failed", "Order Received/Fulfilling/Failed", "pending/processing/failed"),
            (
                "mail",
                "ada+returned",
                "Order Received/Fulfilling/Shipped/Returned",
                "pending/processing/shipped/returned",
            ),
            ("egift", "ada+failed", "Initiated/Failed", "pending/failed"),
            ("egift", "ada+returned", "Initiated/Sent/Expired", "pending/shipped/returned"),
        ],
    )
    def test_the_email_and_the_kind_decide_the_path_of_statuses(self, shape, email, words, statuses):
        delivery_type = "email" if shape == "egift" else "mail"
        path = campaign_path(f"{email}@example.com", delivery_type, asked=shape == "asked")
        assert "/".join(path) == words
        assert "/".join(SendStatus.from_word(word) for word in path) == statuses

    def test_the_status_of_a_campaign_send_follows_time(self, client_of):
        with Sandbox(step=0.05, rate=0) as sandbox:
            client = client_of(sandbox)
            client.campaign("asked")
            seen = []
            while not seen or seen[-1] != "Delivered":
                (row,) = client.tracked()
                assert row["status_updates"][-1]["status"] == row["status"]
                seen.append(row["status"])
            order = ["Confirming Address", "Order Received", "Fulfilling", "Shipped", "Delivered"]
            assert seen == sorted(seen, key=order.index)
            assert [update["status"] for update in row["status_updates"]] == order
            assert sandbox.campaign_sends()[0].status == "Delivered"
            assert sandbox.state()["counts"]["delivered"] == 1

    def test_any_status_word_can_be_forced(self, sandbox, client):
        code = client.campaign("mail").json()["tracking_code"]
        client.campaign("egift")
        mail, egift = sandbox.campaign_sends()
        sandbox.finish(code, "Address Confirmation - Cancelled")
        sandbox.finish(str(egift.id), "Abducted")
        assert [row["status"] for row in client.tracked()] == ["Abducted", "Address Confirmation - Cancelled"]
        sandbox.finish(mail.id, "Delivered")
        assert [send.status for send in sandbox.campaign_sends()] == ["Delivered", "Abducted"]
        counts = sandbox.state()["counts"]
        assert (counts["delivered"], counts["processing"]) == (1, 1)  # a word that nobody knows
        with pytest.raises(ValueError, match="word"):
            sandbox.finish(mail.id, " ")
        with pytest.raises(KeyError):
            sandbox.finish(1, "failed")

    @pytest.mark.parametrize(
        ("country", "mobile_no", "status"),
        [
            ("US", None, "Order Received"),
            ("u.s.a.", None, "Order Received"),
            ("United States", None, "Order Received"),
            ("GB", None, "Failed"),
            ("GB", " ", "Failed"),
            ("GB", "+44 20 7946 0000", "Order Received"),
        ],
    )
    def test_a_parcel_abroad_without_a_number_is_accepted_and_fails(self, sandbox, client, country, mobile_no, status):
        answer = client.campaign("mail", country=country, mobile_no=mobile_no)
        assert answer.status_code == 200
        assert answer.json()["tracking_code"]
        (row,) = client.tracked()
        assert row["status"] == status


class TestFaults:
    @pytest.mark.parametrize(
        ("name", "accepted"), [("drop_before", 0), ("drop_after", 1), ("truncate", 1), ("garbage", 1)]
    )
    def test_a_fault_applies_to_campaign_sends_by_path_and_method(self, sandbox, client, name, accepted):
        sandbox.fault(name, method="POST", path="/api/v3/send")
        assert client.send().status_code == 201  # another path
        assert client.tracked() == []  # another method
        with pytest.raises(requests.exceptions.RequestException):
            client.campaign("mail").json()
        assert len(sandbox.campaign_sends()) == accepted
        assert client.campaign("mail").status_code == 200

    @pytest.mark.parametrize(("name", "accepted"), [("error_before", 0), ("error_after", 1)])
    def test_a_fault_of_campaign_sends_applies_to_links(self, sandbox, client, name, accepted):
        sandbox.fault(name, path="/api/v3/send")
        assert client.egift_links("ada@example.com").status_code == 500
        assert len(sandbox.campaign_sends()) == accepted

    def test_a_fault_of_gift_sends_does_not_apply_to_campaign_sends(self, sandbox, client):
        sandbox.fault("error_before", path="/api/v3/sends")
        assert client.campaign("mail").status_code == 200

    def test_nothing_personal_is_remembered_of_the_request(self, sandbox, client):
        client.campaign("mail")
        assert sandbox.requests[-1].airflow_key is None


class TestRemembering:
    def test_a_restart_keeps_campaign_sends(self, tmp_path, client_of):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path, step=1000) as first:
            client = client_of(first)
            client.send()
            client.campaign("mail")
            client.egift_links("ada@example.com")
            client.campaign("asked", email="bob@example.com")
            first.finish(first.campaign_sends()[1].id, "Bounced")
            first.finish(first.sends[0].id, "returned")
        with Sandbox(state=path, step=1000) as second:
            assert second.sends == first.sends
            assert second.campaign_sends() == first.campaign_sends()
            client = client_of(second)
            assert [row["status"] for row in client.tracked()] == ["Confirming Address", "Bounced", "Order Received"]
            client.campaign("mail")
            assert second.duplicates() == {("101", "ada@example.com"): 2}
            assert len({send.id for send in second.campaign_sends()}) == 4

    @pytest.mark.parametrize("record", [{"kind": "campaign", "id": 1}, {"kind": "wish"}, {"kind": ["campaign"]}])
    def test_a_file_of_another_kind_is_refused(self, tmp_path, record):
        path = tmp_path / "state.jsonl"
        path.write_text(json.dumps(record) + "\n")
        with pytest.raises(ValueError, match="state file"):
            Sandbox(state=path)

    def test_a_reset_forgets_campaign_sends(self, tmp_path, client_of):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path) as sandbox:
            client_of(sandbox).campaign("mail")
            sandbox.preload(10)
            sandbox.reset()
            assert path.read_text() == ""
            assert sandbox.campaign_sends() == sandbox.state()["campaign_sends"] == []
            client = client_of(sandbox)
            assert client.tracked() == []
            client.campaign("mail")
        with Sandbox(state=path) as again:
            assert len(again.campaign_sends()) == 1

    def test_the_state_shows_campaign_sends(self, sandbox, client):
        code = client.campaign("mail").json()["tracking_code"]
        client.campaign("egift")
        client.send()
        state = client.get("/sandbox/state").json()
        assert state == sandbox.state()
        assert [send["status"] for send in state["campaign_sends"]] == ["Initiated", "Order Received"]
        assert state["campaign_sends"][1]["tracking_code"] == code
        assert state["counts"]["pending"] == 3


class TestPage:
    def page(self, client, path: str = "/") -> str:
        answer = client.get(path, token=None)
        assert answer.status_code == 200
        return answer.text

    def test_the_page_lists_gift_and_campaign_sends_together(self, client):
        client.send()
        code = client.campaign("mail", email="bob@example.com", name="Bob & Co").json()["tracking_code"]
        page = self.page(client)
        assert re.search(r"<b>2</b><span>Sends accepted", page)
        assert "Welcome box<small>touch 101</small>" in page
        assert "Bob &amp; Co" in page
        assert '<span class="pill pending">Order Received</span>' in page
        assert code in page

    def test_the_tracking_address_of_an_egift_shows_that_send(self, sandbox, client):
        url = client.campaign("egift").json()["tracking_url"]
        client.campaign("mail", email="bob@example.com")
        assert url.startswith(f"{sandbox.url}/?send=")
        page = self.page(client, url.removeprefix(sandbox.url))
        assert "ada@example.com" in page
        assert "bob@example.com" not in page

    def test_the_page_marks_duplicates(self, client):
        client.campaign("mail")
        client.campaign("mail")
        client.campaign("egift")
        page = self.page(client)
        assert page.count("2× sent") == 2
        assert "<code>touch 101</code> to ada@example.com" in page

    def test_the_page_names_the_campaigns(self, sandbox, client):
        sandbox.add("touches", {"id": 7, "name": "<b>"})
        page = self.page(client)
        assert "<i>102</i> Coffee on us · email" in page
        assert "<i>7</i> &lt;b&gt;" in page
