"""Fixtures that run batches against a Sendoso with faults, and check what was sent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tenacity import wait_none

sys.path.insert(0, str(Path(__file__).parent))
from trying import SCOPE, Try, one_try, sendoso_connection

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.schema import cursors, sends
from airflow_provider_sendoso.sandbox import Sandbox


@pytest.fixture
def shortened() -> float:
    """What pauses are divided by: less where a test waits for a lease to lapse, or it would ask without a pause."""
    return 1000.0


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch, shortened: float) -> None:
    """Pauses before a request are a thousandth as long, and no search for lost sends serves a later try."""
    monkeypatch.setattr("airflow_provider_sendoso.sending.reconciling._SERVES", 0.0)
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())
    make = SendosoSession.__init__

    def with_short_sleeps(self: SendosoSession, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs, sleep=lambda seconds: time.sleep(seconds / shortened))

    monkeypatch.setattr(SendosoSession, "__init__", with_short_sleeps)


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def ledger_connection(request: pytest.FixtureRequest, empty_ledger: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The connection of an empty ledger; what differs on MySQL is SQL, and ``tests/ledger`` tries that."""
    return empty_ledger(request.param)


@pytest.fixture
def send(sendoso: Sandbox, ledger: dict[str, Any], set_connection: Callable[..., None]) -> Callable[..., Try]:
    """Runs one try of a batch: to five people, unless told otherwise."""
    set_connection("sendoso_default", sendoso_connection(sendoso, requests_per_second=1000, timeout=60))
    return one_try


@pytest.fixture
def states(ledger: dict[str, Any]) -> Callable[[], dict[str, int]]:
    """Counts what the ledger holds."""
    return lambda: {
        state.value: count for state, count in SendosoHook().ledger.sends.states(dedupe_scope=SCOPE).items()
    }


@pytest.fixture
def an_hour_later(ledger: dict[str, Any]) -> Callable[[], None]:
    """Lets every lease lapse, and makes every POST and every search an hour older, as if time had passed."""
    earlier: dict[str, Any] = {name: sends.c[name] - 3600 for name in ("lease_until", "posted_at")}
    statements = (
        update(sends).values(**earlier, posted_mark=":0.0:0.0"),
        update(cursors).values(updated_at=cursors.c.updated_at - 3600),
    )

    def pass_by() -> None:
        SendosoHook().ledger._database.run(lambda connection: [connection.execute(each) for each in statements])

    return pass_by


@pytest.fixture(autouse=True)
def no_recipient_got_two_gifts(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[None]:
    """Checks after each test that no recipient was sent two gifts, unless the test expects it."""
    yield
    if request.node.get_closest_marker("sends_two") is None:
        assert sandbox.duplicates() == {}
