"""A try as the driver sees it: its two processes, the signals that they get, and the result of the try."""

from __future__ import annotations

import json
import multiprocessing
import signal
from contextlib import suppress
from typing import Any

import psutil

from soak.task_process import Told, run_try

# The process that tries are forked from. It imports what a try needs once, and has no threads.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["soak.task_process"])


class Try:
    """
    One try of a batch, started.

    :param told: which one.
    """

    def __init__(self, told: Told) -> None:
        self.told = told
        self._supervisor = _FORKS.Process(target=run_try, args=(told,))
        self._supervisor.start()
        self._task: psutil.Process | None = None

    @property
    def task(self) -> psutil.Process | None:
        """The task's process, once there is one."""
        if self._task is None and (pid := self.facts().get("pid")) is not None:
            with suppress(psutil.NoSuchProcess):
                self._task = psutil.Process(pid)
        return self._task

    def facts(self) -> dict[str, Any]:
        """Read what is known by now: ``pid``, ``state``, ``next_method``, ``summary`` and ``exit_code``."""
        facts: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            for line in self.told.notes.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    fact = json.loads(line)
                    facts |= {"summary": fact["value"]} if fact.get("xcom") == "return_value" else fact
        return facts

    def signal_task(self, number: signal.Signals) -> None:
        """Send the task a signal, if it still lives."""
        if self.task is not None:
            with suppress(psutil.NoSuchProcess):
                self.task.send_signal(number)

    def signal_supervisor(self, number: signal.Signals) -> None:
        """Send the supervisor a signal, if it still lives."""
        if self._supervisor.is_alive():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(self._supervisor.pid).send_signal(number)

    @property
    def supervised(self) -> bool:
        """Whether the supervisor lives."""
        return self._supervisor.is_alive()

    @property
    def is_over(self) -> bool:
        """Whether neither of its processes lives."""
        if self.supervised:
            return False
        with suppress(psutil.NoSuchProcess):
            return self.task is None or not self.task.is_running() or self.task.status() == psutil.STATUS_ZOMBIE
        return True

    @property
    def supervisor_was_killed(self) -> bool:
        """Whether the supervisor died of SIGKILL."""
        return self._supervisor.exitcode == -signal.SIGKILL

    @property
    def task_was_killed(self) -> bool:
        """Whether the task died of SIGKILL; of an orphan nobody knows."""
        return bool(self.facts().get("exit_code") == -signal.SIGKILL)
