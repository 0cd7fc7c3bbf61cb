"""Lets the processes of one machine write to a log one after the other, so that none of them has to do it twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

Turn = Callable[[], AbstractContextManager[None]]
"""What a transaction takes before it begins, and gives back when it is over."""

_LONGEST = 3.0
"""Seconds after which nobody waits for the process that has the turn: it may be frozen."""

_PATIENCE = 120.0
"""Seconds that a process waits at most while others take their turns. Who goes on without its turn is slower than they
are, and may be overtaken until it gives up."""

_PAUSE = 0.01


class MachineTurn:
    """
    A turn that one process of this machine has at a time. It saves work and decides nothing: the log does.

    :param place: what tells the ledger's store from all others.
    """

    def __init__(self, place: str) -> None:
        name = hashlib.sha256(place.encode()).hexdigest()[:16]
        self._file = Path(tempfile.gettempdir(), f"sendoso-ledger-{os.getuid()}-{name}.lock")

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Wait for the turn, and give it back when the block is over."""
        try:
            file = self._file.open("ab")
        except OSError:
            yield  # a machine without a writable folder for temporary files
            return
        with file:
            _lock(file)
            try:
                yield
            finally:
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)  # not only closed: what was forked meanwhile has it open, too


def _lock(file: IO[bytes]) -> None:
    """Take the turn, or give up; the file's time says since when another process has it."""
    give_up = time.monotonic() + _PATIENCE
    while time.monotonic() < give_up:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(file.fileno())
            return
        except OSError:
            # A time to come was noted before the machine's clock was set back.
            if abs(time.time() - os.fstat(file.fileno()).st_mtime) > _LONGEST:
                return
            time.sleep(random.uniform(0, _PAUSE))
