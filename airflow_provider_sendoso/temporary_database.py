"""A private SQLite database for the rows of one task on the worker's disk, which reports a full disk clearly."""

from __future__ import annotations

import sqlite3
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoSpoolError


class TemporaryDatabase(sqlite3.Connection):
    """
    A database of one task: mode 0600, unlinked as soon as it is open, deleted when the process ends.

    It has no journal, so a failed write cannot be rolled back; after a failure, every later statement raises the same
    error.

    :param schema: the statements that create its tables.
    :param meanwhile: a sentence on the state of the batch, which is added to the error when the disk fails.
    """

    def __init__(self, schema: str, meanwhile: str) -> None:
        # SQLite makes a temporary file for an empty name.
        super().__init__("", isolation_level=None, check_same_thread=False)
        self._meanwhile = meanwhile
        self._failure: str | None = None
        self.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {schema}")

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """
        Run a statement.

        :raises SendosoSpoolError: if the disk fails, or has failed before.
        """
        return self._believe(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        """
        Run a statement for many rows. Do not read the rows from another SQLite database: its errors would count as
        ours.

        :raises SendosoSpoolError: if the disk fails, or has failed before.
        """
        return self._believe(super().executemany, *arguments)

    def _believe(self, run: Any, *arguments: Any) -> sqlite3.Cursor:
        if self._failure is None:
            try:
                cursor: sqlite3.Cursor = run(*arguments)
            except sqlite3.OperationalError as error:
                self._failure = str(error)
            else:
                return cursor
        raise SendosoSpoolError(
            f"The worker's temporary disk could not keep the rows: {self._failure}. {self._meanwhile} Make room in the "
            "folder that SQLITE_TMPDIR or TMPDIR names, or name another one, and retry the task."
        )
