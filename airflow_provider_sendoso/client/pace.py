"""Waiting for one's turn: every call to Sendoso takes a slot of the account's pace first.

Slots are handed out by a :class:`Pace`: the ledger's, shared by the whole deployment, or one process's own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

SPACING = 1.05
"""Slots are 1.05 / rate apart: with less, jitter on the way puts an eleventh request into a second (measured)."""

_STALE = 0.020
_PATIENCE = 3


class Pace(Protocol):
    """Hands out slots."""

    def reserve(self) -> float:
        """Take the next slot; return the seconds until it comes up, 0 for now."""

    def push_back(self, seconds: float) -> None:
        """Let nobody of the account call for so many seconds: what a ``Retry-After`` asks for."""


class LocalPace:
    """
    The pace of one process, for reads without a ledger.

    :param interval: seconds between two slots.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._free_at = 0.0
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the process's next slot; return the seconds until it comes up."""
        with self._lock:
            now = time.monotonic()
            slot = max(self._free_at, now)
            self._free_at = slot + self._interval
            return slot - now

    def push_back(self, seconds: float) -> None:
        """Let this process not call for so many seconds."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() + seconds)


def wait_for_slot(pace: Pace, sleep: Callable[[float], None] = time.sleep) -> None:
    """
    Block until it is this call's turn.

    :param pace: who hands out the slots.
    :param sleep: waits for a number of seconds.
    """
    for pause in _pauses():
        if pause:
            sleep(pause)
        delay = pace.reserve()
        due = time.monotonic() + delay
        if delay > 0:
            sleep(delay)
        if time.monotonic() - due <= _STALE:
            return


async def await_slot(reserve: Callable[[], Awaitable[float]], sleep: Callable[[float], Awaitable[None]]) -> None:
    """
    Wait until it is this call's turn, without blocking the event loop.

    :param reserve: takes the next slot and returns the seconds until it comes up.
    :param sleep: waits for a number of seconds.
    """
    for pause in _pauses():
        if pause:
            await sleep(pause)
        delay = await reserve()
        due = time.monotonic() + delay
        if delay > 0:
            await sleep(delay)
        if time.monotonic() - due <= _STALE:
            return


def _pauses() -> Iterator[float]:
    """
    Seconds to pause before asking for a slot again: a slot used late would crowd the one behind it.

    A slot that comes up late is dropped and asked for anew; a machine too busy to be on time backs off.
    """
    for _ in range(_PATIENCE):
        yield 0.0
    limit = 0.1
    while True:
        yield random.uniform(0, limit)
        limit = min(limit * 2, 2.0)
