"""What several threads want to commit at the same time, in one transaction: a commit costs as much for one as for all.

Whoever comes while nobody is at it does what everybody wants by then, and the others wait; of those who come meanwhile
the first does what all of them want, once that is over. A thread is told of its own alone: when a transaction of
several fails, each of them has one to itself.
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
"""Seconds after which a thread that was interrupted looks whether somebody has done what it wanted."""


class _Part:
    """What one thread wants of a transaction."""

    def __init__(self, work: Callable[[Connection], Any], row: str) -> None:
        self.work, self.row = work, row
        self.result: Any = None
        self.over = self.committed = self.leads = False
        self.called = threading.Lock()
        """Free once there is something for its thread to do: only those are woken."""
        self.called.acquire()


class GroupCommit:
    """
    Runs transactions, those that come at the same time as one; for threads in which nothing is raised from outside.

    :param once: runs one transaction.
    """

    def __init__(self, once: Callable[[Callable[[Connection], Any]], Any]) -> None:
        self._once = once
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """Wait for nobody: a process that was forked has the parent's waiting threads, and none to wake them."""
        self._lock = threading.Lock()
        self._waiting: list[_Part] = []
        self._busy = False

    def once(self, work: Callable[[Connection], T], row: str) -> T:
        """
        Do some work in a transaction, perhaps along with others', and return when it is committed.

        :param work: may run in the thread of another, and again by itself when that transaction has failed.
        :param row: the key of the send that it locks, and of no other: all are locked in one order, so that none
            deadlock.
        """
        mine = _Part(work, row)
        group = self._wait(mine)
        if group:
            self._commit(group)
        result: T = mine.result if mine.committed else self._once(work)
        return result

    def _wait(self, mine: _Part) -> list[_Part]:
        """Wait until it is over, or return what is to be done now, and by this thread."""
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
            while not (waits or mine.over):  # somebody is at it: it must not happen after its thread has gone on
                mine.called.acquire(timeout=_GLANCE)  # which the interrupted one may have done already
            raise
        with self._lock:
            if mine.over:
                return []
            group, self._waiting = self._waiting, []
            return group

    def _call_next(self) -> None:
        """Let the first of those who wait do what all of them want; the lock is held."""
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
                if not committed:  # nobody waits for a database in trouble longer than by themselves
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
