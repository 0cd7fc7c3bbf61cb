"""Fixtures that run batches against a Sendoso with faults, and check what was sent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from buckets import folder_ledger
from sqlalchemy import create_engine, update
from tenacity import wait_none

sys.path.insert(0, str(Path(__file__).parent))
from trying import SCOPE, Try, one_try, sendoso_connection

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.schema import cursors, metadata, sends
from airflow_provider_sendoso.sandbox import Sandbox


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses before a request are a thousandth as long, and no search for lost sends serves a later try."""
    monkeypatch.setattr("airflow_provider_sendoso.sending.reconciling._SERVES", 0.0)
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())
    make = SendosoSession.__init__

    def with_short_sleeps(self: SendosoSession, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs, sleep=lambda seconds: time.sleep(seconds / 1000))

    monkeypatch.setattr(SendosoSession, "__init__", with_short_sleeps)


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def ledger_connection(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A ledger database without tables; on PostgreSQL the server's own, because making another takes long."""
    if request.param == "bucket":
        return folder_ledger(tmp_path)
    if request.param == "sqlite":
        return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}
    socket_dir = request.getfixturevalue("postgres_socket_dir")
    engine = create_engine(f"postgresql://postgres@/postgres?host={socket_dir}")
    metadata.drop_all(engine)
    engine.dispose()
    return {"conn_type": "postgres", "host": socket_dir, "login": "postgres", "schema": "postgres"}


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
