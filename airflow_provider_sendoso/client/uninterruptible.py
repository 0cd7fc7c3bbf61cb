"""Work that an exception out of a signal handler must not cut in two.

Airflow ends a task by raising in its main thread, wherever that happens to be: on a time-out, and before Airflow 3 on
SIGTERM. Such work is done by a thread of its own, in which nothing is raised from outside.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class CalledOff(Exception):
    """The caller has gone, and nothing had been begun that has to be finished; seen by nobody."""


class Uninterruptible(Generic[T]):
    """
    Does something once, in a thread of its own that the caller waits for.

    :param work: calls :meth:`check` and :meth:`commit` on its way.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._outcome: Future[T] = Future()
        self._busy = threading.Lock()
        self._called_off = False
        self._committed = False

    def run(self) -> T:
        """
        Return what the work returns, or raise what it raises.

        Interrupted, the caller stays until what was begun is finished, for Airflow ends the process without waiting
        for any thread; interrupted again, it leaves, and the thread finishes alone.
        """
        # With the caller's context, as ``asyncio.to_thread`` does it: what is logged still belongs to its task.
        context = contextvars.copy_context()
        # Made for each errand, so that no process has it from its parent; not a daemon, whatever the caller is.
        thread = threading.Thread(target=context.run, args=(self._do,), name="sendoso-errand", daemon=False)
        self._busy.acquire()
        try:
            thread.start()
            self._wait()
        except BaseException:
            self._called_off = True
            if self._committed:
                self._wait()
            raise
        return self._outcome.result()

    def check(self) -> None:
        """
        Go on only while somebody waits for it, or something has been begun; for the work.

        :raises CalledOff: otherwise.
        """
        if self._called_off and not self._committed:
            raise CalledOff

    def commit(self) -> None:
        """
        Begin what has to be finished; for the work.

        :raises CalledOff: if the caller has gone: then it is not begun.
        """
        # Told before it looks, while the caller looks after having told: one of them sees the other.
        self._committed = True
        if self._called_off:
            raise CalledOff

    def _wait(self) -> None:
        # Not by ``join``: before Python 3.13, once interrupted, it takes a thread that runs for one that has ended.
        with self._busy:
            pass

    def _do(self) -> None:
        # The caller looks at the outcome, which has a lock of its own, only when this is over.
        try:
            self._outcome.set_result(self._work())
        except BaseException as error:
            self._outcome.set_exception(error)
        finally:
            self._busy.release()
