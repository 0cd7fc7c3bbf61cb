"""The ledger's database: short transactions, repeated after a deadlock or a lost connection; its errors become ours."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import inspect, select, text, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.schema import Table
from sqlalchemy.sql.dml import Update
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError
from airflow_provider_sendoso.ledger import schema
from airflow_provider_sendoso.ledger.bucket.dialect import replica_of
from airflow_provider_sendoso.ledger.group_commit import GroupCommit, NotTogether
from airflow_provider_sendoso.ledger.outages import Outages
from airflow_provider_sendoso.ledger.server_checks import check_server
from airflow_provider_sendoso.ledger.sessions import prepare
from airflow_provider_sendoso.ledger.upgrades import make_missing

T = TypeVar("T")
Moved = tuple[Update, Mapping[str, Any]]
"""An update of one row, and its values."""

PATIENCE = 10.0
"""Seconds for which a transaction is repeated after a deadlock, a lock time-out or a lost connection."""

_OPEN_PATIENCE = 2.0
"""The same for opening the ledger: there, a missing database is more likely than a busy one."""

_NOT_HERE = {
    schema.MOVED: (
        "This ledger was moved to another store (airflow sendoso ledger copy): what is sent is remembered there. Let "
        "the ledger's connection lead there. Nothing was sent."
    ),
    schema.COPYING: (
        "This ledger is being copied from another store, and does not know everybody yet. Run airflow sendoso ledger "
        "copy again, until it says that the ledger is open. Nothing was sent."
    ),
}
_SINCE_VERSION_1 = (schema.identity.c.schema_version, schema.identity.c.ledger_uuid, schema.identity.c.hash_key)
_CREATE_LOCK = 0x53454E44  # any number, the same in every process
_CREATE_PATIENCE_S = 10
_TRANSIENT = (OperationalError, InternalError, InterfaceError)
_POSTGRESQL_NO_RIGHT = ("42501", "3F000")
"""No right to a table or schema; no right to any schema of the search path."""
_MYSQL_NO_RIGHT = frozenset({1044, 1142, 1143})
"""No right to a database, a table, a column."""
_MYSQL_TRANSIENT = frozenset({1020, 1205, 1213})
"""Row changed since it was read, lock time-out, deadlock: one MySQL driver has no error class for them."""


@dataclass(frozen=True)
class Identity:
    """
    The identity of this ledger.

    :param ledger_uuid: the id of the ledger, which a copy on another host does not share.
    :param hash_key: the random key of all hashes in it.
    """

    ledger_uuid: str
    hash_key: bytes = field(repr=False)

    def digest(self, *parts: str) -> str:
        """
        Return a hash from which nobody who reads the ledger can learn the values.

        :param parts: the values; two different lists never give the same hash.
        :return: 64 hexadecimal digits.
        """
        message = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self.hash_key, message.encode(), hashlib.sha256).hexdigest()


class Database:
    """
    Runs transactions on the ledger's engine.

    :param engine: PostgreSQL, MySQL, MariaDB or SQLite, with ``hide_parameters``.
    :raises SendosoConfigError: for any other database, and for a SQLite one that would not outlive the process.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        self._replica = replica_of(engine)
        # SQLite lets one writer work, and the others sleep longer and longer. So the threads of a process take turns.
        self._turn: AbstractContextManager[Any] = threading.Lock() if self.dialect == "sqlite" else nullcontext()
        self._machine = nullcontext if self._replica is None else self._replica.turn
        self.together = GroupCommit(self.in_turn, self._machine, update_each)
        """Runs work of several threads in one transaction."""
        self.outages = Outages()
        prepare(engine)

    def run(
        self, work: Callable[[Connection], T], patience: float = PATIENCE, first: Callable[[], T] | None = None
    ) -> T:
        """
        Run one transaction, and repeat it if the database could not finish it.

        :param work: may run several times, and must then find what an earlier run committed.
        :param patience: seconds for which the transaction is repeated.
        :param first: the function that runs ``work`` the first time, instead of :meth:`once`.
        :raises SendosoLedgerError: if the transaction still fails when ``patience`` is over.
        """
        try:
            return first() if first else self.once(work)
        except SQLAlchemyError as error:
            if not _is_transient(error):
                raise self._error(error) from None
            # rare, so the retries are set up only now
        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_delay(patience),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            before_sleep=lambda state: self._say_waiting(),
            reraise=True,
        )
        try:
            with self.outages.waiting(patience):
                result: T = retrying(self.once, work)
        except SQLAlchemyError as error:
            raise self._error(error) from None
        return result

    def read(self, work: Callable[[Connection], T], patience: float = PATIENCE) -> T:
        """
        Run a transaction that writes nothing; it waits for no other process, unless it has to be repeated.

        :param work: as for :meth:`run`.
        :param patience: as for :meth:`run`.
        :raises SendosoLedgerError: as :meth:`run`.
        """
        return self.run(work, patience, lambda: self.in_turn(work))

    def run_together(
        self, work: Callable[[Connection], T], row: str, patience: float = PATIENCE, moved: Moved | None = None
    ) -> T:
        """
        Run a transaction, perhaps together with those of other threads.

        :param work: as for :meth:`run`.
        :param row: as for :meth:`GroupCommit.once`.
        :param patience: as for :meth:`run`.
        :param moved: the one update that the work consists of, if it hits its row.
        :raises SendosoLedgerError: as :meth:`run`.
        """
        return self.run(work, patience, lambda: self.together.once(work, row, moved))

    def _say_waiting(self) -> None:
        # Log lines come from the run's own thread only, which also logs for the threads that post.
        if threading.current_thread() is threading.main_thread():
            self.outages.say()

    def once(self, work: Callable[[Connection], T]) -> T:
        """
        Run one transaction once, and raise the database's errors as they are.

        :param work: the statements of the transaction.
        """
        with self._machine():
            return self.in_turn(work)

    def in_turn(self, work: Callable[[Connection], T]) -> T:
        """
        As :meth:`once`, for a caller that has the turn of this machine's processes, or writes nothing.

        :param work: the statements of the transaction.
        """

        def transaction() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        with self._turn:
            return transaction() if self._replica is None else self._replica.run(transaction, PATIENCE)

    def insert_ignore(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """
        Insert those rows whose key is not in the table yet.

        :param connection: of the running transaction.
        :param table: a table with a primary key.
        :param rows: the rows, in the order of their keys, so that two transactions do not deadlock.
        """
        insert: Any
        if self.dialect == "mysql":
            # An update that sets the key to itself: INSERT IGNORE would also ignore values that do not fit.
            key = next(iter(table.primary_key))
            insert = mysql.insert(table).on_duplicate_key_update({key.name: key})
        elif self.dialect == "postgresql":
            insert = postgresql.insert(table).on_conflict_do_nothing()
        else:
            insert = sqlite.insert(table).on_conflict_do_nothing()
        connection.execute(insert, list(rows))

    def open(self) -> Identity:
        """
        Create the missing tables, and return the identity of the ledger.

        :raises SendosoConfigError: for a ledger that a newer version of this provider has written.
        """
        identity = self.run(self._open, _OPEN_PATIENCE)
        # The lock is the first statement of its own transaction, so that a process that waits for it locks no table.
        return identity or self.run(self._upgrade)

    @property
    def _what_to_grant(self) -> str:
        return (
            f"Grant what `airflow sendoso ledger ddl --dialect {self.dialect} --grants` prints, after a role that may "
            "make the tables has opened the ledger once: AIRFLOW_CONN_SENDOSO_LEDGER='…' airflow sendoso ledger list."
        )

    def _error(self, error: SQLAlchemyError) -> SendosoLedgerError:
        if _lacks_right(error):
            return SendosoLedgerError(
                f"The role of the ledger's connection lacks a right ({_first_line(error)}). Nothing is sent without "
                f"it. {self._what_to_grant}"
            )
        store, kind = ("bucket", "bucket") if self._replica else ("database", self.dialect)
        return SendosoLedgerError(
            f"The ledger ({kind}) could not be read or written: {_first_line(error)}. Nothing is sent without it; the "
            f"task can be retried once the {store} answers."
        )

    def _open(self, connection: Connection) -> Identity | None:
        """Return the ledger's identity, created if it is missing; ``None`` if the tables must be upgraded first."""
        known = inspect(connection).has_table(schema.identity.name)
        row = connection.execute(select(*_SINCE_VERSION_1)).first() if known else None
        if row is None:
            with self._rights_to_make("is not there yet"):
                self._create(connection)
            row = connection.execute(select(*_SINCE_VERSION_1)).one()
        if self._tables_version(connection, row.schema_version) < schema.SCHEMA_VERSION:
            return None
        if row.schema_version in _NOT_HERE:
            raise SendosoConfigError(_NOT_HERE[row.schema_version])
        if row.schema_version > schema.SCHEMA_VERSION:
            raise SendosoConfigError(
                f"The ledger has schema version {row.schema_version}; this version of airflow-provider-sendoso knows "
                f"{schema.SCHEMA_VERSION}. Upgrade the provider here as well; nothing was sent."
            )
        check_server(connection)
        return Identity(row.ledger_uuid, bytes.fromhex(row.hash_key))

    def _create(self, connection: Connection) -> None:
        self._one_at_a_time(connection)
        schema.metadata.create_all(connection)
        now = connection.execute(select(schema.db_now())).scalar_one()
        new = {
            "id": 1,
            "schema_version": schema.USABLE_SINCE,
            "tables_version": schema.SCHEMA_VERSION,
            "ledger_uuid": str(uuid.uuid4()),
            "hash_key": secrets.token_hex(32),
            "created_at": now,
        }
        self.insert_ignore(connection, schema.identity, [new])

    @contextmanager
    def _rights_to_make(self, what: str) -> Iterator[None]:
        """Return an error that names the commands for a DBA, where the role may not create or alter tables."""
        try:
            yield
        except DBAPIError as error:
            if not _lacks_right(error):
                raise
            raise SendosoConfigError(
                f"The ledger {what}, and the role of its connection may not make or alter tables "
                f"({_first_line(error)}). Nothing was sent. {self._what_to_grant}"
            ) from None

    def _upgrade(self, connection: Connection) -> Identity:
        """Add the columns and tables of newer versions, and return the ledger's identity; no stored row is changed."""
        with self._rights_to_make(f"is older than version {schema.SCHEMA_VERSION} of its tables"):
            self._add_what_is_new(connection)
        identity = self._open(connection)
        assert identity is not None  # noqa: S101 - its tables are of this version now
        return identity

    def _add_what_is_new(self, connection: Connection) -> None:
        self._one_at_a_time(connection)
        usable_since = connection.execute(select(schema.identity.c.schema_version)).scalar_one()
        found = self._tables_version(connection, usable_since)
        make_missing(connection, since=found)
        if found < schema.SCHEMA_VERSION:
            usable = max(usable_since, schema.USABLE_SINCE)
            connection.execute(
                update(schema.identity).values(schema_version=usable, tables_version=schema.SCHEMA_VERSION)
            )

    def _tables_version(self, connection: Connection, schema_version: int) -> int:
        """Read the version of the tables; before version 5 there was one number for both versions."""
        columns = {column["name"] for column in inspect(connection).get_columns(schema.identity.name)}
        if schema.identity.c.tables_version.name not in columns:
            return schema_version
        return connection.execute(select(schema.identity.c.tables_version)).scalar() or schema_version

    def _one_at_a_time(self, connection: Connection) -> None:
        """Let one process change the tables while the others wait here; on SQLite the transaction is the lock."""
        if self.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})
        elif self.dialect == "mysql":
            # On MySQL every change of a table commits. The lock belongs to the connection, which is closed after use.
            connection.detach()
            connection.execute(text(f"SELECT GET_LOCK('{schema.identity.name}', {_CREATE_PATIENCE_S})"))


def update_each(connection: Connection, moves: Sequence[Moved]) -> Sequence[bool]:
    """
    Update a row with each of some values, in one call of the driver.

    :param connection: of the running transaction.
    :param moves: the update, which has to be the same for all, and the values of each.
    :return: ``True`` for each.
    :raises NotTogether: if not each of them has updated one row.
    """
    statement = moves[0][0]
    if any(other is not statement for other, _ in moves):
        raise NotTogether
    if connection.execute(statement, [values for _, values in moves]).rowcount != len(moves):
        raise NotTogether
    return [True] * len(moves)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, SQLAlchemyError) and _lacks_right(error):
        return False  # one MySQL driver raises it as an OperationalError
    if isinstance(error, _TRANSIENT):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or _mysql_code(error) in _MYSQL_TRANSIENT


def _lacks_right(error: SQLAlchemyError) -> bool:
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state in _POSTGRESQL_NO_RIGHT or _mysql_code(error) in _MYSQL_NO_RIGHT


def _mysql_code(error: SQLAlchemyError) -> object:
    return next(iter(getattr(getattr(error, "orig", None), "args", ())), None)


def _first_line(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
