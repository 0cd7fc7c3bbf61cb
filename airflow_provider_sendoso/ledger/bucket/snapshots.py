"""Snapshots: the whole database in one object, so that a new process does not read the log from its beginning."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
import zlib
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_sendoso.ledger.bucket.log import LogDamaged
from airflow_provider_sendoso.ledger.bucket.objects import NotAnswered, Objects

_FOLDER = "snapshots"

EVERY = 2_000
"""Entries after the newest snapshot from which on a process that starts makes the next one."""


def load(objects: Objects, connection: sqlite3.Connection) -> None:
    """
    Fill an empty database from the newest snapshot, if there is one.

    :param objects: the store.
    :param connection: to the database.
    :raises NotAnswered: if the store does not answer.
    :raises LogDamaged: if the object is no snapshot.
    """
    names = objects.names(_FOLDER)
    body = objects.read(names[-1]) if names else None
    if body is None:
        return
    with TemporaryDirectory(prefix="sendoso-ledger-") as folder:
        file = Path(folder, "snapshot.db")
        try:
            with gzip.open(BytesIO(body)) as source, file.open("wb") as target:
                shutil.copyfileobj(source, target)
            with closing(sqlite3.connect(file)) as snapshot:
                snapshot.execute("PRAGMA schema_version")
                snapshot.backup(connection)
        except (gzip.BadGzipFile, EOFError, zlib.error, sqlite3.DatabaseError):
            raise LogDamaged(f"{names[-1]} is no snapshot of a ledger") from None


def save(objects: Objects, connection: sqlite3.Connection, number: int) -> None:
    """
    Make a snapshot; nothing depends on it, so a store that does not answer, or a full disk, does not matter.

    :param objects: the store.
    :param connection: to the database, without a transaction.
    :param number: the entry of the log after which the database is.
    """
    with suppress(NotAnswered, OSError, sqlite3.Error), TemporaryDirectory(prefix="sendoso-ledger-") as folder:
        file, packed = Path(folder, "snapshot.db"), Path(folder, "snapshot.gz")
        with closing(sqlite3.connect(file)) as snapshot:
            connection.backup(snapshot)
            snapshot.execute("VACUUM")
        with file.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target)
        objects.create(f"{_FOLDER}/{number:012d}", packed.read_bytes())
