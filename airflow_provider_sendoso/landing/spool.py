"""What has to be written, on disk: a list is read for minutes, and its table is written in one short transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from airflow_provider_sendoso.landing.cells import Cell
from airflow_provider_sendoso.landing.lists import HASH
from airflow_provider_sendoso.landing.rows import LandingRow, Update
from airflow_provider_sendoso.temporary_database import TemporaryDatabase

_SCHEMA = "CREATE TABLE rows (id TEXT PRIMARY KEY, is_new INTEGER NOT NULL, row TEXT NOT NULL) WITHOUT ROWID"


@dataclass(frozen=True)
class Written:
    """A row that was put aside, with its cells by column, its hash included."""

    id: str
    cells: dict[str, Cell]
    updates: list[Update] | None

    def __repr__(self) -> str:
        return "Written(…)"


class LandingSpool:
    """The rows that are to be written, a context manager."""

    def __init__(self) -> None:
        self._db = TemporaryDatabase(_SCHEMA, "The table is as it was.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def put(self, rows: Iterable[tuple[LandingRow, str, bool]]) -> None:
        """
        Put rows aside; of two with the same id the later one counts.

        :param rows: each with its hash, and whether the table does not have it yet.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR REPLACE INTO rows (id, is_new, row) VALUES (?, ?, ?)",
            ((row.id, is_new, json.dumps([{**row.cells, HASH: digest}, row.updates])) for row, digest, is_new in rows),
        )
        self._db.execute("COMMIT")

    def counts(self) -> tuple[int, int]:
        """Count the rows that the table does not have yet, and those that it has otherwise."""
        new, changed = self._db.execute(
            "SELECT coalesce(sum(is_new), 0), coalesce(sum(1 - is_new), 0) FROM rows"
        ).fetchone()
        return int(new), int(changed)

    def rows(self) -> Iterator[Written]:
        """Read the rows back, by their ids: two tasks that lock rows in the same order do not wait for each other."""
        for row_id, text in self._db.execute("SELECT id, row FROM rows ORDER BY id"):
            cells, updates = json.loads(text)
            yield Written(row_id, cells, updates if updates is None else [tuple(update) for update in updates])
