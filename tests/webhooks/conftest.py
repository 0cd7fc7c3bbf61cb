"""Fixtures: signed webhooks, a receiver on a real socket, and a ledger that counts what it is asked."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import uvicorn
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.schema import wakeups
from airflow_provider_sendoso.webhooks.app import make_app

SECRET = "whsec_" + base64.b64encode(b"the secret of these tests").decode()
OTHER = "whsec_" + base64.b64encode(b"another, for the rotation").decode()


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def ledger_connection(request: pytest.FixtureRequest, empty_ledger: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """An empty ledger; what differs between databases is tried on MySQL by tests/ledger."""
    return empty_ledger(request.param)


@dataclass
class Webhook:
    """A webhook as Svix sends it (published): signed by hand here, so that the library is held against the rule."""

    body: bytes = field(default_factory=lambda: told("send-1"))
    secret: str = SECRET
    id: str = "msg_1"
    at: float = field(default_factory=time.time)

    @property
    def headers(self) -> dict[str, str]:
        at = str(int(self.at))
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signature = hmac.new(key, f"{self.id}.{at}.".encode() + self.body, hashlib.sha256).digest()
        return {
            "svix-id": self.id,
            "svix-timestamp": at,
            "svix-signature": f"v1,{base64.b64encode(signature).decode()}",
            "content-type": "application/json",
        }


def told(send_gid: object) -> bytes:
    return json.dumps({"send_gid": send_gid, "status_changed_at": "2026-11-28T03:00:00Z"}).encode()


@pytest.fixture
def connect(set_connection: Callable[..., None]) -> Callable[..., None]:
    """Sets a Sendoso connection that receives webhooks."""

    def make(conn_id: str = "sendoso_default", **extra: Any) -> None:
        login = {"login": "client", "password": "client-secret"}
        extra = {"webhook_secret": SECRET, "account": "acme"} | extra
        set_connection(conn_id, {"conn_type": "sendoso", **login, "extra": extra})

    return make


@pytest.fixture
def receiving(connect: Callable[..., None], ledger: Any) -> None:
    """A connection with a secret, and a ledger."""
    connect()


class Served:
    """A receiver on a real socket."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/sendoso/webhooks"

    def post(self, webhook: Webhook, conn_id: str = "sendoso_default", **more: Any) -> requests.Response:
        headers = webhook.headers | more.pop("headers", {})
        return requests.post(f"{self.url}/{conn_id}", data=webhook.body, headers=headers, timeout=60, **more)


@contextlib.contextmanager
def serving(app: Any) -> Iterator[Served]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield Served(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join()


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(make_app()) as receiver:
        yield receiver


@pytest.fixture
def stored() -> Callable[[], list[tuple[str, str, str]]]:
    """Reads account, message id and send of every wake-up in the ledger, in the order of the ids."""

    def read() -> list[tuple[str, str, str]]:
        query = select(wakeups.c.account, wakeups.c.svix_id, wakeups.c.send_gid).order_by(wakeups.c.svix_id)
        database = SendosoHook().ledger._database
        return [tuple(row) for row in database.run(lambda connection: connection.execute(query).fetchall())]

    return read


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """Every statement that any database is told meanwhile, but for Airflow 2's own look for a connection."""
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM connection" not in statement:
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield statements
    event.remove(Engine, "before_cursor_execute", note)
