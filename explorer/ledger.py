"""The ledger's real SQL on an SQLite database in memory, whose transactions begin and end when the world says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from airflow_provider_sendoso.ledger import Ledger, group_commit
from airflow_provider_sendoso.ledger.schema import identity, metadata
from explorer.scheduler import EPOCH, World
from explorer.stdlib import here

SHORT = 130.0
"""Seconds: longer than any lease, shorter than the settle time."""
NAP = 35.0
"""Seconds: shorter than the time that a POST may begin after its commit."""
LONG = 1500.0
"""Seconds: longer than lease and settle time together."""

_STOPPED = ("frozen", "frozen for long", "machine asleep", "machine asleep for long")
"""What a process does not notice by itself."""

COMMITTED = (*_STOPPED, "machine asleep for a moment")
"""What can happen to it when it goes on after a commit."""

_CLOCK, _DATABASES_CLOCK = "clock set an hour ahead", "database's clock set an hour ahead"

ANYWHERE = ("killed", *_STOPPED, _CLOCK)
"""What can happen to a process at each seam."""

_BEFORE = (*ANYWHERE, "database restarts", "database away", _DATABASES_CLOCK)
_AFTER = ("acknowledgement lost", *COMMITTED)

_IN_IT, _AT_COMMIT, _COMMITTED = (
    "database restarts in a transaction",
    "database restarts at a commit",
    "database restarts after a commit",
)
RESTARTS = (_IN_IT, _AT_COMMIT, _COMMITTED)
"""What can happen to a transaction that takes time; after the last one it is committed, and nobody is told."""

OUTLASTED = ("acknowledgement lost", "database restarts", *RESTARTS)
"""What of the database every commit of an outcome outlasts."""

_LOST = "server closed the connection unexpectedly"
_MOVES_A_SEND = "UPDATE sendoso_sends SET state="


def happen(world: World, fault: str) -> None:
    """Let a fault that can happen anywhere happen to the process that is going."""
    match fault:
        case "killed":
            world.kill(world.process)
        case "frozen":
            world.freeze(SHORT, suspend=False)
        case "frozen for long":
            world.freeze(LONG, suspend=False)
        case "machine asleep":
            world.freeze(SHORT, suspend=True)
        case "machine asleep for a moment":
            world.freeze(NAP, suspend=True)
        case "machine asleep for long":
            world.freeze(LONG, suspend=True)
        case "clock set an hour ahead":
            world.process.clock_jump += 3600.0
            world.impossible.add(_DATABASES_CLOCK)  # of two clocks that jump together, nothing is promised
        case "database's clock set an hour ahead":
            world.db_jump += 3600.0
            world.impossible.add(_CLOCK)


class _Connection(sqlite3.Connection):
    """One connection for all processes: transactions are atomic, as no thread hands over within one."""

    changes = 0
    statement = ""

    def commit(self) -> None:
        wrote = self.total_changes > self.changes
        if wrote and not _paused(self) and _restarts("the commit", _AT_COMMIT):
            super().rollback()
            raise sqlite3.OperationalError(_LOST)
        super().commit()
        self.changes = self.total_changes
        if not wrote or _paused(self):
            return
        world = here()
        world.changes += 1
        world.on_commit()
        fault = world.seam("going on after the commit", (*_AFTER, *((_COMMITTED,) if world.transaction else ())))
        if fault == _COMMITTED:
            _restart(world)
        if fault in ("acknowledgement lost", _COMMITTED):
            raise sqlite3.OperationalError(_LOST)
        happen(world, fault)


def _paused(connection: Any) -> bool:
    return bool(Store.paused)


def _restart(world: World) -> None:
    world.database_away_until = world.now + 3.0


def _restarts(where: str, fault: str) -> bool:
    """Return whether the database restarts within the transaction that is going, and so takes it back."""
    world = here()
    if not world.transaction or not world.seam(where, (fault,), hands_over=False):
        return False
    _restart(world)
    return True


class Store:
    """
    The database, and a ledger on it for each process.

    A ledger is opened once and used by one process of each schedule, because opening one takes longer than a schedule.
    """

    paused = True
    """Whether transactions are the explorer's own, which are no part of a schedule."""

    def __init__(self) -> None:
        self._connection: Any = sqlite3.connect(
            ":memory:", check_same_thread=False, factory=_Connection, cached_statements=512
        )
        self._connection.create_function("julianday", 1, _julian_day)
        self._ledgers: list[Ledger] = []
        self._used = 0
        self._made: dict[object, Any] = {}
        self.ledger = self._open()

    def fresh(self) -> None:
        """Empty the database, for a new world."""
        self._used = 0
        group_commit._forget_all()
        self._connection.execute("BEGIN")
        for table in metadata.tables.values():
            if table is not identity:
                self._connection.execute(f"DELETE FROM {table.name}")
        sqlite3.Connection.commit(self._connection)

    def for_process(self) -> Ledger:
        """Return the ledger of a new process."""
        if self._used == len(self._ledgers):
            Store.paused, before = True, Store.paused
            self._ledgers.append(self._open())
            Store.paused = before
        self._used += 1
        return self._ledgers[self._used - 1]

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        """Make what belongs to a ledger once, for all schedules: to build its statements takes long."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Read rows, outside of any schedule."""
        cursor = self._connection.execute(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _open(self) -> Ledger:
        # A path, because the ledger refuses a database in memory; there is no file.
        engine = create_engine("sqlite:////explorer/ledger.db", creator=lambda: self._connection, poolclass=StaticPool)

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            if Store.paused:
                return
            world = here()
            fault = world.seam("a transaction", _BEFORE)
            if fault == "database restarts":
                _restart(world)
            elif fault == "database away":
                world.database_away_until = world.now + 90.0
            else:
                happen(world, fault)
            if world.transaction:
                world.wait(world.transaction)
            if world.now < world.database_away_until:
                raise OperationalError("BEGIN", {}, sqlite3.OperationalError("the database system is starting up"))
            world.now += 0.001
            if world.current is not None:
                world.current.last_transaction = world.now
            self._connection.changes = self._connection.total_changes

        @event.listens_for(engine, "before_cursor_execute")
        def before_execution(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
            # A restart anywhere else in a transaction comes to the same as one before it, or at its commit.
            if not Store.paused and statement.startswith(_MOVES_A_SEND) and _restarts("moving a send", _IN_IT):
                raise OperationalError(statement, {}, sqlite3.OperationalError(_LOST))

        return Ledger(engine)


def _julian_day(moment: str) -> float:
    """Stand in for SQLite's own: the world's clock."""
    from explorer.stdlib import _Here

    world = _Here.world
    return 2440587.5 + (EPOCH + (world.now + world.db_jump if world else 0.0)) / 86400.0
