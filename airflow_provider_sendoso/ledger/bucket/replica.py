"""The process's own copy of the ledger: a temporary SQLite database, whose commits go to the log first."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TypeVar

from sqlalchemy import Table
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError
from airflow_provider_sendoso.ledger.bucket import snapshots
from airflow_provider_sendoso.ledger.bucket.clock import StoreClock
from airflow_provider_sendoso.ledger.bucket.copied_table import CopiedTable
from airflow_provider_sendoso.ledger.bucket.dialect import NOW
from airflow_provider_sendoso.ledger.bucket.log import Changes, Entry, Log, LogDamaged
from airflow_provider_sendoso.ledger.bucket.nearby import Nearby
from airflow_provider_sendoso.ledger.bucket.objects import NotAnswered, Objects
from airflow_provider_sendoso.ledger.bucket.turns import Turn
from airflow_provider_sendoso.ledger.clocks import since_boot
from airflow_provider_sendoso.ledger.schema import SCHEMA_VERSION, identity

T = TypeVar("T")

_FRESH = 1.0
"""Seconds after which a transaction reads the log before it begins, because the log is likely to have grown."""

_CHANGED = "sendoso_changed"
_POSITION = "sendoso_position"
_OWN_TABLES = (
    f"CREATE TABLE IF NOT EXISTS {_POSITION} (number INTEGER NOT NULL, nonce TEXT NOT NULL)",
    f"INSERT INTO {_POSITION} SELECT 0, '' WHERE NOT EXISTS (SELECT 1 FROM {_POSITION})",
    f"CREATE TEMP TABLE {_CHANGED} (name TEXT, key TEXT, PRIMARY KEY (name, key)) WITHOUT ROWID",
)


class Behind(sqlite3.OperationalError):
    """Another process has committed first. The transaction was taken back, and has to run again on what is new."""


class ReplicaConnection(sqlite3.Connection):
    """The one connection to the database; :class:`Replica` decides what becomes of a commit."""

    before_commit: Callable[[], None] | None = None

    def commit(self) -> None:
        """
        Commit, once the log has what was changed.

        :raises Behind: if the transaction has to run again.
        :raises sqlite3.OperationalError: if the store does not answer; it may have committed.
        """
        if self.in_transaction and self.before_commit is not None:
            try:
                self.before_commit()
            except BaseException:
                self.rollback()
                raise
        super().commit()

    def close(self) -> None:
        """Take back what is open, and stay: SQLAlchemy closes a connection in which a thread was interrupted."""
        self.rollback()


class Replica:
    """
    Keeps the database and the log the same.

    The position in the log is in the database, in the same transaction as what was changed: a transaction that is
    interrupted at any step leaves a database that is behind, which the next transaction finds out.

    :param objects: the store.
    :param tables: the ledger's tables.
    :param turn: what a transaction that writes takes before it begins.
    :param nearby: where this machine's processes leave each other what they know of the log.
    """

    def __init__(self, objects: Objects, tables: Sequence[Table], turn: Turn, nearby: Nearby | None) -> None:
        self.turn = turn
        self._objects = objects
        self._tables = {table.name: CopiedTable(table) for table in tables}
        self._log = Log(objects, nearby)
        self._clock = StoreClock()
        self._read_at = self._began_at = 0.0
        self._others_write = self._overtaken = False
        self._found_something = False
        # Without a name SQLite keeps the database in a file that nobody else sees, and that is gone with the process.
        self.connection: ReplicaConnection = sqlite3.connect(
            "", check_same_thread=False, isolation_level=None, factory=ReplicaConnection, cached_statements=512
        )
        self.connection.execute("PRAGMA journal_mode = MEMORY")
        self.connection.execute("PRAGMA synchronous = OFF")  # what is lost with this process is in the log
        self.connection.create_function(NOW, 0, self._clock.now)

    def load(self, make_tables: Callable[[], None]) -> None:
        """
        Read the newest snapshot, and the log from there.

        :param make_tables: makes the tables, columns and indexes that the snapshot does not have.
        :raises SendosoLedgerError: if the store does not answer, or objects are missing.
        """
        try:
            snapshots.load(self._objects, self.connection)
            make_tables()
            for statement in _OWN_TABLES:
                self.connection.execute(statement)
            for table in self._tables.values():
                table.watch(self.connection, _CHANGED)
            loaded = self._start()
            if loaded:
                self._log.check_start()
            self._catch_up()
            self._log.check_end()
            self._found_something = self._log.number > 0
            if self.is_new:
                self._check_store()
            if self._log.number - loaded >= snapshots.EVERY and self._knows_all_columns():
                snapshots.save(self._objects, self.connection, self._log.number)
        except NotAnswered as error:
            raise _unreachable(error) from None
        except LogDamaged as error:
            raise _damaged(error) from None
        except (OSError, sqlite3.Error, SQLAlchemyError) as error:
            raise _no_room(error) from None
        self.connection.before_commit = self._publish

    def run(self, transaction: Callable[[], T], patience: float) -> T:
        """
        Run a transaction until it has seen everything that was committed before it.

        One that writes should have :attr:`turn` all the time: in between, the others of this machine would get ahead
        again.

        :param transaction: may run several times.
        :param patience: seconds after which it is not repeated any more.
        :raises sqlalchemy.exc.OperationalError: if others have committed first all that time, or the store does not
            answer.
        """
        give_up = time.monotonic() + patience
        self._overtaken = False
        while True:
            try:
                return transaction()
            except OperationalError as error:
                if not isinstance(error.orig, Behind) or time.monotonic() > give_up:
                    raise
                self._overtaken = True
            except Exception:
                if time.monotonic() > give_up or not self._was_behind():
                    raise

    def _was_behind(self) -> bool:
        """Whether the transaction that has just failed did so without what another process had committed."""
        with suppress(NotAnswered, LogDamaged):
            return self._read_at < self._began_at and self._catch_up()
        return False

    @property
    def is_new(self) -> bool:
        """Whether there was nothing in the log when it was read."""
        return not self._found_something

    @property
    def is_loaded(self) -> bool:
        """Whether commits go to the log."""
        return self.connection.before_commit is not None

    def prepare_transaction(self) -> None:
        """
        Read the log before a transaction begins, unless it was read a moment ago and no other machine was writing.

        :raises OperationalError: if the store does not answer.
        :raises SendosoLedgerError: if objects are missing in the log.
        """
        try:
            self._start()
            if self._clock.must_be_measured:
                self._began_at = since_boot()
                self._measure_clock()
                return
            knows_more = self._apply(self._log.read_known())
            if self._overtaken:
                return  # what has overtaken it was read, and it has not begun anew
            self._began_at = since_boot()
            if self._others_write or (not knows_more and self._began_at - self._read_at > _FRESH):
                self._catch_up()
        except NotAnswered as error:
            raise OperationalError("BEGIN", {}, sqlite3.OperationalError(str(error))) from None
        except LogDamaged as error:
            raise _damaged(error) from None
        except sqlite3.Error as error:
            raise OperationalError("BEGIN", {}, error) from None

    def _start(self) -> int:
        """Go on where the database is, which may be behind the log if a transaction was interrupted."""
        self.connection.rollback()  # a thread may have been interrupted before it could
        number, nonce = self.connection.execute(f"SELECT number, nonce FROM {_POSITION}").fetchone()
        if (number, nonce) != (self._log.number, self._log.nonce):
            self._log.start_after(number, nonce)
        return int(number)

    def _check_store(self) -> None:
        """
        Refuse a store that ignores the condition of a creation, as some that speak S3's protocol do: of two processes
        that commit at the same time, each would believe that it has.
        """
        name = f"probes/{uuid.uuid4().hex}"
        if not self._objects.create(name, b"first"):
            return  # proves nothing
        if self._objects.create(name, b"second") or self._objects.read(name) != b"first":
            raise SendosoConfigError(
                "The ledger's store overwrites objects that are to be created once (If-None-Match: *), so two tasks "
                "could send to the same person. It cannot have a ledger; nothing was sent. Use another store, or a "
                "database."
            )

    def _knows_all_columns(self) -> bool:
        """Whether no newer release has written the ledger: a snapshot without its columns would lose them."""
        row = self.connection.execute(f"SELECT max(tables_version) FROM {identity.name}").fetchone()
        return row[0] is not None and row[0] <= SCHEMA_VERSION

    def _publish(self) -> None:
        """Append what the running transaction has changed to the log; without changes, see that it has read all."""
        try:
            changes, sent_at = self._changes(), since_boot()
            if changes and self._log.append(self._clock.now(), changes):
                self._note_position()
                self._read_at = sent_at  # it is the next one, so nothing else was there
            elif changes:
                self._others_write = True
                raise Behind("another process has committed first")
            elif self._read_at < self._began_at:
                self.connection.rollback()
                if self._catch_up():
                    raise Behind("another process has committed first")
        except NotAnswered as error:
            raise sqlite3.OperationalError(str(error)) from None
        except LogDamaged as error:
            raise _damaged(error) from None

    def _changes(self) -> Mapping[str, Changes]:
        keys: dict[str, list[str]] = {}
        for name, key in self.connection.execute(f"SELECT name, key FROM {_CHANGED} ORDER BY name, key"):
            keys.setdefault(name, []).append(key)
        return {name: self._tables[name].changes(self.connection, those) for name, those in keys.items()}

    def _note_position(self) -> None:
        self.connection.execute(f"DELETE FROM {_CHANGED}")
        self.connection.execute(f"UPDATE {_POSITION} SET number = ?, nonce = ?", (self._log.number, self._log.nonce))

    def _measure_clock(self) -> None:
        """Append an entry without changes, and ask the store when that was."""
        while True:
            self._catch_up()
            sent_at = since_boot()
            if self._log.append(self._clock.now(), {}):
                break
        with self._transaction():
            self._note_position()
        self._clock.measure(self._objects.modified(self._log.newest), sent_at)

    def _catch_up(self) -> bool:
        """Apply what other processes have committed; return whether there was anything."""
        began = since_boot()
        self._start()
        found = self._apply(self._log.read_on())
        self._others_write &= found
        self._read_at = began
        return found

    def _apply(self, entries: Iterator[Entry]) -> bool:
        """Apply the next entries of the log; return whether there was any."""
        first = next(entries, None)
        if first is None:
            return False
        with self._transaction():
            for entry in chain((first,), entries):
                self._clock.is_at_least(entry.at)
                for name, changes in entry.changes.items():
                    if name in self._tables:  # a newer release may have more
                        self._tables[name].apply(self.connection, changes)
            self._note_position()
        return True

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.rollback()
            raise


def _unreachable(error: NotAnswered) -> SendosoLedgerError:
    return SendosoLedgerError(
        f"The ledger's bucket does not answer: {error}. Nothing is sent without it; the task can be retried once the "
        "bucket answers."
    )


def _no_room(error: Exception) -> SendosoLedgerError:
    return SendosoLedgerError(
        f"This machine's copy of the ledger (bucket) could not be read or written: {type(error).__name__}: {error}. "
        "Nothing is sent without it; the task can be retried once there is room for temporary files."
    )


def _damaged(error: LogDamaged) -> SendosoLedgerError:
    return SendosoLedgerError(
        f"Objects of the ledger in the bucket were deleted, restored in part, or are another ledger's: {error}. Who "
        "was sent a gift is not known any more, so nothing is sent. Restore the objects from their versions "
        "(docs/bucket.md)."
    )
