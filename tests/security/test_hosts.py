"""The secret, the token and the recipients are sent only to the connection's host, whatever address an answer has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tenacity import wait_none

from airflow_provider_sendoso.client.async_session import shared_session
from airflow_provider_sendoso.client.endpoints import me_request
from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox

RECIPIENT = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
GIFTS = [{"id": f"gift-{number}"} for number in range(100)]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Another host, to which nothing may connect."""
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())
    with Sandbox(step=0, rate=0) as sandbox:
        yield sandbox
        assert sandbox.requests == []


def pointing_to(address: str) -> list[dict[str, Any]]:
    """Bodies of a full page that name the next one, in the ways that APIs have."""
    return [
        {"gifts": GIFTS, "next": address},
        {"gifts": GIFTS, "links": {"next": address}},
        {"gifts": GIFTS, "_links": {"next": {"href": address}}},
        {"gifts": GIFTS, "meta": {"pagination": {"next_url": address}}},
        {"gifts": GIFTS, "paging": {"cursor": address, "next_page": address}},
    ]


def test_the_address_of_the_next_page_is_never_taken_from_an_answer(sendoso: Sandbox, elsewhere: Sandbox) -> None:
    for body in pointing_to(f"{elsewhere.url}/api/v3/gifts?page=2"):
        sendoso.fault("status", method="GET", path="/api/v3/gifts", status=200, body=body)
        gifts = [gift.id for gift in SendosoHook().list_gifts()]
        assert gifts[: len(GIFTS)] == [gift["id"] for gift in GIFTS]
    # The second page is the connection's own host's, which is another list: so that one is read, too.
    assert sum(request.method == "GET" for request in sendoso.requests) == 3 * len(pointing_to(""))


def send_gift() -> None:
    SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=RECIPIENT, message="Hi")


CALLS = [
    ("GET", "/api/v3/gifts", lambda: list(SendosoHook().list_gifts())),
    ("POST", "/api/v3/sends", send_gift),
    ("POST", "/oauth/token", send_gift),
]


@pytest.mark.parametrize(("method", "path", "call"), CALLS, ids=["a read", "a send", "a token"])
def test_a_redirect_is_not_followed(
    sendoso: Sandbox, elsewhere: Sandbox, method: str, path: str, call: Callable[[], Any]
) -> None:
    # A host of the same name and another port is another host.
    sendoso.fault("redirect", times=9, method=method, path=path, location=f"{elsewhere.url}{path}")
    with pytest.raises(SendosoError):
        call()
    assert sendoso.sends == []
    assert any(request.status == 302 for request in sendoso.requests)


async def test_a_redirect_is_not_followed_in_the_triggerer(sendoso: Sandbox, elsewhere: Sandbox) -> None:
    sendoso.fault("redirect", times=9, method="GET", location=f"{elsewhere.url}/api/v3/me")
    async with shared_session(SendosoHook().session) as session:
        with pytest.raises(SendosoError):
            await session.read(me_request())
