"""The receiver on a real socket: what it answers, what it stores, and what it does before a signature is right."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import update

sys.path.insert(0, str(Path(__file__).parent))
from conftest import OTHER, SECRET, Served, Webhook, serving, told

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.schema import wakeups
from airflow_provider_sendoso.webhooks import app as receiver
from airflow_provider_sendoso.webhooks.app import make_app
from airflow_provider_sendoso.webhooks.endpoints import Endpoint, Endpoints

Stored = Callable[[], list[tuple[str, str, str]]]


def test_a_signed_webhook_is_stored_as_a_wake_up(receiving: None, served: Served, stored: Stored) -> None:
    answer = served.post(Webhook(told("send-1")))
    assert (answer.status_code, answer.text) == (204, "")
    assert stored() == [("acme", "msg_1", "send-1")]


def test_a_send_that_the_ledger_does_not_know_is_answered_and_stored_alike(
    receiving: None, served: Served, stored: Stored
) -> None:
    """Other programs of the account send, too; a wait for events is woken by their sends."""
    assert served.post(Webhook(told("nobody-knows-it"))).status_code == 204
    assert stored() == [("acme", "msg_1", "nobody-knows-it")]


def test_a_replay_keeps_the_moment_at_which_it_was_heard_first(receiving: None, served: Served, stored: Stored) -> None:
    assert served.post(Webhook()).status_code == 204
    book = SendosoHook().ledger
    days_ago = update(wakeups).values(received_at=wakeups.c.received_at - 5 * 86_400)
    book._database.run(lambda connection: connection.execute(days_ago))
    assert served.post(Webhook()).status_code == 204  # from the portal: the same id, signed now
    assert len(stored()) == 1
    assert book.wakeups.recent(3600) == []
    assert len(book.wakeups.recent(6 * 86_400)) == 1


UNSIGNED = {
    "a wrong secret": Webhook(secret=OTHER),
    "too old": Webhook(at=time.time() - 900),
    "another body": Webhook(),
}


@pytest.mark.parametrize("conn_id", ["sendoso_default", "no_secret", "warehouse", "nobody", "broken"])
@pytest.mark.parametrize("case", [*UNSIGNED, "no header", "garbage"])
def test_without_the_secret_every_caller_gets_the_same_answer_and_the_ledger_is_not_asked(
    receiving: None,
    connect: Callable[..., None],
    set_connection: Callable[..., None],
    served: Served,
    asked: list[str],
    conn_id: str,
    case: str,
) -> None:
    connect("no_secret", webhook_secret=None)
    set_connection("warehouse", {"conn_type": "postgres", "host": "db"})
    set_connection("broken", '{"conn_type": "sendoso", "extra": "{"}')
    webhook = UNSIGNED.get(case, Webhook())
    headers: dict[str, Any] = {}
    if case == "no header":
        headers = {"svix-signature": None}
    elif case == "garbage":
        headers = {"svix-signature": "v1,!!!! v1 ,"}
    if case == "another body":
        webhook = Webhook(at=webhook.at)
        answer = requests.post(f"{served.url}/{conn_id}", data=webhook.body + b" ", headers=webhook.headers, timeout=60)
    else:
        answer = served.post(webhook, conn_id, headers=headers)
    assert (answer.status_code, answer.text) == (401, "Not signed.\n")
    told_headers = {name.lower() for name in answer.headers} - {"date", "server"}
    assert told_headers == {"content-length", "content-type", "cache-control"}
    assert asked == []


def test_what_opens_the_ledger_is_a_right_signature(receiving: None, served: Served, asked: list[str]) -> None:
    assert served.post(Webhook(secret=OTHER)).status_code == 401
    assert asked == []
    assert served.post(Webhook()).status_code == 204
    assert [statement for statement in asked if "sendoso_wakeups" in statement]


@pytest.mark.parametrize("length", [64 * 1024 + 1, 10**7])
def test_a_body_that_is_too_long_is_refused_before_it_is_read(
    receiving: None, served: Served, asked: list[str], length: int
) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as caller:
        head = f"POST /sendoso/webhooks/sendoso_default HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
        caller.sendall(head.encode())
        assert caller.recv(100).startswith(b"HTTP/1.1 413 ")
    assert asked == []


def test_a_body_that_grows_too_long_is_refused_and_its_rest_not_read(receiving: None, served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as caller:
        headers = "".join(f"{name}: {value}\r\n" for name, value in Webhook().headers.items())
        head = (
            f"POST /sendoso/webhooks/sendoso_default HTTP/1.1\r\nHost: x\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
        )
        caller.sendall(head.encode() + b"20000\r\n" + b" " * 0x20000 + b"\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_the_largest_size_is_checked(receiving: None, served: Served) -> None:
    body = told("send-1")
    assert served.post(Webhook(body + b" " * (64 * 1024 - len(body)))).status_code == 204


def test_a_body_that_does_not_come_is_not_waited_for(
    receiving: None, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "_LONGEST_READING", 0.1)
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as caller:
        headers = "".join(f"{name}: {value}\r\n" for name, value in Webhook().headers.items())
        head = f"POST /sendoso/webhooks/sendoso_default HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 100\r\n\r\n"
        caller.sendall(head.encode() + b"{")
        assert caller.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_signed_body_that_names_no_send_is_refused_and_said(
    receiving: None, served: Served, stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    answer = served.post(Webhook(b'{"type": "somebody@example.com"}'))
    assert answer.status_code == 400
    assert stored() == []
    assert "A webhook for 'sendoso_default' is signed, but names no send" in caplog.text
    assert "somebody" not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/sendoso_default", 405),
        ("PUT", "/sendoso_default", 405),
        ("POST", "", 404),
        ("POST", "/", 404),
        ("POST", "/sendoso_default/more", 404),
        ("POST", "/sendoso%00default", 404),
        ("POST", "/" + "x" * 251, 404),
        ("POST", "/..%2f..%2fetc", 404),
        ("POST", "/sendoso_default/", 204),
    ],
)
def test_other_methods_and_paths_are_refused(
    receiving: None, served: Served, method: str, path: str, status: int
) -> None:
    webhook = Webhook()
    answer = requests.request(method, served.url + path, data=webhook.body, headers=webhook.headers, timeout=60)
    assert answer.status_code == status


def test_a_secret_that_is_rotated_is_known_half_a_minute_later(
    connect: Callable[..., None], ledger: Any, stored: Stored
) -> None:
    now = [1000.0]
    connect()
    with serving(make_app(Endpoints(clock=lambda: now[0]))) as served:
        assert served.post(Webhook()).status_code == 204
        connect(webhook_secret=f"{OTHER} {SECRET}")
        assert served.post(Webhook(id="msg_2", secret=OTHER)).status_code == 401
        now[0] += 31
        assert served.post(Webhook(id="msg_2", secret=OTHER)).status_code == 204
        assert served.post(Webhook(id="msg_3", secret=SECRET)).status_code == 204
        connect(webhook_secret=OTHER)
        now[0] += 31
        assert served.post(Webhook(id="msg_4", secret=SECRET)).status_code == 401
    assert [svix_id for _, svix_id, _ in stored()] == ["msg_1", "msg_2", "msg_3"]


def test_a_refused_webhook_of_a_known_connection_is_counted_in_the_log_once_a_minute(
    receiving: None, served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        served.post(Webhook(secret=OTHER))
    served.post(Webhook(secret=OTHER), "a_strangers_text")
    monkeypatch.setattr(receiver, "_SAY_EVERY", 0.0)
    served.post(Webhook(secret=OTHER))
    said = [line.getMessage() for line in caplog.records if "were refused" in line.getMessage()]
    assert [line.split(": ")[0] for line in said] == [
        "1 webhooks for 'sendoso_default' were refused",
        "5 webhooks for 'sendoso_default' were refused",
    ]
    ours = [line.getMessage() for line in caplog.records if line.name.startswith("airflow_provider_sendoso")]
    assert "a_strangers_text" not in "".join(ours)


def test_without_a_ledger_sendoso_is_asked_to_send_again(
    connect: Callable[..., None], served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    connect()
    assert served.post(Webhook()).status_code == 503
    assert "could not be stored" in caplog.text
    assert "There is no ledger" in caplog.text


def test_a_ledger_that_is_away_is_waited_for_in_four_threads_at_the_most(caplog: pytest.LogCaptureFixture) -> None:
    at_once, most, back = [0], [0], threading.Event()

    def note(svix_id: str, send_gid: str) -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        back.wait(30)
        at_once[0] -= 1
        raise SendosoLedgerError("The ledger is away.")

    async def twenty() -> list[int]:
        from pydantic import SecretStr

        from airflow_provider_sendoso.webhooks.signatures import make_checks

        checks = make_checks([SecretStr(SECRET)])
        app = make_app(Endpoints(lambda conn_id: Endpoint(conn_id, checks, note)))
        answers = [asyncio.create_task(call(app, Webhook(id=f"msg_{number}"))) for number in range(20)]
        await asyncio.sleep(0.5)
        started = time.monotonic()
        assert await call(app, Webhook(secret=OTHER)) == 401  # the loop goes on meanwhile
        assert time.monotonic() - started < 5
        back.set()
        return await asyncio.gather(*answers)

    assert set(asyncio.run(twenty())) == {503}
    assert most[0] == 4


async def call(app: Any, webhook: Webhook, conn_id: str = "sendoso_default", root: str = "") -> int:
    """Call the application as a server does."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": webhook.body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in webhook.headers.items()]
    scope = {"type": "http", "method": "POST", "path": f"{root}/webhooks/{conn_id}", "headers": headers}
    await app(scope | {"root_path": root}, receive, send)
    return int(sent[0]["status"])


class Looked:
    """Counts look-ups; one connection receives webhooks."""

    def __init__(self, known: str = "real") -> None:
        from pydantic import SecretStr

        from airflow_provider_sendoso.webhooks.signatures import make_checks

        self.ids: list[str] = []
        self.noted: list[str] = []
        self.fails = False
        self._endpoint = Endpoint(
            known, make_checks([SecretStr(SECRET)]), lambda svix_id, _: self.noted.append(svix_id)
        )

    def __call__(self, conn_id: str) -> Endpoint | None:
        self.ids.append(conn_id)
        if self.fails:
            raise RuntimeError("the secrets backend is away")
        return self._endpoint if conn_id == self._endpoint.conn_id else None


async def test_made_up_ids_cost_few_look_ups_and_do_not_push_out_a_connection() -> None:
    look_up, now = Looked(), [0.0]
    app = make_app(Endpoints(look_up, clock=lambda: now[0]))
    assert await call(app, Webhook(), "real") == 204
    for number in range(2000):
        assert await call(app, Webhook(secret=OTHER), f"made_up_{number}") == 401
    assert len(look_up.ids) < 25
    now[0] += 31
    look_up.ids.clear()
    for number in range(100):
        await call(app, Webhook(secret=OTHER), f"others_{number}")
    assert await call(app, Webhook(id="msg_2"), "real") == 204
    assert "real" in look_up.ids


async def test_a_secrets_backend_that_fails_leaves_what_is_known() -> None:
    look_up, now = Looked(), [0.0]
    app = make_app(Endpoints(look_up, clock=lambda: now[0]))
    assert await call(app, Webhook(), "real") == 204
    look_up.fails = True
    now[0] += 31
    assert await call(app, Webhook(id="msg_2"), "real") == 204
    assert await call(app, Webhook(id="msg_3"), "never_seen") == 401


async def test_a_hundred_webhooks_at_once_are_one_look_up() -> None:
    look_up = Looked()
    app = make_app(Endpoints(look_up))
    answers = await asyncio.gather(*(call(app, Webhook(id=f"msg_{number}"), "real") for number in range(90)))
    assert set(answers) == {204}
    assert look_up.ids == ["real"]


async def test_it_answers_wherever_it_is_mounted() -> None:
    app = make_app(Endpoints(Looked()))
    assert await call(app, Webhook(), "real", root="/airflow/sendoso") == 204
    pytest.importorskip("starlette", reason="Airflow 3 brings it")
    from starlette.applications import Starlette
    from starlette.routing import Mount

    inner = Starlette(routes=[Mount("/webhooks", app=app)])
    outer = Starlette(routes=[Mount("/sendoso/webhooks", app=app), Mount("/other", app=inner)])
    with serving(outer) as served:
        assert served.post(Webhook(), "real").status_code == 204
        served.url = served.url.replace("/sendoso/", "/other/")
        assert served.post(Webhook(), "real").status_code == 204


async def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await make_app(Endpoints(Looked()))({"type": "websocket"}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_neither_the_secret_nor_the_body_is_in_any_repr(receiving: None) -> None:
    from airflow_provider_sendoso.webhooks.endpoints import look_up_connection

    endpoint = look_up_connection("sendoso_default")
    shown = json.dumps([repr(endpoint), repr(SendosoHook().config), str(SendosoHook().config)])
    assert endpoint is not None
    assert SECRET not in shown
    assert SECRET.removeprefix("whsec_") not in shown


async def test_five_hundred_forged_webhooks_take_less_than_a_second_of_a_processor_and_nothing_of_the_ledger(
    receiving: None, asked: list[str]
) -> None:
    app = make_app()
    assert await call(app, Webhook(secret=OTHER)) == 401  # the first one imports and looks up
    forged = [Webhook(secret=OTHER, id=f"msg_{number}") for number in range(500)]
    started = time.process_time()
    for webhook in forged:
        assert await call(app, webhook) == 401
    used = time.process_time() - started
    assert used < 1
    assert asked == []
