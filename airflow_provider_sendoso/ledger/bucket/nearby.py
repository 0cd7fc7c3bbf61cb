"""The newest entries of the log on the machine's own disk, so that its processes ask the store for them once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

_KEPT = 200
"""Entries that stay there. A process that is further behind reads the store."""


class Nearby:
    """
    A folder with objects of the log that a process of this machine has created or read.

    It saves requests and decides nothing: what a process takes from it has to follow the entry that the process has
    read last, and whether there is a newer one only the store knows.

    :param address: the ledger's.
    """

    def __init__(self, address: str) -> None:
        name = hashlib.sha256(address.encode()).hexdigest()[:16]
        self._folder = Path(tempfile.gettempdir(), f"sendoso-ledger-{os.getuid()}-{name}")
        self._is_ours = False

    def read(self, number: int) -> bytes | None:
        """
        Read an entry's object; ``None`` if it is not here.

        :param number: the entry's.
        """
        try:
            return self._file(number).read_bytes() if self._may_be_used() else None
        except OSError:
            return None

    def keep(self, number: int, body: bytes) -> None:
        """
        Keep an object for the other processes of this machine; a disk that is full does not matter.

        :param number: of an entry that is in the log.
        :param body: the object.
        """
        with suppress(OSError):
            if not self._is_ours:
                self._folder.mkdir(mode=0o700, exist_ok=True)
            if not self._may_be_used():
                return
            file = self._file(number)
            unfinished = file.with_suffix(f".{os.getpid()}")
            unfinished.write_bytes(body)
            unfinished.replace(file)
            self._file(number - _KEPT).unlink(missing_ok=True)

    def _may_be_used(self) -> bool:
        """Whether the folder is this user's alone: another one could put in what is in no log."""
        if not self._is_ours:
            found = self._folder.lstat()
            self._is_ours = found.st_uid == os.getuid() and (found.st_mode & 0o170077) == 0o040000
        return self._is_ours

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:012d}"
