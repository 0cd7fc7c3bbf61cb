"""Stores the rows to write on disk, because reading takes minutes and the table is written in one short transaction."""

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
    """A stored row, with its cells by column, including its hash."""

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
        Store rows; of two with the same id, the later one counts.

        :param rows: the rows, each with its hash and with whether it is new to the table.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR REPLACE INTO rows (id, is_new, row) VALUES (?, ?, ?)",
            ((row.id, is_new, json.dumps([{**row.cells, HASH: digest}, row.updates])) for row, digest, is_new in rows),
        )
        self._db.execute("COMMIT")

    def counts(self) -> tuple[int, int]:
        """Count the rows that are new to the table, and those that have changed."""
        new, changed = self._db.execute(
            "SELECT coalesce(sum(is_new), 0), coalesce(sum(1 - is_new), 0) FROM rows"
        ).fetchone()
        return int(new), int(changed)

    def rows(self) -> Iterator[Written]:
        """Read the rows in the order of their ids, so that tasks lock them in the same order and cannot deadlock."""
        for row_id, text in self._db.execute("SELECT id, row FROM rows ORDER BY id"):
            cells, updates = json.loads(text)
            yield Written(row_id, cells, updates if updates is None else [tuple(update) for update in updates])
