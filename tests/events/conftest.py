"""Fixtures: a Sendoso in which nothing happens by itself, and the events that a test makes happen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tenacity import wait_none

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read is made once, so that a poll that fails fails soon; and triggers do not pause for long."""
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.ATTEMPTS", 1)
    monkeypatch.setattr("airflow_provider_sendoso.triggers.events._SHORTEST_PAUSE", 0.02)


@pytest.fixture
def ledger_connection(tmp_path: Path) -> dict[str, Any]:
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


@pytest.fixture
def world(set_connection: Callable[..., None], ledger: Any) -> Iterator[Sandbox]:
    """A Sendoso whose sends keep their status until a test changes it, and a ledger."""
    with Sandbox(step=1000, rate=0) as sandbox:
        connection = {"conn_type": "sendoso", "host": sandbox.url, "login": "sandbox", "password": "sandbox"}
        set_connection("sendoso_default", connection | {"extra": {"requests_per_second": 500, "timeout": 60}})
        yield sandbox


@pytest.fixture
def send(world: Sandbox) -> Callable[..., list[str]]:
    """Sends gifts; returns their ids."""

    def make(count: int = 1) -> list[str]:
        recipient = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
        hook = SendosoHook()
        return [
            hook.send_gift(gift_id="gift-donation-trees", recipient=recipient, message="Hi").id for _ in range(count)
        ]

    return make


@pytest.fixture
def send_of_a_campaign(world: Sandbox) -> Callable[[], str]:
    """Makes a campaign send; returns its id in the Send Tracker."""

    def make() -> str:
        body = {"touch_id": 102, "email": "ada@example.com", "via": "single_email_address", "via_from": "Tests"}
        token = SendosoHook().session.token()
        headers = {"Authorization": f"Bearer {token}"}
        requests.post(f"{world.url}/api/v3/send", json={"send": body}, headers=headers, timeout=60).raise_for_status()
        return str(world.campaign_sends()[-1].id)

    return make


@pytest.fixture
def launch(world: Sandbox) -> Callable[[int], None]:
    """Makes a campaign appear."""

    def add(touch_id: int) -> None:
        world.add("touches", {"id": touch_id, "name": "Spring", "created_at": "2026-03-01T09:00:00.000-08:00"})

    return add


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[None]]:
    """Waits until a condition is true."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(300):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def polled(world: Sandbox, until: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Waits until the list of touches was polled a number of further times."""

    def polls() -> int:
        return sum(request.path == "/api/v3/touches" for request in world.requests)

    async def wait(times: int = 2) -> None:
        before = polls()
        await until(lambda: polls() >= before + times)

    return wait
