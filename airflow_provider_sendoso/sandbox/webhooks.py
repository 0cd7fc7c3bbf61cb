"""What the sandbox's webhooks say, and how they are signed. Plain Python: no sockets; the clock is passed in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from airflow_provider_sendoso.sandbox.statuses import iso

SECRET = "whsec_" + base64.b64encode(b"sandbox-sandbox-sandbox-").decode()
"""The secret with which the sandbox signs, if none is given; it guards nothing."""

RETRIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each try. Svix waits 0, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h (published)."""

Updates = Sequence[tuple[str, float]]
"""The statuses of a send, each with the epoch seconds at which it came."""


@dataclass(frozen=True)
class Message:
    """
    One webhook, however often it is delivered.

    :param send_gid: the id of the send that has changed
    :param changed_at: epoch seconds
    :param id: the ``svix-id``
    """

    send_gid: str
    changed_at: float
    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")

    @property
    def body(self) -> bytes:
        """The body: two fields, and not to which status the send has changed (published)."""
        return json.dumps({"send_gid": self.send_gid, "status_changed_at": iso(self.changed_at)}).encode()

    def headers(self, secret: str, now: float) -> dict[str, str]:
        """
        Return the headers of a delivery, signed as Svix does (published).

        :param secret: ``whsec_`` and the key as base64
        :param now: epoch seconds
        """
        at = str(int(now))
        signed = f"{self.id}.{at}.".encode() + self.body
        signature = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
        return {
            "svix-id": self.id,
            "svix-timestamp": at,
            "svix-signature": f"v1,{base64.b64encode(signature).decode()}",
            "content-type": "application/json",
        }


@dataclass(frozen=True)
class Attempt:
    """
    One delivery.

    :param message: what was delivered
    :param at: epoch seconds
    :param status: the status of the answer; ``None`` if there was none
    :param fault: the fault that applied to it, if any
    """

    message: Message
    at: float
    status: int | None
    fault: str | None = None


class Changes:
    """Finds out which sends have changed since the last look."""

    def __init__(self) -> None:
        self._seen: dict[str, set[tuple[str, float]]] = {}

    def note(self, sends: Iterable[tuple[str, Updates]]) -> None:
        """
        Take the present statuses as they are.

        :param sends: the id and the statuses of each send
        """
        self._seen = {gid: set(updates) for gid, updates in sends}

    def look(self, sends: Iterable[tuple[str, Updates]]) -> Iterator[Message]:
        """
        Return a message for every status that is new.

        :param sends: as for :meth:`note`
        """
        for gid, updates in sends:
            seen = self._seen.setdefault(gid, set())
            for update in updates:
                if update not in seen:
                    seen.add(update)
                    yield Message(gid, update[1])


def key_of(secret: str) -> bytes:
    """
    Return the key of a secret.

    :param secret: ``whsec_`` and the key as base64
    :raises ValueError: if it is anything else
    """
    if not secret.startswith("whsec_"):
        raise ValueError("a webhook secret begins with whsec_")
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    if not key:
        raise ValueError("the webhook secret has no key")
    return key


def check_url(url: str) -> str:
    """
    Return an address to which webhooks can be posted.

    :param url: the address
    :raises ValueError: if it is none
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address of a webhook begins with http:// or https://")
    return url
