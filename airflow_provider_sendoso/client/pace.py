"""Rate limiting: every call to Sendoso first takes a slot of the account's pace.

A call to the marketplace or to SmartSend takes a slot of a second pace before, because these have a limit of their own.
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
"""While sends are waiting, polls take at most one slot in this many."""

SPACING = 1.05
"""Slots are 1.05 / rate apart: closer together, network jitter puts an eleventh request into a second (measured)."""

MINUTE_RATE = 100
"""Requests to the marketplace and to SmartSend a minute and user (published)."""

MINUTE_INTERVAL = SPACING * 60.0 / MINUTE_RATE
"""Seconds between two slots of the second pace."""

SLOT_KEEPS = 1.0
"""Seconds that a slot of the second pace can be used after it has come up: the limit is per minute."""

SLOT_LATE = SLOT_KEEPS / 2
"""Seconds for which it can be taken: what is left is for the account's slot. So a busy machine wastes none of them."""

LONGEST_WAIT = 150.0
"""Seconds that a call waits for its slot; beyond, it fails retryably instead of keeping a worker."""

_STALE = 0.020
_PATIENCE = 3


class Pace(Protocol):
    """Hands out slots."""

    @property
    def lead(self) -> float:
        """Seconds before its slot at which a call begins what it commits before it; 0 where that takes no time."""

    def queue(self) -> float:
        """Enter the queue of polls; return the seconds until this poll's turn, 0 while no sends are waiting."""

    def reserve(self, *, poll: bool) -> float:
        """
        Take the next slot.

        :param poll: whether the slot is for a poll, not for a request that sends need.
        :return: seconds until the slot comes up; negative if it is over.
        """

    def take(self, send: SlotCommit) -> bool:
        """
        Take a slot for a send only if one is free now.

        :param send: committed in the transaction that takes the slot; an error that it raises gives the slot back.
        :return: whether a slot was free; if so, the send is committed as being posted.
        """

    def push_back(self, seconds: float) -> None:
        """Delay every call of the account by so many seconds, as a ``Retry-After`` asks."""


class LocalPace:
    """
    The pace of one process, for reads without a ledger.

    :param interval: seconds between two slots.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._free_at = 0.0
        self._lock = threading.Lock()

    lead = 0.0

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
        """Take no slot: without a ledger there are no sends."""
        return False

    def push_back(self, seconds: float) -> None:
        """Delay every call of this process by so many seconds."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() + seconds)


class SlotMissed(Exception):
    """The slot was over before the first byte was sent, so nothing was sent. Never leaves client and poster."""


@dataclass(frozen=True)
class Turn:
    """
    A slot for one call.

    :param due: the slot's time, in seconds of the monotonic clock.
    :param at_once: whether the slot was free when it was taken.
    """

    due: float
    at_once: bool

    @property
    def over_at(self) -> float:
        """When the slot is too old to be used, in seconds of the monotonic clock."""
        return self.due + _STALE

    @property
    def lateness(self) -> float:
        """Seconds since the slot has come up."""
        return time.monotonic() - self.due

    @property
    def is_late(self) -> bool:
        """Whether the slot is too old to be used: the call would come close to those of the next slots."""
        return self.lateness > _STALE


def wait_for_slot(
    pace: Pace,
    *,
    poll: bool,
    sleep: Callable[[float], None] = time.sleep,
    lead: float = 0.0,
    keeps: float = _STALE,
) -> Turn:
    """
    Block until this call has a slot.

    :param pace: who hands out the slots.
    :param poll: whether this call has to leave most of the rate to sends.
    :param sleep: waits for a number of seconds.
    :param lead: seconds before the slot's time at which to return.
    :param keeps: seconds for which a slot can be used after it has come up.
    :raises SendosoRateLimitError: if the slot is more than :data:`LONGEST_WAIT` seconds away.
    """
    steps = _steps(poll, lead, keeps)
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


async def await_slot(pace: Pace, *, poll: bool, keeps: float = _STALE) -> None:
    """
    Wait until this call has a slot; the pace is asked in a worker thread.

    :param pace: who hands out the slots.
    :param poll: whether this call has to leave most of the rate to sends.
    :param keeps: seconds for which a slot can be used after it has come up.
    """
    steps = _steps(poll, 0.0, keeps)
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


def _steps(poll: bool, lead: float, keeps: float) -> Generator[str | float, float | None, Turn]:
    """
    Yield the steps to a slot, for both kinds of callers: names of methods of the pace, and seconds to sleep.

    A slot that was missed is dropped and another one is taken, because a late call would come close to the next slot's.
    A machine too busy to be on time backs off.
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
        turn = Turn(time.monotonic() + delay, at_once=delay <= 0)
        if delay > lead:
            yield delay - lead
        if turn.lateness <= keeps:
            return turn
    raise AssertionError("there is always another pause")


def _pauses() -> Iterator[float]:
    for _ in range(_PATIENCE):
        yield 0.0
    limit = 0.1
    while True:
        yield random.uniform(0, limit)
        limit = min(limit * 2, 2.0)
