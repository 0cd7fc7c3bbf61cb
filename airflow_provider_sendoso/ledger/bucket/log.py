"""The log: one object for each transaction, numbered, created once; whoever creates the next one has committed."""

from __future__ import annotations

import gzip
import json
import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from typing import Any

from airflow_provider_sendoso.ledger.bucket.nearby import Nearby
from airflow_provider_sendoso.ledger.bucket.objects import NotAnswered, Objects

_LOG, _PACKS = "log", "packs"
PACK = 100
"""Entries in one pack."""

_AT_ONCE = 32
"""Objects that are asked for at the same time when there are many to read."""

_FEW = 3
"""Entries that a process which was overtaken asks for at once, at least: the first may have others after it."""

_ATTEMPTS = 3
_PAUSE = 0.2

Values = list[Any]


@dataclass(frozen=True)
class Changes:
    """
    What a transaction has changed in one table.

    :param columns: the names of the columns that the writer knows.
    :param rows: the rows that were inserted or updated, as they are now.
    :param deleted: the primary keys of the rows that were deleted.
    """

    columns: Sequence[str]
    rows: Sequence[Values]
    deleted: Sequence[Values]


@dataclass(frozen=True)
class Entry:
    """
    One entry of the log.

    :param nonce: a random number of the writer's, by which it recognises its own entry.
    :param after: the nonce of the entry before; a log from which objects were taken, or to which some were added by
        hand, is noticed by it.
    :param at: when it was written, by the store's clock.
    :param changes: what changed, by table.
    """

    nonce: str
    after: str
    at: float
    changes: Mapping[str, Changes] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """Return the entry as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """
        Read an entry.

        :param line: of :meth:`to_line`.
        """
        found = json.loads(line)
        changes = {table: Changes(**those) for table, those in found.pop("changes").items()}
        return cls(**found, changes=changes)


class LogDamaged(sqlite3.DatabaseError):
    """Objects are missing in the log, or do not belong to it."""


class Log:
    """
    The log, as far as this process has read it.

    :param objects: where it is.
    :param nearby: what the processes of this machine have of it; ``None`` without such a place.
    """

    def __init__(self, objects: Objects, nearby: Nearby | None = None) -> None:
        self._objects = objects
        self._nearby = nearby
        self.number = 0
        self.nonce = ""
        self._lines: list[bytes] = []
        self._starts = True
        self._ahead = 1
        self._overtaken_by: list[tuple[str, bytes]] = []

    def start_after(self, number: int, nonce: str) -> None:
        """
        Go on after an entry that a snapshot ends with.

        :param number: that entry's.
        :param nonce: that entry's.
        """
        self.number, self.nonce, self._lines, self._overtaken_by = number, nonce, [], []

    @property
    def newest(self) -> str:
        """The name of the object of the entry that was read or written last."""
        return _name(_LOG, self.number)

    def append(self, at: float, changes: Mapping[str, Changes]) -> bool:
        """
        Create the next entry.

        :param at: the time by the store's clock.
        :param changes: what the transaction has changed.
        :return: whether the next entry is this one; otherwise it is another process's, and :meth:`read_known` has it.
        :raises NotAnswered: if the store does not answer. The entry may be there; who reads on will find it.
        """
        entry = Entry(uuid.uuid4().hex, self.nonce, at, changes)
        line = entry.to_line()
        body = _pack([line])
        if not self._create(_name(_LOG, self.number + 1), body, entry.nonce):
            return False
        self._go_on(entry, line)
        if self._nearby is not None:
            self._nearby.keep(self.number, body)
        if self.number % PACK == 0:
            self._make_pack()
        return True

    def read_known(self) -> Iterator[Entry]:
        """Read the entries for which the store need not be asked any more; it may have others after them."""
        yield from map(self._follow, _lines(self._overtaken_by))
        while self._nearby is not None and (body := self._nearby.read(self.number + 1)) is not None:
            try:
                (line,) = _unpack("", body)
                entry = _read_entry("", line)
            except (LogDamaged, ValueError):
                return  # the machine may have crashed while it was written
            if entry.after != self.nonce:
                return  # of another ledger, which was here before this one
            self._go_on(entry, line)
            yield entry

    def read_on(self) -> Iterator[Entry]:
        """
        Read the entries that other processes have written, until there are no more.

        :raises NotAnswered: if the store does not answer.
        :raises LogDamaged: if an entry does not follow the one before it.
        """
        # As many at once as there were last time, and some more, so that all are there with one answer.
        ahead, before = _AT_ONCE if self._starts else self._ahead, self.number
        while True:
            in_pack = self.number % PACK
            if in_pack == 0 and ahead == _AT_ONCE and (packs := self._read(_PACKS, range(PACK, 9 * PACK, PACK))):
                yield from map(self._follow, _lines(packs))
                continue
            wanted = min(ahead, PACK - in_pack)
            found = self._read_next(wanted)
            yield from map(self._follow, _lines(found))
            if len(found) < wanted:
                self._starts = False
                self._ahead = min(1 + 2 * (self.number - before), _AT_ONCE)
                return
            if self._starts and self.number % PACK == 0:
                self._make_pack()  # the process that wrote the last of its entries has not done it
            ahead = min(2 * ahead, _AT_ONCE)

    def check_start(self) -> None:
        """
        Refuse a snapshot that is not of this log, or a log whose beginning was deleted.

        :raises LogDamaged: if the entry that the snapshot ends with is missing, or is another one.
        """
        name = self.newest
        there = self._objects.read(name)
        if there is None:
            raise LogDamaged(f"{name} is missing, and there is a snapshot of it")
        if _read_entry(name, _unpack(name, there)[0]).nonce != self.nonce:
            raise LogDamaged(f"{name} is not the entry that the snapshot was made after")

    def check_end(self) -> None:
        """
        Refuse a log that goes on after a gap: to write into the gap would make two logs.

        :raises LogDamaged: if there are entries after the next one, which is missing.
        """
        beyond = self._objects.names(_LOG, after=_name(_LOG, self.number + 1))
        if beyond and self._objects.read(_name(_LOG, self.number + 1)) is None:
            raise LogDamaged(f"{_name(_LOG, self.number + 1)} is missing, and {beyond[0]} is there")

    def _create(self, name: str, body: bytes, nonce: str) -> bool:
        """Create an object; whatever the store answers, what is in the object decides whose it is."""
        for attempt in range(_ATTEMPTS):
            try:
                if self._objects.create(name, body):
                    return True
            except NotAnswered:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE * 2**attempt)
            # Others may have gone on already.
            there = self._read_next(max(self._ahead, _FEW))
            if there:
                is_own = _read_entry(name, _unpack(*there[0])[0]).nonce == nonce
                if not is_own:
                    self._overtaken_by = there
                return is_own
        raise NotAnswered(f"{name} is said to exist, and cannot be read")

    def _read_next(self, count: int) -> list[tuple[str, bytes]]:
        """Read the next entries, at most so many, and keep them for the processes of this machine."""
        found = self._read(_LOG, range(1, count + 1))
        if self._nearby is not None and not self._starts:
            for number, (_, body) in enumerate(found, self.number + 1):
                self._nearby.keep(number, body)
        return found

    def _read(self, folder: str, steps: range) -> list[tuple[str, bytes]]:
        """Read the objects at these distances from the last entry, up to the first that is missing."""
        names = [_name(folder, self.number + step) for step in steps]
        found = takewhile(lambda pair: pair[1] is not None, zip(names, self._objects.read_all(names), strict=True))
        return [(name, body) for name, body in found if body is not None]

    def _follow(self, line: bytes) -> Entry:
        entry = _read_entry(_name(_LOG, self.number + 1), line)
        if entry.after != self.nonce:
            raise LogDamaged(f"{_name(_LOG, self.number + 1)} does not follow the entry before it")
        self._go_on(entry, line)
        return entry

    def _go_on(self, entry: Entry, line: bytes) -> None:
        before = [] if self.number % PACK == 0 else self._lines
        # In this order: a thread that is interrupted here has read on, and begins anew without lines.
        self.number, self.nonce = self.number + 1, entry.nonce
        self._lines, self._overtaken_by = [*before, line], []

    def _make_pack(self) -> None:
        """Put the last hundred entries into one object, if this process has read all of them."""
        if len(self._lines) == PACK:
            with suppress(NotAnswered):  # nothing depends on it; the next process that starts makes it
                self._objects.create(_name(_PACKS, self.number), _pack(self._lines))


def _name(folder: str, number: int) -> str:
    return f"{folder}/{number:012d}"


def _pack(lines: Sequence[bytes]) -> bytes:
    return gzip.compress(b"\n".join(lines), compresslevel=6, mtime=0)


def _unpack(name: str, body: bytes) -> list[bytes]:
    try:
        return gzip.decompress(body).split(b"\n")
    except (OSError, EOFError, zlib.error):
        raise LogDamaged(f"{name} is no object of a ledger") from None


def _lines(found: Sequence[tuple[str, bytes]]) -> Iterator[bytes]:
    """Unpack objects one at a time."""
    for name, body in found:
        yield from _unpack(name, body)


def _read_entry(name: str, line: bytes) -> Entry:
    try:
        return Entry.from_line(line)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise LogDamaged(f"{name} is no entry of a ledger") from None
