"""
A sketch of a set of rows: of a fixed size, and enough to say in which few rows two sets differ.

It is an invertible Bloom lookup table (Goodrich and Mitzenmacher, 2011): each row is added to three cells, and the
difference of two sketches is taken apart from the cells that hold a single row.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field
from typing import Self

_CELLS = 11
"""
Cells in each of three parts, so that about twenty rows that were added or taken out can be told, and half as many
changed ones. With the hash of a fingerprint the text keeps within what an argument of an operator may have.
"""
_ROW = 12
"""Bytes of a row: eight of its key, four of its content."""
_CELL = struct.Struct(f"<i{_ROW}sI")


@dataclass(frozen=True)
class Differences:
    """
    In which rows a set differs from an earlier one; each row by its key, 16 hexadecimal digits.

    :param new: keys that the earlier set does not have.
    :param gone: keys that only the earlier set has.
    :param changed: keys of both, with another content.
    """

    new: set[str]
    gone: set[str]
    changed: set[str]


@dataclass
class Sketch:
    """
    The sketch of a set of rows; the order in which they are added does not matter.

    :param cells: of each its number of rows, and the XOR of the rows and of their hashes.
    """

    cells: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, 0, 0)] * 3 * _CELLS)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(count for count, _, _ in self.cells) // 3

    def add(self, key: str, content: str, times: int = 1) -> None:
        """
        Add a row.

        :param key: of the row, at least 16 hexadecimal digits.
        :param content: a hash of what it holds, at least 8 hexadecimal digits.
        :param times: -1 takes the row out.
        """
        self._add(int(key[:16] + content[:8], 16), times)

    def dump(self) -> str:
        """Write the sketch as text."""
        cells = (_CELL.pack(count, row.to_bytes(_ROW, "big"), check) for count, row, check in self.cells)
        return base64.urlsafe_b64encode(b"".join(cells)).decode()

    @classmethod
    def load(cls, text: str) -> Self | None:
        """
        Read a sketch; ``None`` for a text that is none.

        :param text: of :meth:`dump`.
        """
        try:
            data = base64.urlsafe_b64decode(text)
            cells = [(count, int.from_bytes(row, "big"), check) for count, row, check in _CELL.iter_unpack(data)]
        except (ValueError, struct.error):
            return None
        return cls(cells) if len(cells) == 3 * _CELLS else None

    def since(self, before: Sketch) -> Differences | None:
        """
        Say in which rows this set differs from an earlier one; ``None`` if in too many.

        :param before: the earlier one.
        """
        pairs = zip(self.cells, before.cells, strict=True)
        left = Sketch([(n - m, row ^ other, check ^ checked) for (n, row, check), (m, other, checked) in pairs])
        only: dict[int, set[int]] = {1: set(), -1: set()}
        while single := next((cell for cell in left.cells if abs(cell[0]) == 1 and cell[2] == _check(cell[1])), None):
            count, row, _ = single
            only[count].add(row)
            left._add(row, -count)
        if any(cell != (0, 0, 0) for cell in left.cells):
            return None
        now, then = ({f"{row >> 32:016x}" for row in only[sign]} for sign in (1, -1))
        return Differences(now - then, then - now, now & then)

    def _add(self, row: int, times: int) -> None:
        check = _check(row)
        digest = hashlib.sha256(row.to_bytes(_ROW, "big")).digest()
        for part in range(3):
            place = part * _CELLS + digest[part] % _CELLS
            count, rows, checks = self.cells[place]
            self.cells[place] = (count + times, rows ^ row, checks ^ check)


def _check(row: int) -> int:
    return int.from_bytes(hashlib.sha256(b"check" + row.to_bytes(_ROW, "big")).digest()[:4], "big")
