"""The searches for a scope's sends of unknown outcome, so that one walk through Sendoso's list serves several tasks."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sendoso.ledger.cursors import Cursors, Kept

_LEASE = 60.0
"""Seconds without a page after which a search counts as dead."""


@dataclass(frozen=True)
class Look:
    """
    The last search through one list, for one scope and by one client, as the ledger stores it.

    :param began_ago: seconds since it began, on the database's clock; ``None`` if there was none.
    :param busy: whether a process is searching at this moment.
    :param looked_for: the sends that it looked for, by their keys, with the attempt that each had.
    :param settled: keys of those that were settled when it began, and of which absence was to be proven.
    :param absent: keys of those that are proven absent: two complete lists, both begun after the settle time.
    :param settled_after: seconds after its POST from which it took a send for settled.
    """

    kept: Kept = field(repr=False)
    began_ago: float | None = None
    busy: bool = False
    looked_for: Mapping[str, int] = field(default_factory=dict)
    settled: Collection[str] = ()
    absent: Collection[str] = ()
    settled_after: float = 0.0


class Looks:
    """
    Stores the last search for each scope, list and client, and lets one process at a time search.

    :param cursors: where they are stored.
    """

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    def last(self, name: str) -> Look:
        """
        Read the last search.

        :param name: of scope, list and client.
        """
        kept = self._cursors.read(f"look:{name}")
        if kept.text is None:
            return Look(kept)
        told = json.loads(kept.text)
        if told["by"] is not None:
            return Look(kept, busy=kept.age < _LEASE)
        return Look(
            kept,
            kept.age + told["took"],
            looked_for=told["looked_for"],
            settled=told["settled"],
            absent=told["absent"],
            settled_after=told["settled_after"],
        )

    def begin(self, name: str, last: Look) -> Turn | None:
        """
        Begin a search.

        :param name: of scope, list and client.
        :param last: the last search as it was read.
        :return: ``None`` if another process has begun one meanwhile.
        """
        turn = Turn(self._cursors, f"look:{name}", last.kept.version)
        return turn if turn.keep(now=True) else None


class Turn:
    """
    The right to search, which a process keeps while it reads pages.

    :param cursors: where it is stored.
    :param name: the cursor.
    :param version: the cursor's version as it was read.
    """

    def __init__(self, cursors: Cursors, name: str, version: int) -> None:
        self._cursors = cursors
        self._name = name
        self._version = version
        self._id = uuid.uuid4().hex
        self._began = time.monotonic()
        self._kept_at = 0.0

    def keep(self, *, now: bool = False) -> bool:
        """
        Keep the right, if that is due.

        :param now: whether it is due.
        :return: ``False`` if it is lost, because this process has read no page for too long.
        """
        if not now and time.monotonic() - self._kept_at < _LEASE / 4:
            return True
        self._kept_at = time.monotonic()
        return self._write({"by": self._id, "at": self._kept_at})

    def end(
        self,
        looked_for: Mapping[str, int],
        settled: Collection[str] = (),
        absent: Collection[str] = (),
        settled_after: float = 0.0,
    ) -> None:
        """
        End the search; a search that has failed has looked for nothing.

        :param looked_for: as in :class:`Look`, as the other arguments are.
        """
        self._write(
            {
                "by": None,
                "took": round(time.monotonic() - self._began, 3),
                "looked_for": dict(looked_for),
                "settled": sorted(settled),
                "absent": sorted(absent),
                "settled_after": settled_after,
            }
        )

    def _write(self, told: Mapping[str, Any]) -> bool:
        written = self._cursors.write(self._name, self._version, json.dumps(told, separators=(",", ":")))
        self._version += written
        return written
