"""A file of JSON lines, so that a restarted sandbox remembers what it accepted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """
    Append records to a file and read them again.

    A new file is made readable for its owner only: a user's try-out may hold real addresses.

    :param path: of the file; it is created if there is none
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._path = path
        self._end = 0

    def read(self) -> list[dict[str, Any]]:
        """
        Return every record, oldest first.

        A last line without its end was cut off by a kill; nobody had an answer for it. The next record takes
        its place, and only then: until something is accepted the file is left as it is, lest it be another's.

        :raises ValueError: if the file holds something else than records
        """
        whole, newline, rest = self._path.read_bytes().rpartition(b"\n")
        if rest and not newline:
            raise ValueError("the state file has not one whole line")
        lines = whole.split(b"\n") if newline else []
        records = [_read_record(line, number) for number, line in enumerate(lines, start=1)]
        self._end = len(whole) + len(newline)
        return records

    def append(self, record: dict[str, Any]) -> None:
        """
        Write one record and hand it to the operating system.

        :param record: whatever JSON can hold
        """
        with self._path.open("r+b") as file:
            file.seek(self._end)
            file.write(json.dumps(record).encode() + b"\n")
            file.truncate()
            self._end = file.tell()

    def clear(self) -> None:
        """Forget every record."""
        os.truncate(self._path, 0)
        self._end = 0


def _read_record(line: bytes, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"line {number} of the state file is not a JSON object")
    return record
