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

    :param place: what tells the ledger's store from all others. Of two ledgers with the same beginning, as a copy of a
        bucket has it, one would take what only the other has.
    """

    def __init__(self, place: str) -> None:
        name = hashlib.sha256(place.encode()).hexdigest()[:16]
        self._folder = Path(tempfile.gettempdir(), f"sendoso-ledger-{os.getuid()}-{name}")
        self._is_tidy = False

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
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if not self._may_be_used():
                return
            if not self._is_tidy:
                self._tidy_up(number)
            file = self._file(number)
            unfinished = file.with_suffix(f".{os.getpid()}")
            try:
                unfinished.write_bytes(body)
                unfinished.replace(file)
            except OSError:
                unfinished.unlink(missing_ok=True)
            self._file(number - _KEPT).unlink(missing_ok=True)

    def _may_be_used(self) -> bool:
        """
        Whether the folder is this user's alone: another one could put in what is in no log.

        Asked each time: when a folder for temporary files is cleaned, another user can make one of this name.
        """
        found = self._folder.lstat()
        return found.st_uid == os.getuid() and (found.st_mode & 0o170077) == 0o040000

    def _tidy_up(self, number: int) -> None:
        """Delete what is left before a gap, of entries that other machines have written while none was at work here."""
        self._is_tidy = True
        for file in self._folder.iterdir():
            if file.name < self._file(number - _KEPT).name:
                file.unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:012d}"
