"""What several threads want to commit at the same time, in one transaction: a commit costs as much for one as for all.

Whoever comes while nobody is at it does what everybody wants by then, and the others wait; who comes meanwhile is in
the next one. A thread is told of its own alone: when a transaction of several fails, each of them has one to itself.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

T = TypeVar("T")


class _Part:
    """What one thread wants of a transaction."""

    def __init__(self, work: Callable[[Connection], Any], row: str) -> None:
        self.work, self.row = work, row
        self.result: Any = None
        self.over = self.committed = False


class Together:
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
        self._changed = threading.Condition()
        self._waiting: list[_Part] = []
        self._busy = False

    def once(self, work: Callable[[Connection], T], row: str) -> T:
        """
        Do some work in a transaction, perhaps along with others', and return when it is committed.

        :param work: may run in the thread of another, and again by itself when that transaction has failed.
        :param row: the key of what it locks, nothing else: all are locked in one order, so that none deadlock.
        """
        mine = _Part(work, row)
        group = self._wait(mine)
        if group:
            self._commit(group)
        result: T = mine.result if mine.committed else self._once(work)
        return result

    def _wait(self, mine: _Part) -> list[_Part]:
        """Wait until it is over, or return what is to be done now, and by this thread."""
        with self._changed:
            self._waiting.append(mine)
            try:
                self._changed.wait_for(lambda: mine.over or not self._busy)
            except BaseException:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                else:  # somebody is at it: it must not happen after its thread has gone on
                    self._changed.wait_for(lambda: mine.over)
                raise
            if mine.over:
                return []
            group, self._waiting, self._busy = self._waiting, [], True
            return group

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
            with self._changed:
                if not committed:  # nobody waits for a database in trouble longer than by themselves
                    group, self._waiting = group + self._waiting, []
                for part in group:
                    part.over, part.committed = True, committed
                self._busy = False
                self._changed.notify_all()


_all: weakref.WeakSet[Together] = weakref.WeakSet()


def _forget_all() -> None:
    for together in _all:
        together.forget()


os.register_at_fork(after_in_child=_forget_all)
