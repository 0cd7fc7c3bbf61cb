"""A sandbox without a limit and a client that is signed in to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from airflow_provider_sendoso.sandbox import Sandbox

ADDRESS = {"line1": "12 St James's Square", "city": "London", "postal_code": "SW1Y 4JH", "country": "GB"}

# The three shapes of a campaign send (published); 101 is a touch that is mailed, 102 an eGift.
CAMPAIGNS: dict[str, dict[str, Any]] = {
    "egift": {"touch_id": 102, "email": "ada@example.com", "via": "single_email_address"},
    "mail": {
        **{"touch_id": 101, "email": "ada@example.com", "via": "single_person_or_company", "name": "Ada Lovelace"},
        **{"address": "1 Dock Road", "city": "Reno", "state": "NV", "zip": "89501", "country": "US"},
        "confirm_address": False,
    },
    "asked": {
        **{"touch_id": 101, "email": "ada@example.com", "via": "single_person_or_company", "name": "Ada Lovelace"},
        **{"no_address": True, "confirm_address": True, "address_confirmation_via": "email", "expire_after_days": 5},
    },
}


class Client:
    """Talk to a sandbox over its socket, with a token of its own."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.url = sandbox.url
        self.token = self.sign_in().json()["access_token"]

    def sign_in(self, **changes: Any) -> requests.Response:
        body = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
        return self.call("POST", "/oauth/token", json=body | changes, token=None)

    def call(self, method: str, path: str, *, token: str | None = "", **options: Any) -> requests.Response:
        token = self.token if token == "" else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        options = {"timeout": 60, "allow_redirects": False} | options
        return requests.request(method, self.url + path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.call("GET", path, **options)

    def send(self, *, timeout: float | tuple[float, float] = 60, **changes: Any) -> requests.Response:
        """Send a mug to Ada, with changes; a field that is changed to ``None`` is left out."""
        send = {
            "gift_id": "gift-mug",
            "first_name": "Ada",
            "last_name": "Lovelace",
            "email": "ada@example.com",
            "message": "Thank you",
            "address": ADDRESS,
        } | changes
        body = {"send": {name: value for name, value in send.items() if value is not None}}
        return self.call("POST", "/api/v3/sends", json=body, timeout=timeout)

    def campaign(self, shape: str, **changes: Any) -> requests.Response:
        """Send a campaign to Ada, in one of the three shapes, with changes as for :meth:`send`."""
        send = {"via_from": "Airflow"} | CAMPAIGNS[shape] | changes
        body = {"send": {name: value for name, value in send.items() if value is not None}}
        return self.call("POST", "/api/v3/send", json=body)

    def egift_links(self, *emails: str, wrapped: bool = True, **changes: Any) -> requests.Response:
        users = [{"email": email} for email in emails]
        asked = {"touch_id": 102, "via": "generate_egift_links", "via_from": "Airflow", "recipient_users": users}
        asked = {name: value for name, value in (asked | changes).items() if value is not None}
        body = {"send": asked} if wrapped else asked
        return self.call("POST", "/api/v3/send/generate_egift_links", json=body)

    def tracked(self, **query: Any) -> list[dict[str, Any]]:
        """Read one page of the Send Tracker."""
        answer = self.get("/api/v3/send", params=query)
        assert answer.status_code == 200
        return answer.json()["sends"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(step=1000, rate=0) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    return Client(sandbox)


@pytest.fixture
def client_of() -> Callable[[Sandbox], Client]:
    return Client


@pytest.fixture
def address() -> dict[str, str]:
    return dict(ADDRESS)
