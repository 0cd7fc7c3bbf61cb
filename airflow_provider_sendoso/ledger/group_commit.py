"""Group commit: runs the work of several threads in one transaction, because one commit costs less than several.

One thread at a time is the leader. It takes the work of all threads that wait, runs it in one transaction, and commits.
Threads that arrive meanwhile form the next group, and the first of them leads it. If the transaction of a group fails,
each of its threads repeats its own work in a transaction of its own, so that a thread learns only what became of its
own work.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

T = TypeVar("T")

_GLANCE = 0.05
"""Seconds between two looks of an interrupted thread at whether a leader has finished its work."""


class _Part:
    """The work of one thread in a group."""

    def __init__(self, work: Callable[[Connection], Any], row: str) -> None:
        self.work, self.row = work, row
        self.result: Any = None
        self.over = self.committed = self.leads = False
        self.called = threading.Lock()
        """Released when its thread has to go on: to lead the next group, or because its work is over."""
        self.called.acquire()


class GroupCommit:
    """
    Runs work in transactions, and work of several threads in one; no other code may raise into these threads.

    :param once: runs one transaction.
    """

    def __init__(self, once: Callable[[Callable[[Connection], Any]], Any]) -> None:
        self._once = once
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """Drop all waiting work: in a forked process it is the parent's, and no thread is there to run it."""
        self._lock = threading.Lock()
        self._waiting: list[_Part] = []
        self._busy = False

    def once(self, work: Callable[[Connection], T], row: str) -> T:
        """
        Run work in a transaction, perhaps together with that of other threads, and return when it is committed.

        :param work: may run in another thread, and once more in this one if the group's transaction has failed.
        :param row: the key of the only send that the work locks; a group locks its rows in the order of their keys, so
            that two transactions do not deadlock.
        """
        mine = _Part(work, row)
        group = self._wait(mine)
        if group:
            self._commit(group)
        result: T = mine.result if mine.committed else self._once(work)
        return result

    def _wait(self, mine: _Part) -> list[_Part]:
        """Wait until a leader has run the work, or until this thread leads: then return the group to run."""
        with self._lock:
            self._waiting.append(mine)
            if not self._busy:
                self._call_next()
        try:
            mine.called.acquire()
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
        def work(connection: Connection) -> None:
            for part in sorted(group, key=lambda part: part.row):
                part.result = part.work(connection)

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
