"""Decides how far a list must be read until all rows that may have changed were seen. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Landed:
    """
    The sends that a table holds.

    :param newest: creation time of the newest send; ``None`` if there is none, or if the time is not known.
    :param oldest_open: creation time of the oldest send whose status may still change.
    :param open_undated: whether a send that may still change has no known creation time.
    """

    newest: datetime | None = None
    oldest_open: datetime | None = None
    open_undated: bool = False


class Frontier:
    """
    Follows a list page by page, and decides when the remaining rows are in the table and cannot have changed.

    The list is assumed to be newest first (inferred), as long as its rows agree. Reading may stop when

    - each row was made no later than the one before, one of them earlier, and the first no earlier than all that is
      landed;
    - a whole page held nothing that is new or has changed;
    - it has gone past the oldest send whose status may still change.

    A list in any other order is read to its end.

    :param landed: the sends in the table before this reading.
    """

    def __init__(self, landed: Landed) -> None:
        self._landed = landed
        self._newest_first = landed.newest is not None and not landed.open_undated
        self._first: datetime | None = None
        self._last: datetime | None = None

    def passed(self, made: Iterable[datetime | None], *, unchanged: bool) -> bool:
        """
        Process a page, and return whether the remaining pages need not be read.

        :param made: creation times of the page's sends, in the list's order.
        :param unchanged: whether all of them are in the table unchanged.
        """
        for moment in made:
            self._see(moment)
        if not (self._newest_first and unchanged) or self._first is None or self._last is None:
            return False
        oldest = self._landed.oldest_open
        return self._last < self._first and (oldest is None or self._last < oldest)

    def _see(self, moment: datetime | None) -> None:
        if moment is None or not self._newest_first:
            self._newest_first = False
            return
        if self._first is None or self._last is None:
            self._first = self._last = moment
            self._newest_first = self._landed.newest is not None and moment >= self._landed.newest
        self._newest_first = self._newest_first and moment <= self._last
        self._last = moment
