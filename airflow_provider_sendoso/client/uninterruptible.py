"""Runs work that an exception from a signal handler must not interrupt.

Airflow ends a task by raising an exception in its main thread, at any line: on a time-out, and before Airflow 3 on
SIGTERM. The work runs in a thread of its own, because signal handlers raise in the main thread only.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class CalledOff(Exception):
    """The caller was interrupted before the work had begun anything that must be finished. Never leaves the thread."""


class Uninterruptible(Generic[T]):
    """
    Runs a function once, in a thread of its own, while the caller waits.

    :param work: the function; it calls :meth:`check` and :meth:`commit` between its steps.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._outcome: Future[T] = Future()
        self._busy = threading.Lock()
        self._called_off = False
        self._committed = False

    def run(self) -> T:
        """
        Run the work, and return its result or raise its exception.

        An interrupted caller waits until committed work has finished, because Airflow ends the process without waiting
        for threads. A caller that is interrupted a second time leaves, and the thread finishes alone.
        """
        # The caller's context, as ``asyncio.to_thread`` copies it, so that log records belong to the caller's task.
        context = contextvars.copy_context()
        # A new thread for each run, because a forked process has none of its parent's threads. Not a daemon thread.
        thread = threading.Thread(target=context.run, args=(self._do,), name="sendoso-uninterruptible", daemon=False)
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
        Stop the work if its caller was interrupted before :meth:`commit`. Called by the work.

        :raises CalledOff: if so.
        """
        if self._called_off and not self._committed:
            raise CalledOff

    def commit(self) -> None:
        """
        Declare that the next step must be finished. Called by the work.

        :raises CalledOff: if the caller was interrupted already; then the step must not begin.
        """
        # This thread sets its flag and then reads the caller's; the caller does it the other way round. So at least one
        # of the two sees the other's flag.
        self._committed = True
        if self._called_off:
            raise CalledOff

    def _wait(self) -> None:
        # Not ``join``: before Python 3.13 an interrupted ``join`` reports a running thread as ended.
        with self._busy:
            pass

    def _do(self) -> None:
        # The caller reads the outcome, which has a lock of its own, only after ``_busy`` is released.
        try:
            self._outcome.set_result(self._work())
        except BaseException as error:
            self._outcome.set_exception(error)
        finally:
            self._busy.release()
