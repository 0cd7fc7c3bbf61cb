"""The ledger in a bucket: its real code, on objects in memory whose creations and reads the world decides about."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from airflow_provider_sendoso.ledger import Ledger, group_commit
from airflow_provider_sendoso.ledger.bucket import objects
from airflow_provider_sendoso.ledger.bucket.clock import StoreClock
from airflow_provider_sendoso.ledger.bucket.dialect import replica_of
from airflow_provider_sendoso.ledger.bucket.engine import make_engine
from airflow_provider_sendoso.ledger.bucket.replica import Replica
from airflow_provider_sendoso.ledger.group_commit import Duration
from airflow_provider_sendoso.ledger.schema import identity, metadata
from explorer.ledger import ANYWHERE, COMMITTED, Store, happen
from explorer.scheduler import EPOCH, Process
from explorer.stdlib import here

_CREATING = (*ANYWHERE, "acknowledgement lost", "write lost", "write late", "conflict", "store away")
_REQUEST = 0.05
"""Seconds of a request to the store."""


class Objects:
    """The objects of one bucket, in memory."""

    def __init__(self) -> None:
        self.bodies: dict[str, tuple[bytes, float]] = {}
        self._machine = Process("bucket")

    def create(self, name: str, body: bytes) -> bool:
        """Create an object, unless something happens to the request or to its answer."""
        if Store.paused:
            return self._create(name, body)
        world = here()
        fault = world.seam(f"create {name}", _CREATING)
        self._reach(fault)
        if fault == "conflict":
            return False  # what some clients make of a 409, which says nothing
        if fault == "write lost":
            raise objects.NotAnswered("no answer")
        if fault == "write late":
            world.spawn(self._machine, lambda: self._create(name, body), 20.0)
            world.sleep(10.0)
            raise objects.NotAnswered("no answer")
        created = self._create(name, body)
        if fault == "acknowledgement lost":
            raise objects.NotAnswered("no answer")
        if created:
            happen(world, world.seam(f"going on after {name}", COMMITTED))
        return created

    def read(self, name: str) -> bytes | None:
        """Read an object; what was created before is there (as S3, Google and Azure document it)."""
        if not Store.paused:
            # Only creations have an order; what was read too early is noticed there.
            self._reach(here().seam(f"read {name}", (*ANYWHERE, "store away"), hands_over=False))
        return self.bodies.get(name, (None,))[0]

    def read_all(self, names: Sequence[str]) -> list[bytes | None]:
        """Read objects in one go; the first of them is what a transaction depends on."""
        return [self.read(names[0]), *(self.bodies.get(name, (None,))[0] for name in names[1:])]

    def names(self, folder: str, after: str = "") -> list[str]:
        """Return the names in a folder."""
        return sorted(name for name in self.bodies if name.startswith(f"{folder}/") and name > after)

    def modified(self, name: str) -> objects.Modified:
        """Return when an object was created."""
        return objects.Modified(self.bodies[name][1], within=0.001)

    def _reach(self, fault: str) -> None:
        world = here()
        if fault == "store away":
            world.database_away_until = world.now + 90.0
        elif fault in ANYWHERE:
            happen(world, fault)
        if world.now < world.database_away_until:
            raise objects.NotAnswered("503 SlowDown")
        world.now += _REQUEST
        if world.current is not None:
            world.current.last_transaction = world.now

    def _create(self, name: str, body: bytes) -> bool:
        if name in self.bodies:
            return False
        world = None if Store.paused else here()
        self.bodies[name] = (body, EPOCH + (world.now if world else 0.0))
        if world:
            world.changes += 1
        return True


class BucketStore(Store):
    """A ledger in a bucket, with a replica for each process."""

    def __init__(self) -> None:
        self._objects = Objects()
        self._ledgers: list[Ledger] = []
        self._replicas: list[Replica] = []
        self._used = 0
        self._made: dict[object, Any] = {}
        self._empty: dict[str, tuple[bytes, float]] = {}
        self.ledger = self._open()
        self._empty = dict(self._objects.bodies)
        self._position = _position(self._replicas[0])

    def fresh(self) -> None:
        """Empty the bucket and all replicas, for a new world."""
        self._used = 0
        self._made.clear()  # a pace has slots
        group_commit._forget_all()
        self._objects.bodies = dict(self._empty)
        for replica in self._replicas:
            self._forget(replica)
        for ledger in [self.ledger, *self._ledgers]:
            Duration.__init__(ledger._database.together.takes)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Read rows, outside of any schedule."""
        Store.paused, before = True, Store.paused
        self._replicas[0]._catch_up()
        Store.paused = before
        cursor = self._replicas[0].connection.execute(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _open(self) -> Ledger:
        """Open a ledger beside the present schedule, which does not see it."""
        present = self._objects.bodies
        self._objects.bodies = dict(self._empty)
        engine = make_engine(self._objects, nullcontext)
        ledger, replica = Ledger(engine), replica_of(engine)
        assert replica is not None
        self._replicas.append(replica)
        if self._empty:
            self._forget(replica)
            self._objects.bodies = present
        return ledger

    def _forget(self, replica: Replica) -> None:
        """Empty a replica, and let it know nothing of the store's clock."""
        connection = replica.connection
        connection.execute("BEGIN")
        for table in metadata.tables.values():
            if table is not identity:
                connection.execute(f"DELETE FROM {table.name}")
        connection.execute("DELETE FROM sendoso_changed")
        connection.execute("UPDATE sendoso_position SET number = ?, nonce = ?", self._position)
        connection.execute("COMMIT")
        StoreClock.__init__(replica._clock)
        replica._read_at = replica._began_at = 0.0
        replica._others_write, replica._log._ahead = False, 1


def _position(replica: Replica) -> tuple[int, str]:
    number, nonce = replica.connection.execute("SELECT number, nonce FROM sendoso_position").fetchone()
    return number, nonce
