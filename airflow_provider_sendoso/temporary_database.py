"""The rows of one task on the worker's disk: a private database, and its errors in our words."""

from __future__ import annotations

import sqlite3
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoSpoolError


class TemporaryDatabase(sqlite3.Connection):
    """
    A database of one task: mode 0600, unlinked as soon as it is open, gone with the process.

    It has no journal, so a change that the disk has no room for cannot be undone: after that nothing in it is believed.

    :param schema: statements that make it.
    :param meanwhile: what is said of the batch when the disk fails: a sentence.
    """

    def __init__(self, schema: str, meanwhile: str) -> None:
        # An empty name is SQLite's own kind of temporary file.
        super().__init__("", isolation_level=None, check_same_thread=False)
        self._meanwhile = meanwhile
        self._failure: str | None = None
        self.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {schema}")

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """
        Run a statement.

        :raises SendosoSpoolError: when the disk fails, and whenever it has failed before.
        """
        return self._believe(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        """
        Run a statement for many rows; these must not be read from another SQLite, whose errors are not this one's.

        :raises SendosoSpoolError: when the disk fails, and whenever it has failed before.
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
