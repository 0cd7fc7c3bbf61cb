"""Reading a list page by page: pure rules."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_sendoso.client import pages as module
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.pages import MOST_WALKS, PER_PAGE, Listing, Pages
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
def test_items_are_read_under_their_name_or_data_or_as_a_bare_list(body):
    assert pages().read(body) == items(0, 2)


def test_the_collections_own_name_comes_first():
    assert pages().read({"data": items(0, 1), "gifts": items(5, 1)}) == items(5, 1)


@pytest.mark.parametrize(
    "body",
    [None, "gifts", 5, {}, {"gifts": None}, {"gifts": {"1": {}}}, {"gifts": ["g-1"]}, {"sends": []}, [1], [[{}]]],
)
def test_a_body_without_a_list_is_an_error(body):
    with pytest.raises(SendosoServerError, match="GET /api/v3/gifts answered without a list of 'gifts'"):
        pages().read(body)


@pytest.mark.parametrize(("collection", "field"), [("return-addresses", "return_addresses"), ("contacts", "people")])
def test_a_list_under_another_name_is_found_where_there_is_one_list(collection, field):
    """Written with underscores, or the only list beside the number of the page."""
    walk = Pages(Request("GET", f"/api/v3/{collection}"), collection)
    assert walk.read({field: items(0, 2), "current_page": 1}) == items(0, 2)


def test_one_of_several_lists_is_not_taken_on_a_guess():
    with pytest.raises(SendosoServerError, match="without a list of 'gifts'"):
        pages().read({"errors": [], "people": items(0, 2), "current_page": 1})


# -- a list that changes while it is read ----------------------------------------------------------------------------


class Server:
    """A list of rows, newest first, in pages of ten; a test can change it after each answer."""

    def __init__(
        self,
        rows: int,
        total: str | None = "total_count",
        change: Callable[[list[int], int], None] = lambda rows, asked: None,
    ) -> None:
        self.rows = list(range(rows, 0, -1))
        self.total = total
        self.change = change
        self.asked = 0

    def answer(self, page: int) -> dict[str, Any]:
        first = 10 * (page - 1)
        body: dict[str, Any] = {
            "touches": [{"id": row} for row in self.rows[first : first + 10]],
            "current_page": page,
            "per_page": 10,
        }
        if self.total:
            body[self.total] = len(self.rows)
        self.asked += 1
        self.change(self.rows, self.asked)
        return body


def read(listing: Listing, answer: Callable[[int], Any], got: list[int] | None = None) -> list[int]:
    got = [] if got is None else got
    while not listing.done:
        got += [row["id"] for row in listing.read(answer(listing.next_request().params["page"]))]
    return got


def touches() -> Listing:
    return Listing(Request("GET", "/api/v3/touches"), "touches")


def at(moment: int, act: Callable[[list[int]], object]) -> Callable[[list[int], int], None]:
    return lambda rows, asked: act(rows) if asked == moment else None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("total", ["total_count", "total_posts", "total_touches", "total_users", "total"])
def test_a_total_is_read_under_each_of_its_names(total):
    server, listing = Server(25, total), touches()
    assert listing.total is None
    assert read(listing, server.answer) == list(range(25, 0, -1))
    assert (listing.total, server.asked) == (25, 3)


@pytest.mark.parametrize("total", ["total_pages", "totals", "total_cost", None])
def test_a_list_without_a_total_is_read_twice(total):
    server, listing = Server(25, total), touches()
    assert read(listing, server.answer) == list(range(25, 0, -1))
    assert (listing.total, server.asked) == (None, 6)


@pytest.mark.parametrize("total", ["total_count", None])
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_a_single_page_is_read_once(rows, total):
    server = Server(rows, total)
    assert len(read(touches(), server.answer)) == rows
    assert server.asked == 1


@pytest.mark.parametrize("total", ["total_count", None])
def test_a_list_that_shrinks_loses_nobody(total):
    server = Server(35, total, at(1, lambda rows: rows.remove(35)))
    got = read(touches(), server.answer)
    assert sorted(got) == list(range(1, 36))
    assert got[-1] == 25  # the row had moved from the second page to the first, and a second walk found it


@pytest.mark.parametrize(("total", "asked"), [("total_count", 4), (None, 8)])
def test_a_list_that_grows_shows_nobody_twice(total, asked):
    server = Server(35, total, at(1, lambda rows: rows.insert(0, 36)))
    got = read(touches(), server.answer)
    assert len(set(got)) == len(got)
    assert set(range(1, 36)) <= set(got)
    assert server.asked == asked


def test_a_row_that_is_listed_twice_comes_once():
    body = {"touches": [{"id": 1}, {"id": 2}, {"id": 1}]}
    assert read(touches(), lambda page: body) == [1, 2]


def test_rows_without_an_id_are_told_apart_by_what_they_hold():
    listing = touches()
    rows = [{"name": "a"}, {"name": "a"}, {"name": "b"}]
    assert listing.read({"touches": rows}) == rows
    assert listing.done


def test_a_short_page_is_not_the_last_where_the_total_says_so():
    """The server gives smaller pages than it was asked for."""

    def answer(page: int) -> dict[str, Any]:
        body = server.answer(page)
        del body["per_page"]
        return body

    server = Server(25)
    assert len(read(touches(), answer)) == 25
    assert server.asked == 3


def test_a_total_that_differs_from_two_equal_walks_is_logged(caplog):
    def answer(page: int) -> dict[str, Any]:
        return server.answer(page) | {"total_posts": 40}

    server = Server(25, None)
    assert len(read(touches(), answer)) == 25
    assert server.asked == 8
    assert caplog.messages == ["GET /api/v3/touches holds 25 rows where Sendoso counts 40; two walks agree."]


@pytest.mark.parametrize("total", ["total_count", None])
def test_a_list_that_changes_in_every_walk_is_an_error_after_all_rows_were_given(total):
    server = Server(95, total, lambda rows, asked: rows.pop(0) if asked % 3 == 0 else None)  # type: ignore[arg-type]
    got = list[int]()
    with pytest.raises(SendosoServerError, match=rf"not be read whole in {MOST_WALKS} walks, because it changes each"):
        read(touches(), server.answer, got)
    assert set(server.rows) <= set(got)
    assert len(set(got)) == len(got)


def test_a_list_that_only_grows_is_no_error():
    server = Server(95, None, lambda rows, asked: rows.insert(0, rows[0] + 1))
    got = read(touches(), server.answer)
    assert set(range(1, 96)) <= set(got)


@pytest.mark.parametrize("rows", [150, 100])
def test_a_bare_list_without_paging_is_read_once_more_and_ends(rows):
    asked = []

    def answer(page: int) -> list[dict[str, int]]:
        asked.append(page)
        return items(1, rows)

    assert len(read(touches(), answer)) == rows
    assert len(asked) == 2


def test_a_server_that_ignores_paging_ends_the_walk():
    assert len(read(touches(), lambda page: {"touches": items(1, 150)})) == 150


def test_a_repeated_full_page_without_a_total_is_an_error():
    """The server may ignore ``page``; then the list has more rows than it has shown."""
    got = list[int]()
    with pytest.raises(SendosoServerError, match="because it gives the same pages again: 100 rows were read"):
        read(touches(), lambda page: {"touches": items(1, 100)}, got)
    assert len(got) == 100


def test_a_repeated_full_page_ends_a_list_whose_total_is_reached():
    assert len(read(touches(), lambda page: {"touches": items(1, 100), "total_count": 100})) == 100


def test_a_list_whose_pages_repeat_in_a_cycle_is_an_error():
    asked = []

    def answer(page: int) -> dict[str, Any]:
        asked.append(page)
        return {"touches": items(100 * (page % 3), 100)}

    with pytest.raises(SendosoServerError, match="because it gives the same pages again: 300 rows were read"):
        read(touches(), answer)
    assert len(asked) == MOST_WALKS * 13


def test_a_list_without_an_end_is_an_error(monkeypatch):
    monkeypatch.setattr(module, "MOST_PAGES", 50)
    with pytest.raises(SendosoServerError, match=r"does not end: 5000 rows were read from 50 pages"):
        read(touches(), lambda page: {"touches": items(100 * page, 100), "total_count": 100 * page + 100})


@pytest.mark.parametrize("total", ["total_count", None])
def test_a_walk_without_an_error_has_every_row_that_was_there_throughout(total):
    """After one change between pages, a walk without an error has shown every row that was always there."""
    errors = 0
    for seed in range(1500):
        rng, removed = random.Random(seed), set[int]()

        def change(rows: list[int], asked: int, rng: random.Random = rng, removed: set[int] = removed) -> None:
            if rng.random() < 0.15:
                match rng.choice(("remove", "front", "back")):
                    case "remove" if rows:
                        removed.add(rows.pop(rng.randrange(len(rows))))
                    case "front":
                        rows.insert(0, 1000 * asked)
                    case "back":
                        rows.append(1000 * asked + 1)

        server = Server(rng.randrange(60), total, change)
        stayed = set(server.rows)
        try:
            got = read(touches(), server.answer)
        except SendosoServerError:
            errors += 1
            continue
        assert len(got) == len(set(got)), seed
        assert stayed - removed <= set(got), seed
    assert errors < 300


class TestWhole:
    """Only a list with as many rows as it says it has proves that a row is not in it."""

    @staticmethod
    def walk(*bodies: Any) -> Pages:
        pages = Pages(Request("GET", "/list"), "sends", until_empty=True)
        for body in bodies:
            assert not pages.done
            pages.read(body)
        return pages

    @staticmethod
    def body(*ids: int, total: int | None = None) -> dict[str, Any]:
        return {"sends": [{"id": number} for number in ids]} | ({} if total is None else {"total_count": total})

    def test_a_list_with_as_many_rows_as_its_total_is_whole(self) -> None:
        assert self.walk(self.body(3, 2, total=3), self.body(1, total=3), self.body()).whole

    def test_a_list_without_a_total_is_whole_at_its_empty_page(self) -> None:
        assert self.walk(self.body(3, 2), self.body(1), self.body()).whole

    def test_a_list_that_grew_during_the_walk_is_whole_with_its_first_total(self) -> None:
        assert self.walk(self.body(2, 1, total=2), self.body(1, total=3), self.body(total=3)).whole

    def test_a_list_with_fewer_rows_than_its_total_is_not_whole(self) -> None:
        assert not self.walk(self.body(9, 8, total=9), self.body(total=9)).whole

    def test_a_row_that_is_met_twice_counts_once(self) -> None:
        assert not self.walk(self.body(3, 2, total=3), self.body(2, total=3), self.body()).whole

    def test_a_list_that_repeats_a_page_or_has_not_ended_is_not_whole(self) -> None:
        assert not self.walk(self.body(2, 1), self.body(2, 1)).whole
        assert not self.walk(self.body(2, 1)).whole
