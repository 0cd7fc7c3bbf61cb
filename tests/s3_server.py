"""An S3 for tests: moto's server, and a front before it that answers as S3 does on a bad day."""

from __future__ import annotations

import http.client
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import boto3
from moto.server import ThreadedMotoServer

LOCALHOST = "127.0.0.1"
BUCKET, PREFIX = "gifts", "team/ledger"
_XML = "http://s3.amazonaws.com/doc/2006-03-01/"

CONFLICT = (409, "ConditionalRequestConflict")
SLOW_DOWN = (503, "SlowDown")
INTERNAL = (500, "InternalError")
FORBIDDEN = (403, "AccessDenied")
EXPIRED = (400, "ExpiredToken")
"""As Amazon documents it; others answer with 403."""


@dataclass
class Fault:
    """
    What happens to the next requests of a kind.

    :param method: of the requests.
    :param path: a part of their path and query.
    :param times: how many of them.
    :param skip: how many are let through before.
    :param answer: status and code of what is answered in place of S3.
    :param after: whether S3 has done what it was asked for before the answer, or the connection's end, comes.
    :param drop: whether the connection is closed without an answer.
    :param delay: seconds before the request goes on.
    """

    method: str
    path: str = ""
    times: int = 1
    skip: int = 0
    answer: tuple[int, str] | None = None
    after: bool = False
    drop: bool = False
    delay: float = 0.0


@dataclass
class Front:
    """
    Stands before an S3.

    :param port: of the S3.
    """

    port: int
    faults: list[Fault] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """Method, path and status of each request."""
    stale: bool = False
    """Whether lists show what was there when this was set, and nothing newer."""
    key_lasts: float = float("inf")
    """Seconds for which an access key is accepted after its first use: those of a role are temporary."""
    expired: tuple[int, str] = EXPIRED
    role_is_lost: Callable[[], bool] = lambda: False
    """Whether the role cannot be assumed any more."""
    keys: dict[str, float] = field(default_factory=dict)
    """When each access key was used first, in monotonic seconds."""
    _known: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str, path: str = "", times: int = 1, **what: Any) -> None:
        """Let something happen to the next requests; see :class:`Fault`."""
        with self._lock:
            self.faults.append(Fault(method, path, times, **what))

    def statuses(self, method: str, path: str = "") -> list[int]:
        """What requests of a kind were answered, in order."""
        found = [entry.split() for entry in self.log]
        return [int(status) for verb, asked, status in found if verb == method and path in asked]

    def take(self, method: str, path: str) -> Fault | None:
        """Find what happens to a request."""
        with self._lock:
            for fault in self.faults:
                if fault.method == method and fault.path in path:
                    fault.skip -= 1
                    if fault.skip >= 0:
                        continue
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def has_expired(self, authorization: str) -> bool:
        """Whether the access key of a request is not accepted any more."""
        key = authorization.partition("Credential=")[2].partition("/")[0]
        with self._lock:
            first = self.keys.setdefault(key, time.monotonic())
        return time.monotonic() - first > self.key_lasts

    def listed(self, body: bytes) -> bytes:
        """Take out of a list what a stale one does not show."""
        ET.register_namespace("", _XML)
        root = ET.fromstring(body)
        for found in root.findall(f"{{{_XML}}}Contents"):
            key = found.findtext(f"{{{_XML}}}Key") or ""
            if not self.stale:
                self._known.add(key)
            elif key not in self._known:
                root.remove(found)
        return ET.tostring(root)


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            return

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command == "POST":  # of whoever gives keys, as S3 is asked for nothing in that way
                self._give_key(body)
                return
            if front.has_expired(self.headers.get("Authorization") or ""):
                self._fail(Fault(self.command, answer=front.expired))
                return
            fault = front.take(self.command, self.path)
            if fault and fault.delay:
                time.sleep(fault.delay)
            if fault and not fault.after and (fault.answer or fault.drop):
                self._fail(fault)
                return
            status, headers, answer = self._forward(body)
            if fault and (fault.answer or fault.drop):
                self._fail(fault)
                return
            if "list-type" in parse_qs(urlsplit(self.path).query) and status == 200:
                answer = front.listed(answer)
            self._answer(status, headers, answer)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

        def _give_key(self, body: bytes) -> None:
            if front.role_is_lost():
                self._fail(Fault("POST", answer=FORBIDDEN))
                return
            status, headers, answer = self._forward(body)
            ends = f"<Expiration>{datetime.now(UTC) + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            self._answer(status, headers, re.sub(rb"<Expiration>.*</Expiration>", ends.encode(), answer))

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            behind = http.client.HTTPConnection(LOCALHOST, front.port, timeout=60)
            behind.request(self.command, self.path, body, dict(self.headers.items()))
            answer = behind.getresponse()
            content = answer.read()
            behind.close()
            return answer.status, answer.getheaders(), content

        def _fail(self, fault: Fault) -> None:
            if fault.drop:
                front.log.append(f"{self.command} {self.path} 0")
                self.close_connection = True
                self.connection.close()
                return
            assert fault.answer
            status, code = fault.answer
            error = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
            if self.command == "POST":
                error = f"<ErrorResponse>{error}</ErrorResponse>"
            content = f"<?xml version='1.0'?>{error}".encode()
            self._answer(status, [("Content-Type", "application/xml")], content)

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            front.log.append(f"{self.command} {self.path} {status}")
            self.send_response_only(status)
            length = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


@contextmanager
def running() -> Iterator[int]:
    """Run an S3 in this process, with an empty bucket; yield its port."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=LOCALHOST, port=0, verbose=False)
    server.start()
    port: int = server.get_host_and_port()[1]
    yield port
    server.stop()


@contextmanager
def front_of(port: int) -> Iterator[tuple[str, Front]]:
    """Stand before an S3; yield the address and what happens."""
    front = Front(port)
    server = ThreadingHTTPServer((LOCALHOST, 0), _handler(front))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://{LOCALHOST}:{server.server_address[1]}", front
    server.shutdown()
    server.server_close()


def client(port: int) -> Any:
    """Boto's client of the S3 itself."""
    keys = {"aws_access_key_id": "access", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=f"http://{LOCALHOST}:{port}", **keys)


def empty(port: int) -> None:
    """Make the bucket, or empty it."""
    s3 = client(port)
    s3.create_bucket(Bucket=BUCKET)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for found in page.get("Contents", ()):
            s3.delete_object(Bucket=BUCKET, Key=found["Key"])


def connection(address: str, bucket: str = BUCKET) -> dict[str, Any]:
    """The ledger's connection, as users write it."""
    extra = {"ledger": f"s3://{bucket}/{PREFIX}", "endpoint_url": address, "region_name": "us-east-1"}
    return {"conn_type": "aws", "login": "access", "password": "secret", "extra": extra}
