"""Waiting for one's turn: every call to Sendoso takes a slot of the account's pace first.

Slots are handed out by a :class:`Pace`: the ledger's, shared by the whole deployment, or one process's own.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_sendoso.exceptions import SendosoRateLimitError
from airflow_provider_sendoso.models.slot_commit import SlotCommit

POLL_SHARE = 5
"""While sends are waiting, polls take at most one slot in so many."""

SPACING = 1.05
"""Slots are 1.05 / rate apart: with less, jitter on the way puts an eleventh request into a second (measured)."""

LONGEST_WAIT = 150.0
"""Seconds that a call waits for its slot; beyond, it fails retryably instead of keeping a worker."""

_STALE = 0.020
_PATIENCE = 3


class Pace(Protocol):
    """Hands out slots."""

    def queue(self) -> float:
        """Line up among the polls; return the seconds until it is this one's turn, 0 while no sends are waiting."""

    def reserve(self, *, poll: bool) -> float:
        """
        Take the next slot.

        :param poll: whether it is for a poll, or for anything that sends need.
        :return: seconds until the slot comes up; 0 for now.
        """

    def take(self, send: SlotCommit) -> bool:
        """
        Take a slot for a send if one is free now, and only then.

        :param send: is committed along with the slot; what it raises gives the slot back.
        :return: whether there was a slot, and the send is committed as being posted.
        """

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

    def queue(self) -> float:
        """Never wait: without a ledger there are no sends."""
        return 0.0

    def reserve(self, *, poll: bool) -> float:
        """Take the process's next slot; return the seconds until it comes up."""
        with self._lock:
            now = time.monotonic()
            slot = max(self._free_at, now)
            self._free_at = slot + self._interval
            return slot - now

    def take(self, send: SlotCommit) -> bool:
        """Take none: without a ledger there are no sends."""
        return False

    def push_back(self, seconds: float) -> None:
        """Let this process not call for so many seconds."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() + seconds)


@dataclass(frozen=True)
class Turn:
    """
    A slot that has come up.

    :param due: when, in monotonic seconds.
    :param at_once: whether it was free when it was taken.
    """

    due: float
    at_once: bool

    @property
    def is_late(self) -> bool:
        """Whether it is too old to be used: the next ones are not far behind."""
        return time.monotonic() - self.due > _STALE


def wait_for_slot(pace: Pace, *, poll: bool, sleep: Callable[[float], None] = time.sleep) -> Turn:
    """
    Block until it is this call's turn.

    :param pace: who hands out the slots.
    :param poll: whether this call has to leave most of the rate to sends.
    :param sleep: waits for a number of seconds.
    :raises SendosoRateLimitError: for a turn that is minutes away.
    """
    steps = _steps(poll)
    step = next(steps)
    try:
        while True:
            if isinstance(step, str):
                step = steps.send(_ask(pace, step, poll))
            else:
                sleep(step)
                step = next(steps)
    except StopIteration as end:
        turn: Turn = end.value
        return turn


async def await_slot(pace: Pace, *, poll: bool) -> None:
    """
    Wait until it is this call's turn; the pace is asked in a worker thread.

    :param pace: who hands out the slots.
    :param poll: whether this call has to leave most of the rate to sends.
    """
    steps = _steps(poll)
    step = next(steps)
    try:
        while True:
            if isinstance(step, str):
                step = steps.send(await asyncio.to_thread(_ask, pace, step, poll))
            else:
                await asyncio.sleep(step)
                step = next(steps)
    except StopIteration:
        return


def _ask(pace: Pace, step: str, poll: bool) -> float:
    return pace.queue() if step == "queue" else pace.reserve(poll=poll)


def _steps(poll: bool) -> Generator[str | float, float | None, Turn]:
    """
    What a caller does to get its turn, for both kinds of callers: names of questions, and seconds to sleep.

    A slot that comes up late is dropped and asked for anew, for used late it would crowd the one behind it; a machine
    too busy to be on time backs off.
    """
    if poll:
        yield (yield "queue") or 0.0
    for pause in _pauses():
        if pause:
            yield pause
        delay = (yield "reserve") or 0.0
        if delay > LONGEST_WAIT:
            raise SendosoRateLimitError(
                429, f"Sendoso has asked this account to wait; the next call is due in {delay:.0f} s.", None, delay
            )
        turn = Turn(time.monotonic() + delay, at_once=delay == 0)
        if delay > 0:
            yield delay
        if not turn.is_late:
            return turn
    raise AssertionError("there is always another pause")


def _pauses() -> Iterator[float]:
    for _ in range(_PATIENCE):
        yield 0.0
    limit = 0.1
    while True:
        yield random.uniform(0, limit)
        limit = min(limit * 2, 2.0)
