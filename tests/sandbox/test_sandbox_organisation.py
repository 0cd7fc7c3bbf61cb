"""The lists of the sandbox's organisation, under the names and totals that are published."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("path", "collection", "total"),
    [
        ("touches", "touches", "total_posts"),
        ("groups", "groups", "total_groups"),
        ("users", "users", "total_users"),
        ("return-addresses", "return_addresses", "total_return_addresses"),
    ],
)
def test_each_list_has_its_published_name_and_total(client, path, collection, total):
    body = client.get(f"/api/v3/{path}?per_page=2&page=1").json()
    assert set(body) == {collection, "current_page", "per_page", total}
    assert (body["current_page"], body["per_page"]) == (1, 2)
    assert body[total] >= len(body[collection]) >= 1


def test_a_request_without_a_token_is_refused(client):
    for path in ("touches", "touches/101", "groups", "groups/11/members", "users", "return-addresses"):
        assert client.call("GET", f"/api/v3/{path}", token=None).status_code == 401


def test_a_touch_is_read_by_its_id(client):
    body = client.get("/api/v3/touches/101").json()
    assert body["success"] is True
    assert body["touch"] == client.get("/api/v3/touches?delivery_type=mail&per_page=1&page=2").json()["touches"][0]
    answer = client.get("/api/v3/touches/1")
    assert (answer.status_code, answer.json()["message"]) == (404, "Touch not found")


def test_there_are_touches_of_both_delivery_types(client):
    kinds = [touch["delivery_type"] for touch in client.get("/api/v3/touches").json()["touches"]]
    assert sorted(kinds) == ["email", "email", "mail", "mail"]
    assert client.get("/api/v3/touches?delivery_type=email").json()["total_posts"] == 2


def test_the_members_of_a_group_are_a_bare_list(client):
    assert [user["id"] for user in client.get("/api/v3/groups/11/members").json()] == [2, 1]
    answer = client.get("/api/v3/groups/1/members")
    assert (answer.status_code, answer.json()["message"]) == (404, "Group not found")


def test_rows_are_added_as_the_newest_replaced_and_removed(sandbox, client):
    sandbox.add("touches", {"id": 123456, "name": "Ours"})
    assert client.get("/api/v3/touches").json()["touches"][0] == {"id": 123456, "name": "Ours"}
    sandbox.add("touches", {"id": 123456, "name": "Theirs"})
    assert client.get("/api/v3/touches/123456").json()["touch"]["name"] == "Theirs"
    assert client.get("/api/v3/touches").json()["total_posts"] == 5
    sandbox.remove("touches", 123456)
    assert client.get("/api/v3/touches/123456").status_code == 404


def test_a_reset_restores_the_lists(sandbox, client):
    before = client.get("/api/v3/users").json()
    sandbox.remove("users", 1)
    sandbox.reset()
    client.token = client.sign_in().json()["access_token"]
    assert client.get("/api/v3/users").json() == before


def test_an_unknown_list_or_row_cannot_be_changed(sandbox):
    with pytest.raises(KeyError, match="wallets"):
        sandbox.add("wallets", {"id": 1})
    with pytest.raises(KeyError, match="7"):
        sandbox.remove("touches", 7)
    with pytest.raises(KeyError, match="id"):
        sandbox.add("touches", {"name": "x"})
