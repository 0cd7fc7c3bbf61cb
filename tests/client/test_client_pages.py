"""Paging as pure state."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.pages import PER_PAGE, Pages
from airflow_provider_sendoso.exceptions import SendosoServerError


def items(first: int, count: int) -> list[dict[str, int]]:
    return [{"id": number} for number in range(first, first + count)]


def pages(**params: object) -> Pages:
    return Pages(Request("GET", "/api/v3/gifts", params=params), "gifts")


def test_the_first_request_asks_for_page_1_and_keeps_the_filters():
    request = pages(category="swag").next_request()
    assert (request.method, request.path) == ("GET", "/api/v3/gifts")
    assert request.params == {"category": "swag", "page": 1, "per_page": 100}


def test_a_full_page_is_followed_by_the_next():
    walk = pages()
    assert walk.read({"gifts": items(0, PER_PAGE)}) == items(0, PER_PAGE)
    assert not walk.done
    assert walk.next_request().params["page"] == 2
    assert walk.read({"gifts": items(PER_PAGE, 3)}) == items(PER_PAGE, 3)
    assert walk.done


@pytest.mark.parametrize("count", [0, 1, PER_PAGE - 1])
def test_a_short_page_is_the_last(count):
    walk = pages()
    assert walk.read({"gifts": items(0, count)}) == items(0, count)
    assert walk.done


def test_an_empty_page_after_a_full_one_is_the_last():
    walk = pages()
    walk.read({"gifts": items(0, PER_PAGE)})
    assert walk.read({"gifts": []}) == []
    assert walk.done


def test_a_server_that_repeats_its_page_is_not_asked_for_ever():
    walk = pages()
    body = {"gifts": items(0, PER_PAGE)}
    assert walk.read(body) == body["gifts"]
    assert walk.read(body) == []
    assert walk.done


@pytest.mark.parametrize("body", [{"gifts": items(0, 2)}, {"data": items(0, 2)}, items(0, 2)])
def test_where_the_items_stand(body):
    assert pages().read(body) == items(0, 2)


def test_the_collections_own_name_comes_first():
    assert pages().read({"data": items(0, 1), "gifts": items(5, 1)}) == items(5, 1)


@pytest.mark.parametrize(
    "body",
    [None, "gifts", 5, {}, {"gifts": None}, {"gifts": {"1": {}}}, {"gifts": ["g-1"]}, {"sends": []}, [1], [[{}]]],
)
def test_a_body_without_the_collection(body):
    with pytest.raises(SendosoServerError, match="GET /api/v3/gifts answered without a list of 'gifts'"):
        pages().read(body)
