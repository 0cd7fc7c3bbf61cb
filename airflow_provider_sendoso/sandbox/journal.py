"""A file of JSON lines, from which a restarted sandbox reads the sends that it has accepted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CAMPAIGN = "campaign"
"""The kind in the record of a campaign send; the record of a gift send has none."""


class Journal:
    """
    Appends records to a file, and reads them.

    A new file is readable by its owner only, because a user's trial may hold real addresses.

    :param path: the path of the file, which is created if it is missing
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._path = path
        self._end = 0

    def read(self, kind: str | None = None) -> list[dict[str, Any]]:
        """
        Return every record of a kind, oldest first.

        A last line without a newline was cut off when the sandbox was killed, and its request was not answered. The
        next record overwrites it. Until then the file is not changed, because it may be another program's.

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

        :param record: any value that JSON can hold
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
