"""What the tests of connections send, and how their servers read and answer it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.session import SendosoSession

POST = Request("POST", "/api/v3/sends", json={"send": {"email": "ada@example.com"}})
GET = Request("GET", "/api/v3/gifts")
OK = b"HTTP/1.1 201 Created\r\nContent-Length: 11\r\n\r\n" + b'{"id": "s"}'


def read_request(connection: socket.socket) -> bytes:
    """Read until the body is there, which a GET has not; ``b""`` when the client has gone."""
    received = b""
    while not received.endswith(b"\r\n\r\n" if received.startswith(b"GET") else b"}"):
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        received += chunk
    return received


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def end_the_time_of(session: SendosoSession) -> None:
    """For the requests that it is making: as if they had taken as long as they may."""
    watchdog = session._transport._watchdog
    with watchdog._changed:
        watchdog._due = dict.fromkeys(watchdog._due, 0.0)
        watchdog._changed.notify()
