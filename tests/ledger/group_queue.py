"""Holds a group commit open until others are waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.group_commit import GroupCommit


class Queue:
    """Keeps one thread's transaction open until others are waiting, so that these become one transaction."""

    def __init__(self, together: GroupCommit, pool: ThreadPoolExecutor) -> None:
        self.together, self.pool = together, pool
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        self._first = pool.submit(together.once, self._hold, "")
        assert self.begun.wait(60)
        commit = together._commit
        together._commit = lambda group: (self.sizes.append(len(group)), commit(group))[1]  # type: ignore[method-assign]

    def _hold(self, connection: Connection) -> None:
        # Not the ledger's lock, which the next thread has to get.
        self.begun.set()
        assert self.go_on.wait(300)

    def add(self, *calls: Callable[[], Any]) -> list[Future[Any]]:
        before = len(self.together._waiting)
        futures = [self.pool.submit(call) for call in calls]
        give_up = time.monotonic() + 60
        while len(self.together._waiting) < before + len(calls):
            assert time.monotonic() < give_up
            time.sleep(0.001)
        return futures

    def release(self) -> None:
        self.go_on.set()
        self._first.result(60)
