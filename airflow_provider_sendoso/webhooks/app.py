"""The receiver as an ASGI application, mounted in Airflow's API server or served on its own.

It answers before it has done anything that costs: the checks come in the order of their price, the ledger comes last,
and only after a right signature. A caller without the secret gets the same answer, whatever is wrong or missing.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.webhooks.endpoints import Endpoint, Endpoints
from airflow_provider_sendoso.webhooks.signatures import LONGEST_BODY, is_signed, read_gid, read_headers

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_PATH = re.compile(r"/webhooks/([\w#!().:-]{1,250})/?$", re.ASCII)
"""The end of the path, wherever the application is mounted: the id of a connection, of the characters that Airflow
allows in one."""

_LONGEST_READING = 10.0
"""Seconds in which a body has to come in; Sendoso itself gives up after 15 (published)."""

_WRITERS = 4
"""Threads that may write to the ledger at once; others wait, so that webhooks leave the API server's threads alone."""

_SAY_EVERY = 60.0

_WORDS = {
    204: "",
    400: "The signature is right, but the body names no send.\n",
    401: "Not signed.\n",
    404: "There is nothing here.\n",
    405: "Webhooks are posted.\n",
    408: "The body did not come in time.\n",
    413: "The body is too long.\n",
    503: "Not stored; send it again.\n",
}


class Receiver:
    """
    The ASGI application.

    :param endpoints: the connections that receive webhooks.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._writers = asyncio.Semaphore(_WRITERS)
        self._unsigned: Counter[str] = Counter()
        self._said_at: dict[str, float] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _answer(send, await self._status(scope, receive))
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _status(self, scope: Message, receive: Receive) -> int:
        """Return the status of the answer, after having done what the webhook asks."""
        if scope["method"] != "POST":
            return 405
        # Starlette leaves the whole path in ``path``, older ones and other servers only what is below the mount.
        root, path = scope.get("root_path", ""), scope["path"]
        addressed = _PATH.search(path if path.startswith(root) else root + path)
        if addressed is None:
            return 404
        if _announced_length(scope["headers"]) > LONGEST_BODY:
            return 413
        headers = read_headers(scope["headers"])
        if headers is None:
            return 401
        try:
            async with asyncio.timeout(_LONGEST_READING):
                body = await _read(receive)
        except TimeoutError:
            return 408
        if body is None:
            return 413
        try:
            endpoint = await self._endpoints.find(addressed[1])
        except SendosoError as error:
            self._say("no library", "A webhook could not be checked: %s", error)
            return 503
        if not is_signed(body, headers, endpoint.checks):
            self._count_unsigned(endpoint)
            return 401
        return await self._note(endpoint, headers["svix-id"], read_gid(body))

    async def _note(self, endpoint: Endpoint, svix_id: str, send_gid: str | None) -> int:
        if send_gid is None:
            self._say(
                f"no send {endpoint.conn_id}",
                "A webhook for %r is signed, but names no send: its body has no send_gid. Nothing was woken.",
                endpoint.conn_id,
            )
            return 400
        try:
            async with self._writers:
                await asyncio.to_thread(endpoint.note, svix_id, send_gid)
        except SendosoError as error:
            self._say(
                f"ledger {endpoint.conn_id}",
                "A webhook for %r could not be stored, and Sendoso was asked to send it again: %s",
                endpoint.conn_id,
                error,
            )
            return 503
        return 204

    def _count_unsigned(self, endpoint: Endpoint) -> None:
        """Log, once a minute, how many webhooks a connection's secrets have not signed: perhaps they are outdated."""
        if not endpoint.conn_id:
            return
        self._unsigned[endpoint.conn_id] += 1
        said = self._say(
            f"unsigned {endpoint.conn_id}",
            "%d webhooks for %r were refused: none of the secrets in webhook_secret has signed them within five "
            "minutes of now. If Sendoso sends them, copy the secret from its portal, and check this machine's clock.",
            self._unsigned[endpoint.conn_id],
            endpoint.conn_id,
        )
        if said:
            del self._unsigned[endpoint.conn_id]

    def _say(self, about: str, words: str, *values: object) -> bool:
        """Log a warning, if the last one about the same thing was a minute ago."""
        now = time.monotonic()
        if now - self._said_at.get(about, -_SAY_EVERY) < _SAY_EVERY:
            return False
        self._said_at[about] = now
        log.warning(words, *values)
        return True


def make_app(endpoints: Endpoints | None = None) -> App:
    """
    Make the receiver.

    It takes ``POST …/webhooks/<conn_id>`` and may be mounted anywhere. The answers: 204, the wake-up is stored, or was
    already; 401, the signature is missing or wrong, or no such connection receives webhooks; 413, the body is over
    64 kB; 400, it is signed and names no send; 408, it came too slowly; 503, the ledger did not answer.

    :param endpoints: the connections; ``None``: Airflow's.
    """
    return Receiver(endpoints or Endpoints())


def _announced_length(headers: list[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else LONGEST_BODY + 1
    return 0


async def _read(receive: Receive) -> bytes | None:
    """Read the body; ``None`` as soon as it is too long, or if the caller has gone."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LONGEST_BODY:
            return None
    return bytes(body)


async def _answer(send: Send, status: int) -> None:
    text = _WORDS[status].encode()
    headers = [(b"content-length", str(len(text)).encode()), (b"cache-control", b"no-store")]
    if text:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    if status == 405:
        headers.append((b"allow", b"POST"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def _live(receive: Receive, send: Send) -> None:
    """Say to a server that starts and stops that there is nothing to start and to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
