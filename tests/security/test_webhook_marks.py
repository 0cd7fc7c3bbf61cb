"""Neither the secret of webhooks nor what a caller posts is in a log, the ledger, an answer, an error or a ``repr``."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

sys.path.insert(0, str(Path(__file__).parent))
from conftest import MARK, SECRET, Marked

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.webhooks.app import make_app
from airflow_provider_sendoso.webhooks.endpoints import Endpoints, look_up_connection

WEBHOOK_SECRET = f"whsec_{MARK}webhooksecretabcde"
PERSON = f"{MARK}mailbox@{MARK}host.example"


@pytest.fixture
def receives(marked: Marked, set_connection: Callable[..., None]) -> Marked:
    """The marked connection, with a marked secret of webhooks."""
    extra = {"requests_per_second": 500, "timeout": 60, "webhook_secret": f"{WEBHOOK_SECRET} {WEBHOOK_SECRET}"}
    login = {"host": marked.sandbox.url, "login": "sandbox", "password": SECRET}
    set_connection("sendoso_default", {"conn_type": "sendoso", **login, "extra": extra})
    return marked


def signed(body: bytes, secret: str = WEBHOOK_SECRET, **headers: str) -> dict[str, str]:
    at = str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()
    named = {"svix-id": "msg_1", "svix-timestamp": at, "svix-signature": f"v1,{base64.b64encode(signature).decode()}"}
    return named | headers


def post(marked: Marked, app: Any, body: bytes, headers: dict[str, str], conn_id: str = "sendoso_default") -> int:
    """Post a webhook, and keep the answer."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": f"/sendoso/webhooks/{conn_id}", "headers": raw, "root_path": ""}
    asyncio.run(app(scope, receive, send))
    marked.keep(*sent)
    return int(sent[0]["status"])


def test_the_marks_are_used(receives: Marked) -> None:
    (first, _) = SendosoHook().config.webhook_secret
    assert MARK in first.get_secret_value()


@pytest.mark.parametrize(("told", "status"), [({"send_gid": "gid-1"}, 204), ({}, 400), ({"send_gid": [PERSON]}, 400)])
def test_a_signed_webhook_leaves_no_more_than_its_ids(receives: Marked, told: dict[str, Any], status: int) -> None:
    body = json.dumps(told | {"email": PERSON, "recipient": {"name": PERSON}}).encode()
    endpoints = Endpoints()
    app = make_app(endpoints)
    assert post(receives, app, body, signed(body, **{"x-name": PERSON})) == status
    assert SendosoHook().ledger.identity  # which makes its tables
    assert ("gid-1" in receives.databases()) is (status == 204)
    receives.keep(app, endpoints, vars(app), vars(endpoints), look_up_connection("sendoso_default"))


@pytest.mark.parametrize("conn_id", ["sendoso_default", f"{MARK}madeup"])
def test_an_unsigned_webhook_leaves_nothing(receives: Marked, conn_id: str) -> None:
    app = make_app()
    body = json.dumps({"send_gid": PERSON}).encode()
    other = "whsec_" + base64.b64encode(f"{MARK} another secret".encode()).decode()
    for headers in (signed(body, other), {"svix-id": PERSON}, signed(body, **{"svix-signature": f"v1,{MARK}"})):
        assert post(receives, app, body, headers, conn_id) == 401
    assert post(receives, app, body * 2000, signed(body), conn_id) == 413


def test_a_ledger_that_does_not_answer_leaves_nothing(
    receives: Marked, set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.ledger.database._OPEN_PATIENCE", 0.1)
    away = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "x", "password": f"{MARK}ledgerpassword"}
    set_connection("away", away)
    extra = {"webhook_secret": WEBHOOK_SECRET, "ledger_conn_id": "away"}
    set_connection("without", {"conn_type": "sendoso", "login": "sandbox", "password": SECRET, "extra": extra})
    body = json.dumps({"send_gid": "gid-1", "email": PERSON}).encode()
    assert post(receives, make_app(), body, signed(body), "without") == 503


@pytest.mark.parametrize("wrong", [f"{MARK}nosecret", f"whsec_{MARK}short", [WEBHOOK_SECRET, f"{MARK}nosecret"]])
def test_a_secret_that_cannot_be_read_is_not_quoted(
    receives: Marked, set_connection: Callable[..., None], wrong: Any
) -> None:
    login = {"conn_type": "sendoso", "login": "sandbox", "password": SECRET}
    set_connection("wrong", {**login, "extra": {"webhook_secret": wrong}})
    body = b'{"send_gid": "gid-1"}'
    assert post(receives, make_app(), body, signed(body), "wrong") == 401
    receives.run(SendStatusSensor(task_id="arrived", send_id="send-1", sendoso_conn_id="wrong", deferrable=True))


def test_a_wait_that_hears_of_webhooks_leaves_nothing(receives: Marked) -> None:
    accept = receives.sandbox._app.account.accept
    ids = [receives.sandbox._ask(partial(accept, person(number), "sandbox")).id for number in (1, 2)]
    deferred = receives.run(
        SendStatusSensor(task_id="arrived", send_id=ids, deferrable=True, target_statuses=["delivered"])
    )
    if isinstance(deferred, TaskDeferred):
        event = asyncio.run(anext(deferred.trigger.run()))  # type: ignore[arg-type]
        receives.keep(event, event.payload)
    assert all(one in str(receives.kept) for one in ids)


def person(number: int) -> dict[str, Any]:
    return {"gift_id": "gift-mug", "email": PERSON, "first_name": f"{MARK}first{number}", "last_name": f"{MARK}last"}
