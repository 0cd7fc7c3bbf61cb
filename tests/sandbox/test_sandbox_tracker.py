"""The Send Tracker: its rows, its pages, its order, and a great many old sends."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import pairwise

import pytest

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.tracker import OldSends


def test_a_row_has_the_published_fields(sandbox, client):
    code = client.campaign("mail").json()["tracking_code"]
    answer = client.get("/api/v3/send")
    body = answer.json()
    assert set(body) == {"sends", "current_page", "per_page", "total_count"}
    (row,) = body["sends"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row.pop("created_at"))
    (update,) = row.pop("status_updates")
    assert (update["status"], set(update)) == ("Order Received", {"status", "occurred_at"})
    assert set(row.pop("sender")) == {"id", "name", "email"}
    assert row == {
        "id": sandbox.campaign_sends()[0].id,
        "send_gid": f"sandbox-{row['id']}",
        "type": "mail",
        "subtype": "inventoried",
        "currency": "USD",
        "current_total_cost": 30.0,
        "status": "Order Received",
        "touch": {"id": 101, "name": "Welcome box"},
        "recipient": {"name": "Ada Lovelace", "email": "ada@example.com", "company_name": None},
        "sent_via": "Airflow",
    }
    assert code not in answer.text


def test_an_egift_has_its_type_cost_and_status(client):
    client.campaign("egift", name="Ada")
    (row,) = client.tracked()
    assert (row["type"], row["subtype"], row["current_total_cost"], row["status"]) == (
        "email",
        "egift",
        5.0,
        "Initiated",
    )


def test_a_single_campaign_send_cannot_be_read(sandbox, client):
    client.campaign("mail")
    assert client.get(f"/api/v3/send/{sandbox.campaign_sends()[0].id}").status_code == 404


@pytest.mark.parametrize(("order", "step"), [("newest_first", -1), ("oldest_first", 1)])
def test_pages_follow_the_order_of_the_list(client_of, order, step):
    with Sandbox(rate=0, order=order) as sandbox:
        client = client_of(sandbox)
        emails = [f"{n}@example.com" for n in range(5)]
        for email in emails:
            client.campaign("mail", email=email)
        pages = [client.get(f"/api/v3/send?per_page=2&page={page}").json() for page in (1, 2, 3, 4)]
        assert [row["recipient"]["email"] for page in pages for row in page["sends"]] == emails[::step]
        assert {(page["per_page"], page["total_count"]) for page in pages} == {(2, 5)}
        assert client.tracked(email=emails[0]) == client.tracked()  # no filter
        assert client.get("/api/v3/send?page=0").status_code == 400
        assert client.get("/api/v3/send?per_page=500").json()["per_page"] == 100


def test_the_order_can_be_set(sandbox, client):
    client.campaign("mail", email="a@example.com")
    client.campaign("mail", email="b@example.com")
    assert sandbox.order == "newest_first"
    newest_first = client.tracked()
    sandbox.order = "oldest_first"
    assert client.tracked() == newest_first[::-1]
    with pytest.raises(ValueError, match="any"):
        sandbox.order = "any"
    with pytest.raises(ValueError, match="any"):
        Sandbox(order="any")


class TestOldSends:
    def test_preloaded_sends_are_older_than_accepted_ones(self, sandbox, client):
        client.campaign("mail", email="new@example.com")
        sandbox.preload(5, touch_ids=(101, 102), email="old{}@example.com")
        rows = client.tracked()
        emails = ["new", "old4", "old3", "old2", "old1", "old0"]
        assert [row["recipient"]["email"].partition("@")[0] for row in rows] == emails
        ids = [row["id"] for row in rows]
        assert ids == sorted(set(ids), reverse=True)
        times = [datetime.fromisoformat(row["created_at"]) for row in rows]
        assert times == sorted(times, reverse=True)
        assert [round((one - other).total_seconds()) for one, other in pairwise(times[1:])] == [60] * 4
        assert [row["touch"]["id"] for row in rows[1:]] == [101, 102, 101, 102, 101]
        assert [row["status"] for row in rows[1:]] == ["Delivered", "Redeemed", "Delivered", "Redeemed", "Delivered"]
        assert client.tracked() == rows

    def test_the_email_decides_the_status_of_a_preloaded_send(self, sandbox, client):
        sandbox.preload(1, email="ada+returned@example.com")
        assert client.tracked()[0]["status"] == "Returned"

    def test_preloaded_sends_do_not_count_as_accepted(self, sandbox, client):
        sandbox.preload(2, email="ada@example.com")
        assert (sandbox.campaign_sends(), sandbox.duplicates()) == ([], {})
        assert set(sandbox.state()["counts"].values()) == {0}

    def test_preloading_again_replaces_the_preloaded_sends(self, sandbox, client):
        sandbox.preload(5)
        sandbox.preload(2)
        assert client.get("/api/v3/send").json()["total_count"] == 2
        sandbox.preload(0)
        assert client.tracked() == []

    def test_an_invalid_preload_is_refused(self, sandbox):
        for count, touch_ids in ((-1, (101,)), (10**9, (101,)), (1, ())):
            with pytest.raises(ValueError, match="count"):
                sandbox.preload(count, touch_ids)
        with pytest.raises(KeyError):
            sandbox.preload(1, (9,))

    @pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
    def test_only_the_rows_that_are_read_are_generated(self, sandbox, client, monkeypatch, order):
        made = []
        make = OldSends.make
        monkeypatch.setattr(OldSends, "make", lambda self, number: made.append(number) or make(self, number))
        sandbox.order = order
        sandbox.preload(100_000)
        seen = [row["id"] for page in (1, 500, 1000, 1001) for row in client.tracked(per_page=100, page=page)]
        assert len(made) == len(seen) == len(set(seen)) == 300
        assert {1, 100_000} <= set(seen)
        assert seen == sorted(seen, reverse=order == "newest_first")
