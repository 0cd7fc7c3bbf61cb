"""A file of JSON lines, so that a restarted sandbox remembers what it accepted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CAMPAIGN = "campaign"
"""The kind of a campaign send's record; a gift send's has none."""


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

    def read(self, kind: str | None = None) -> list[dict[str, Any]]:
        """
        Return every record of a kind, oldest first.

        A last line without its end was cut off by a kill; nobody had an answer for it. The next record takes
        its place, and only then: until something is accepted the file is left as it is, lest it be another's.

        :param kind: ``None`` for gift sends
        :raises ValueError: if the file holds something else than records
        """
        whole, newline, rest = self._path.read_bytes().rpartition(b"\n")
        if rest and not newline:
            raise ValueError("the state file has not one whole line")
        lines = whole.split(b"\n") if newline else []
        records = [_read_record(line, number) for number, line in enumerate(lines, start=1)]
        self._end = len(whole) + len(newline)
        return [record for of_kind, record in records if of_kind == kind]

    def append(self, record: dict[str, Any], kind: str | None = None) -> None:
        """
        Write one record and hand it to the operating system.

        :param record: whatever JSON can hold
        :param kind: ``None`` for a gift send
        """
        named = record if kind is None else {"kind": kind, **record}
        with self._path.open("r+b") as file:
            file.seek(self._end)
            file.write(json.dumps(named).encode() + b"\n")
            file.truncate()
            self._end = file.tell()

    def clear(self) -> None:
        """Delete every record."""
        os.truncate(self._path, 0)
        self._end = 0


def _read_record(line: bytes, number: int) -> tuple[str | None, dict[str, Any]]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"line {number} of the state file is not a JSON object")
    kind = record.pop("kind", None)
    if kind not in (None, CAMPAIGN):
        raise ValueError(f"line {number} of the state file is of a kind that is not known")
    return kind, record
