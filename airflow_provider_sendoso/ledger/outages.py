"""Logs, every few seconds, that a run waits for the ledger's database: since when, and for how long at most."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

log = logging.getLogger(__name__)

_EVERY = 5.0
"""Seconds of waiting before the first line, and between two lines."""


class Outages:
    """The threads of this process that wait for one database; the run's own thread calls :meth:`say`."""

    def __init__(self) -> None:
        self._waits: dict[object, tuple[float, float]] = {}
        self._said = 0.0

    @contextmanager
    def waiting(self, patience: float) -> Iterator[None]:
        """
        Count this thread among those that wait, until the block ends.

        :param patience: seconds for which it waits at most.
        """
        token, now = object(), time.time()
        self._waits[token] = now, now + patience
        try:
            yield
        finally:
            del self._waits[token]

    def say(self) -> None:
        """Log a line if a thread has waited for some seconds, and the last line is as old; never raises."""
        now = time.time()
        waits = [
            wait for wait in list(self._waits.values()) if wait[1] > now
        ]  # a forked process has inherited its parent's waits
        if not waits:
            return
        since, until = min(began for began, _ in waits), max(end for _, end in waits)
        if now - max(since, self._said) < _EVERY:
            return
        self._said = now
        with suppress(Exception):  # once the task's supervisor has died, every log call raises
            log.warning(
                "Waiting for the ledger's database since %s UTC, %.0f s by now, and at most %.0f s more.",
                time.strftime("%H:%M:%S", time.gmtime(since)),
                now - since,
                max(0.0, until - now),
            )
