"""What the largest answers cost: memory that is bounded whatever they hold, and time that is not the event loop's."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Callable, Generator
from typing import Any

import pytest

from airflow_provider_sendoso.client import answers
from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase, answer_or_raise, read_send
from airflow_provider_sendoso.client.async_session import shared_session
from airflow_provider_sendoso.client.endpoints import (
    LARGEST_OBJECT,
    LARGEST_PAGE,
    Request,
    list_sends_request,
    me_request,
)
from airflow_provider_sendoso.client.outcomes import Verdict, classify
from airflow_provider_sendoso.client.pages import Listing
from airflow_provider_sendoso.exceptions import SendosoServerError

ROW = {
    "status": "delivered",
    "gift_id": "gift-mug",
    "recipient": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "company": "Engines"},
    "address": {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"},
    "created_at": "2026-01-05T10:00:00Z",
    "tracking_url": "https://track.example/1234567",
    "cost": 12.5,
    "metadata": {"airflow_key": "a" * 32, "contact_id": "42"},
}

SHAPES: dict[str, Callable[[int], str]] = {
    "empty objects": lambda number: "{}",
    "empty lists": lambda number: "[]",
    "lists in lists": lambda number: "[" * 40 + "]" * 40,
    "objects in objects": lambda number: '{"":' * 40 + "1" + "}" * 40,
    "objects with one name each": lambda number: f'{{"{number}":{{}}}}',
    "names": lambda number: '{"":0' + "".join(f',"{number}{name}":1' for name in range(1000)) + "}",
    "numbers": lambda number: f"{number}.5",
}


POST = Request("POST", "/api/v3/sends", json={"send": {"gift_id": "gift-mug", "email": "ada@example.com"}})


def row(number: int) -> str:
    return json.dumps({"id": f"send-{number:08}", **ROW})


def page(shape: Callable[[int], str], items: int, size: int = 0) -> bytes:
    """A page that holds so many values, filled up to a size by a text whose characters take four bytes in memory."""
    body = f'{{"sends": [{",".join(map(shape, range(items)))}], "more": "😀'.encode()
    return body + b"x" * (size - len(body) - 2) + b'"}'


def most(shape: Callable[[int], str]) -> int:
    """How many values of a shape are parsed."""
    one = shape(0)
    objects, values = one.count("{") + one.count("["), one.count(",") + 1
    by_values = answers._MOST_VALUES // values
    return (min(answers._MOST_OBJECTS // objects, by_values) if objects else by_values) - 10


def fullest(shape: Callable[[int], str], size: int) -> bytes:
    """The page of as many values of a shape as are parsed and fit into a size."""
    items = min(most(shape), size // (len(shape(most(shape))) + 1))  # close to it, as a page takes long to make
    while len(page(shape, items)) > size:
        items = items * 99 // 100
    return page(shape, items, size)


def parsed(body: bytes) -> tuple[Any, int]:
    """Parse a body; return what it holds, and the most bytes that took."""
    answer = Answer(200, {}, body)
    tracemalloc.start()
    try:
        return answer.json, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [LARGEST_PAGE, LARGEST_OBJECT], ids=["a page", "one send"])
def test_rows_as_sendoso_has_them_are_parsed_to_ten_times_their_size_at_most(size: int) -> None:
    value, peak = parsed(fullest(row, size))
    assert len(value["sends"]) > size / 1000
    assert peak < 10 * size


@pytest.mark.parametrize("shape", SHAPES)
def test_a_page_of_as_many_values_as_are_parsed_takes_sixteen_times_its_size_at_most(shape: str) -> None:
    value, peak = parsed(fullest(SHAPES[shape], LARGEST_PAGE))
    assert value["sends"]
    assert peak < 16 * LARGEST_PAGE


@pytest.mark.parametrize("shape", SHAPES)
def test_one_send_of_nothing_but_values_takes_sixteen_mebibytes_at_most(shape: str) -> None:
    value, peak = parsed(fullest(SHAPES[shape], LARGEST_OBJECT))
    assert value["sends"]
    assert peak < 16 * 2**20


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_of_more_values_is_not_parsed(shape: str) -> None:
    body = page(SHAPES[shape], most(SHAPES[shape]) + 100)
    assert len(body) < LARGEST_PAGE
    value, peak = parsed(body)
    assert value is None
    assert peak < 2**16
    exchange = Exchange(Phase.ANSWERED, Answer(200, {}, body))
    with pytest.raises(SendosoServerError, match="answered 200 with a body of too many values"):
        answer_or_raise(list_sends_request(), exchange)
    assert classify(POST, exchange, renewed=False, own_gift=True, read=read_send).verdict is Verdict.UNKNOWN


def test_prose_with_a_comma_in_every_line_is_no_crowd() -> None:
    rows = [{"id": number, "message": ("x" * 79 + ",") * 500} for number in range(100)]
    body = json.dumps({"sends": rows}).encode()
    assert 0.9 * LARGEST_PAGE < len(body) < LARGEST_PAGE
    assert Answer(200, {}, body).json == {"sends": rows}


def test_rows_that_are_all_the_same_are_told_apart_in_one_pass() -> None:
    class Row(dict[str, Any]):
        looked_at = 0

        def get(self, *args: Any) -> Any:
            Row.looked_at += 1
            return super().get(*args)

    listing = Listing(list_sends_request(), "sends")
    assert len(listing.read([Row() for _ in range(50_000)])) == 50_000
    assert Row.looked_at == 50_000


class TestTheEventLoopGoesOn:
    """While a long page is read: what reads it waits for the loop, and would wait for ever on the loop's own thread."""

    @pytest.fixture
    def long(self, sandbox: Any) -> None:
        body = {"sends": [{"id": number, "message": "x" * 1000} for number in range(100)]}
        sandbox.fault("status", path="/api/v3/sends", method="GET", status=200, body=body)

    async def test_while_it_is_parsed(
        self, sandbox: Any, session_on: Any, long: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loop = asyncio.get_running_loop()
        parse, went_on = json.loads, []

        def slowly(body: bytes, **how: Any) -> Any:
            if len(body) > 100_000:  # not one of the sandbox, which is in this process
                went_on.append(ticked(loop))
            return parse(body, **how)

        session = session_on(sandbox.url)
        session.token()
        monkeypatch.setattr(answers.json, "loads", slowly)
        async with shared_session(session) as reader:
            answer = await reader.read(list_sends_request())
        assert len(answer.json["sends"]) == 100
        assert went_on == [True]

    @pytest.mark.parametrize("ends", [False, True], ids=["goes on", "ends"])
    async def test_while_its_rows_are_read(self, sandbox: Any, session_on: Any, long: None, ends: bool) -> None:
        loop = asyncio.get_running_loop()

        def walk() -> Generator[Request, Answer, list[bool]]:
            yield list_sends_request()
            went_on = [ticked(loop)]
            if not ends:
                yield me_request()
            return went_on

        async with shared_session(session_on(sandbox.url)) as reader:
            assert await reader.walk(walk()) == [True]

    async def test_and_a_walk_that_is_cut_off_has_read_them_all(
        self, sandbox: Any, session_on: Any, long: None
    ) -> None:
        cut, read = threading.Event(), []

        def walk() -> Generator[Request, Answer, None]:
            yield list_sends_request()
            reading.set()
            read.append(cut.wait(60))

        async with shared_session(session_on(sandbox.url)) as reader:
            reading = threading.Event()
            walking = asyncio.create_task(reader.walk(walk()))
            await asyncio.to_thread(reading.wait, 60)
            walking.cancel()
            asyncio.get_running_loop().call_later(0.05, cut.set)
            with pytest.raises(asyncio.CancelledError):
                await walking
        assert read == [True]


def ticked(loop: asyncio.AbstractEventLoop) -> bool:
    """Say whether a loop runs what it is asked to; in its own thread it could not."""
    tick = threading.Event()
    loop.call_soon_threadsafe(tick.set)
    return tick.wait(10)
