"""Delivers the sandbox's webhooks: posts each change of a send to the address that has subscribed, and repeats it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import aiohttp

from airflow_provider_sendoso.sandbox.faults import Fault, Faults
from airflow_provider_sendoso.sandbox.webhooks import (
    RETRIES,
    SECRET,
    Attempt,
    Changes,
    Message,
    Updates,
    check_url,
    key_of,
)

_LOOK_EVERY = 0.1
_TIMEOUT = 15.0
"""Seconds in which an answer has to come (published)."""
_OTHER_SECRET = "whsec_bm90LXRoZS1zZWNyZXQtb2YtdGhlLXNhbmRib3g="  # noqa: S105  (what a wrong signature is made with)
_SHOWN = 20


class Webhooks:
    """
    The webhooks of one account. Only the event loop's thread may use them.

    :param sends: returns the id and the statuses of every send
    :param faults: the faults of deliveries
    :param url: the address that has subscribed; ``None`` if none has
    :param secret: the secret with which deliveries are signed
    :param retries: seconds before each try to deliver a message
    :raises ValueError: if address or secret are wrong
    """

    def __init__(
        self,
        sends: Callable[[], Iterable[tuple[str, Updates]]],
        faults: Faults,
        url: str | None = None,
        secret: str = SECRET,
        retries: Sequence[float] = RETRIES,
    ) -> None:
        self._sends = sends
        self._faults = faults
        self._retries = retries
        self._changes = Changes()
        self._held: list[Message] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.attempts: list[Attempt] = []
        self.url: str | None = None
        self.subscribe(url, secret)

    def subscribe(self, url: str | None, secret: str | None = None) -> None:
        """
        Post every change from now on to an address.

        :param url: the address; ``None`` ends the subscription
        :param secret: the secret with which deliveries are signed; ``None``: the present one
        :raises ValueError: if address or secret are wrong
        """
        if secret is not None:
            key_of(secret)
            self.secret = secret
        if url is not None and self.url is None:
            self._changes.note(self._sends())
        self.url = None if url is None else check_url(url)

    def replay(self) -> None:
        """Deliver every message once more, under its id and signed now, as a person does in the portal."""
        messages = {attempt.message.id: attempt.message for attempt in self.attempts}
        for message in messages.values():
            self._start(self._deliver(message, "webhook_replay"))

    async def run(self) -> None:
        """Look for changes and deliver them, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as self._http:
            try:
                while True:
                    if self.url is not None:
                        for message in self._changes.look(self._sends()):
                            self._start(self._send(message, self._faults.meet("POST", "/")))
                    await asyncio.sleep(_LOOK_EVERY)
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def as_json(self) -> dict[str, Any]:
        """Return the subscription and the last deliveries as JSON."""
        last = self.attempts[-_SHOWN:][::-1]
        return {
            "url": self.url,
            "secret": self.secret,
            "deliveries": len(self.attempts),
            "last": [asdict(one.message) | {"at": one.at, "status": one.status, "fault": one.fault} for one in last],
        }

    def clear(self) -> None:
        """Forget all deliveries, and what is held back; the subscription stays."""
        self.attempts.clear()
        self._held.clear()
        self._changes.note(self._sends())

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, message: Message, fault: Fault | None) -> None:
        """Deliver a message as a fault prescribes, and after it those that were held back."""
        name = None if fault is None else fault.name
        match name:
            case "webhook_lost":
                return
            case "webhook_out_of_order":
                self._held.append(message)
                return
            case "webhook_late" if fault is not None:
                await asyncio.sleep(fault.options["delay"])
        await self._deliver(message, name)
        if name == "webhook_twice":
            await self._deliver(message, name)
        if name == "webhook_replay" and fault is not None:
            await asyncio.sleep(fault.options["delay"])
            await self._deliver(message, name)
        held, self._held = self._held, []
        for other in held:
            await self._deliver(other, "webhook_out_of_order")

    async def _deliver(self, message: Message, fault: str | None) -> None:
        """Try until the answer is a 2xx."""
        for number, pause in enumerate(self._retries):
            await asyncio.sleep(pause)
            wrong = fault == "webhook_wrong_signature" and number == 0
            status = await self._post(message, _OTHER_SECRET if wrong else self.secret)
            self.attempts.append(Attempt(message, time.time(), status, fault))
            if status is not None and 200 <= status < 300:
                return

    async def _post(self, message: Message, secret: str) -> int | None:
        if self.url is None:
            return None
        headers = message.headers(secret, time.time())
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            request = self._http.post(self.url, data=message.body, headers=headers, allow_redirects=False)
            async with request as answer:
                return answer.status
        return None
