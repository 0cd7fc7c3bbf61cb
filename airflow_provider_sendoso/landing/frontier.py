"""How far a list has to be read until all that may have changed was seen. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Landed:
    """
    What a table has of a list of sends.

    :param newest: when the newest of them was made; ``None`` where there is none, or that is not known.
    :param oldest_open: when the oldest was made whose status may still change.
    :param open_undated: whether there is one that may still change, and nobody knows when it was made.
    """

    newest: datetime | None = None
    oldest_open: datetime | None = None
    open_undated: bool = False


class Frontier:
    """
    Watches a list go by, and says when the rest of it has been landed and cannot have changed.

    The list is taken to be newest first (inferred), and no longer than it looks like it. So it may be left when

    - each row was made no later than the one before, one of them earlier, and the first no earlier than all that is
      landed;
    - a whole page held nothing that is new or has changed;
    - it has gone past the oldest send whose status may still change.

    A list in any other order is read to its end.

    :param landed: before this reading.
    """

    def __init__(self, landed: Landed) -> None:
        self._landed = landed
        self._newest_first = landed.newest is not None and not landed.open_undated
        self._first: datetime | None = None
        self._last: datetime | None = None

    def passed(self, made: Iterable[datetime | None], *, unchanged: bool) -> bool:
        """
        Take a page, and say whether what comes after it need not be read.

        :param made: when its sends were made, in their order.
        :param unchanged: whether each of them is in the table as it is.
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
