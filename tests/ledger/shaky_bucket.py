"""A bucket in memory to which things happen, and replicas that follow it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import obstore
from obstore.store import MemoryStore
from sqlalchemy.engine import Engine

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.bucket.dialect import replica_of
from airflow_provider_sendoso.ledger.bucket.engine import make_engine
from airflow_provider_sendoso.ledger.bucket.log import Changes, Log
from airflow_provider_sendoso.ledger.bucket.objects import Bucket, NotAnswered
from airflow_provider_sendoso.ledger.bucket.replica import Replica


class ShakyBucket(Bucket):
    """
    A bucket in memory.

    ``next`` is what happens to the next creations, one after the other: ``lost`` (the request does not arrive),
    ``unacknowledged`` (the object is there, and the answer is lost), ``late`` (it arrives when :meth:`arrive` says so),
    ``conflict`` (a 409, which some clients take for "exists"), ``created``, or a function that is called before.
    ``asked`` is what was asked for.
    """

    def __init__(self) -> None:
        super().__init__(MemoryStore(), "memory:///")
        self.next: list[str | Callable[[], Any]] = []
        self.asked: list[str] = []
        self.hidden: set[str] = set()
        """Names that no list has yet."""
        self.away = False
        self._late: list[tuple[str, bytes]] = []

    def create(self, name: str, body: bytes) -> bool:
        self._ask(f"create {name}")
        happens = self.next.pop(0) if self.next else "created"
        if callable(happens):
            happens()
        elif happens == "conflict":
            return False
        elif happens == "late":
            self._late.append((name, body))
        elif happens == "unacknowledged":
            super().create(name, body)
        if happens in ("lost", "late", "unacknowledged"):
            raise NotAnswered("no answer")
        return super().create(name, body)

    def arrive(self) -> list[bool]:
        """Let late creations arrive; return whether each has created its object."""
        late, self._late = self._late, []
        return [Bucket.create(self, name, body) for name, body in late]

    def read(self, name: str) -> bytes | None:
        self._ask(f"read {name}")
        return super().read(name)

    def names(self, folder: str, after: str = "") -> list[str]:
        self._ask(f"list {folder}")
        return [name for name in super().names(folder, after) if name not in self.hidden]

    def all_names(self) -> list[str]:
        """Every object, whatever a list would say."""
        return [name for folder in ("log", "packs", "snapshots") for name in Bucket.names(self, folder)]

    def delete(self, name: str) -> None:
        """Delete an object, as a person or a lifecycle rule does."""
        obstore.delete(self._store, name)

    def put(self, name: str, body: bytes) -> None:
        """Put an object in, as a person or another program does."""
        obstore.put(self._store, name, body)

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise NotAnswered("503 SlowDown")


def write(log: Log, *values: str) -> None:
    """Append one entry for each value."""
    for value in values:
        assert log.append(0.0, entry_of(value))


def entry_of(value: str) -> dict[str, Changes]:
    """What a transaction has changed that has put in a value."""
    return {"table": Changes(["value"], [[value]], [])}


def values_of(log: Log) -> list[str]:
    """Read on, and return the values."""
    return [entry.changes["table"].rows[0][0] for entry in log.read_on()]


def open_replica(bucket: Bucket) -> tuple[Ledger, Replica]:
    """Open the ledger as another process would."""
    engine = make_engine(bucket, nullcontext)
    return Ledger(engine), of(engine)


def of(engine: Engine) -> Replica:
    """The replica of an engine."""
    replica = replica_of(engine)
    assert replica is not None
    return replica


def rows(replica: Replica, tables: Sequence[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a replica's tables, and its position, as they are without reading on."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    names = tables or [name for (name,) in replica.connection.execute(query)]
    return {name: sorted(replica.connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


def same_everywhere(bucket: Bucket, *replicas: Replica) -> dict[str, list[tuple[Any, ...]]]:
    """Let replicas read on, and see that they and a new one hold the same, at the same position; return it."""
    _, new = open_replica(bucket)
    for replica in replicas:
        replica._catch_up()
    expected = rows(new)
    assert [rows(replica) for replica in replicas] == [expected] * len(replicas)
    return expected


def interrupted(connection: sqlite3.Connection) -> bool:
    """Whether a transaction was left open."""
    return connection.in_transaction
