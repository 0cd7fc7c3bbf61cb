"""The account's pace in a bucket: a commit takes longer than a slot keeps, so several slots are taken ahead at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.pace import LedgerPace
from airflow_provider_sendoso.models.slot_commit import SlotCommit

_BLOCK = 1.0
"""Seconds of slots that one transaction takes at most: for so long others wait for slots that nobody may use."""

_LONGEST_LEAD = 10.0
"""Seconds that a slot is taken ahead at most: a send that waits for it is committed as POSTING, and its POST has to
begin within ten seconds and the `timeout` of that commit."""


class BucketPace(LedgerPace):
    """
    Hands out one account's slots from blocks.

    A process that uses up its block takes one of twice the size, up to a second's slots; one that does not, takes as
    many as it has used.

    :param database: the ledger's database, which knows how long a commit takes.
    :param account: as for :class:`LedgerPace`, as the next two arguments are.
    """

    def __init__(self, database: Database, account: str, interval: float, poll_share: int) -> None:
        super().__init__(database, account, interval, poll_share)
        self._takes = database.together.takes
        self._most = max(1, int(_BLOCK / interval)) if interval else 1
        self._lock = threading.Lock()
        self._slots: deque[float] = deque()  # by the monotonic clock
        self._size = 1
        self._ends = 0.0

    @property
    def lead(self) -> float:
        """Seconds before its slot at which a call has to commit what comes before it."""
        return min(self._takes.most, _LONGEST_LEAD)

    def take(self, send: SlotCommit) -> bool:
        """Take no slot: a slot that is free now is over when the commit is done."""
        return False

    def reserve(self, *, poll: bool) -> float:
        """Take the account's next slot, or the next of this process's block; return the seconds until it comes up."""
        if poll:
            return self._take_block(poll=True, count=1)
        with self._lock:
            now, unused = time.monotonic(), 0
            while self._slots and self._slots[0] < now + self._usable_ahead:
                self._slots.popleft()
                unused += 1
            if not self._slots:
                self._size = self._next_size(now, unused)
                first = self._take_block(poll=False, count=self._size) + time.monotonic()
                self._slots.extend(first + number * self._interval for number in range(self._size))
                self._ends = self._slots[-1]
            return self._slots.popleft() - time.monotonic()

    @property
    def _usable_ahead(self) -> float:
        """Seconds before a slot after which a commit before it would hardly be done in time."""
        return min(self._takes.usual, _LONGEST_LEAD)

    def _next_size(self, now: float, unused: int) -> int:
        if now > self._ends + self._interval:
            return 1
        return max(1, self._size - unused) if unused else min(2 * self._size, self._most)

    def _commit(self, work: Callable[[Connection], float]) -> float:
        if threading.current_thread() is threading.main_thread():
            return super()._commit(work)  # Airflow interrupts this thread, and others must not wait for it
        return self._database.run_together(work, "")

    def _take_block(self, *, poll: bool, count: int) -> float:
        return self._seconds_until(self._take_slots(poll=poll, count=count, ahead=self.lead))

    def push_back(self, seconds: float) -> None:
        """Block all requests of the account for a number of seconds; slots that are taken already are dropped."""
        with self._lock:
            self._slots.clear()
        super().push_back(seconds)
