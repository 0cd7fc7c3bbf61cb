"""Group commit: runs the work of several threads in one transaction, because one commit costs less than several.

One thread at a time is the leader. It takes the work of all threads that wait, runs it in one transaction, and commits.
Threads that arrive meanwhile form the next group, and the first of them leads it. Where processes take turns, the
leader waits for the turn first, so that all that has come until then is in the group. Work that is alike may be run in
as few statements as that of one thread. If the transaction of a group fails, each of its threads repeats its own work
in a transaction of its own, so that a thread learns only what became of its own work.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

T = TypeVar("T")

_GLANCE = 0.05
"""Seconds between two looks of an interrupted thread at whether a leader has finished its work."""


_FIRST_GUESS = 0.1
_WEIGHT = 0.2
_SPREADS = 4.0


class Duration:
    """How long something takes, by the last times: what is usual, and what is hardly ever exceeded."""

    def __init__(self) -> None:
        self.usual = _FIRST_GUESS
        self._spread = 0.0

    @property
    def most(self) -> float:
        """
        Twice the usual time, and four times the usual distance from it.

        TCP waits for an answer in this way (RFC 6298), and has a least time on top: what was even for long may become
        uneven.
        """
        return 2 * self.usual + _SPREADS * self._spread

    def saw(self, seconds: float) -> None:
        """
        Note how long it took once.

        :param seconds: how long.
        """
        self._spread += _WEIGHT * (abs(seconds - self.usual) - self._spread)
        self.usual += _WEIGHT * (seconds - self.usual)


class NotTogether(Exception):
    """A group cannot be run in few statements, and is rolled back; each thread repeats its own work."""


class _Part:
    """The work of one thread in a group."""

    def __init__(self, work: Callable[[Connection], Any], row: str, item: Any) -> None:
        self.work, self.row, self.item = work, row, item
        self.result: Any = None
        self.over = self.committed = self.leads = False
        self.called = threading.Lock()
        """Released when its thread has to go on: to lead the next group, or because its work is over."""
        self.called.acquire()


class GroupCommit:
    """
    Runs work in transactions, and work of several threads in one; no other code may raise into these threads.

    :param once: runs one transaction.
    :param turn: what is taken before one is run.
    :param at_once: runs the work of several threads in as few statements as for one, given their items in the order of
        their rows, and returns their results; raises :class:`NotTogether` if it cannot do exactly what each thread's
        own work would.
    """

    def __init__(
        self,
        once: Callable[[Callable[[Connection], Any]], Any],
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        at_once: Callable[[Connection, list[Any]], Sequence[Any]] | None = None,
    ) -> None:
        self._once = once
        self._turn = turn
        self._at_once = at_once
        self.takes = Duration()
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """Drop all waiting work: in a forked process it is the parent's, and no thread is there to run it."""
        self._lock = threading.Lock()
        self._waiting: list[_Part] = []
        self._busy = False

    def once(self, work: Callable[[Connection], T], row: str, item: Any = None) -> T:
        """
        Run work in a transaction, perhaps together with that of other threads, and return when it is committed.

        :param work: may run in another thread, and once more in this one if the group's transaction has failed.
        :param row: the key of the only send that the work locks; a group locks its rows in the order of their keys, so
            that two transactions do not deadlock.
        :param item: what ``at_once`` needs to know of the work; ``None`` for work that it does not know.
        """
        mine, asked = _Part(work, row, item), time.monotonic()
        with ExitStack() as turn:
            group = self._wait(mine, turn)
            if group:
                self._commit(group)
        result: T = mine.result if mine.committed else self._alone(work)
        self.takes.saw(time.monotonic() - asked)
        return result

    def _alone(self, work: Callable[[Connection], T]) -> T:
        with self._turn():
            return self._once(work)  # type: ignore[no-any-return]

    def _wait(self, mine: _Part, turn: ExitStack) -> list[_Part]:
        """Wait until a leader has run the work, or until this thread leads: then return the group to run."""
        with self._lock:
            self._waiting.append(mine)
            if not self._busy:
                self._call_next()
        try:
            mine.called.acquire()
            if not mine.over:
                turn.enter_context(self._turn())
        except BaseException:
            with self._lock:
                waits = mine in self._waiting
                if waits:
                    self._waiting.remove(mine)
                    if mine.leads:
                        self._call_next()
            while not (waits or mine.over):  # a leader is running this work, which must end before this thread goes on
                mine.called.acquire(timeout=_GLANCE)  # the interrupted call may have acquired it already
            raise
        with self._lock:
            if mine.over:
                return []
            group, self._waiting = self._waiting, []
            return group

    def _call_next(self) -> None:
        """Make the first waiting thread the leader of all that wait; the caller holds the lock."""
        self._busy = bool(self._waiting)
        if self._busy:
            self._waiting[0].leads = True
            self._waiting[0].called.release()

    def _commit(self, group: list[_Part]) -> None:
        parts = sorted(group, key=lambda part: part.row)
        items = [part.item for part in parts if part.item is not None]

        def work(connection: Connection) -> None:
            if self._at_once is not None and len(items) == len(parts) > 1:
                results = self._at_once(connection, items)
            else:
                results = [part.work(connection) for part in parts]
            for part, result in zip(parts, results, strict=True):
                part.result = result

        committed = False
        try:
            self._once(work)
            committed = True
        except Exception:
            if len(group) == 1:
                raise
        finally:
            with self._lock:
                if not committed:  # the waiting threads run alone now, and do not wait for a group's retry
                    group, self._waiting = group + self._waiting, []
                for part in group:
                    part.over, part.committed = True, committed
                    if not part.leads:
                        part.called.release()
                self._call_next()


_all: weakref.WeakSet[GroupCommit] = weakref.WeakSet()


def _forget_all() -> None:
    for together in _all:
        together.forget()


os.register_at_fork(after_in_child=_forget_all)
