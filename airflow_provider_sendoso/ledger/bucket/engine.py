"""SQLAlchemy's engine for a ledger in a bucket: that of SQLite, on a replica."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger import schema
from airflow_provider_sendoso.ledger.bucket.dialect import DRIVER
from airflow_provider_sendoso.ledger.bucket.nearby import Nearby
from airflow_provider_sendoso.ledger.bucket.objects import Objects
from airflow_provider_sendoso.ledger.bucket.replica import Replica
from airflow_provider_sendoso.ledger.bucket.turns import Turn
from airflow_provider_sendoso.ledger.upgrades import make_missing


def make_engine(objects: Objects, turn: Turn = nullcontext, nearby: Nearby | None = None, **options: Any) -> Engine:
    """
    Make the engine of a ledger in a bucket, and read the ledger.

    :param objects: the store.
    :param turn: what a transaction that writes takes before it begins; see :class:`MachineTurn`.
    :param nearby: where this machine's processes leave each other what they know of the log.
    :param options: further ones for SQLAlchemy.
    :raises SendosoLedgerError: if the store does not answer, or objects are missing in it.
    """
    replica = Replica(objects, list(schema.metadata.tables.values()), turn, nearby)
    engine = create_engine(f"sqlite+{DRIVER}://", creator=lambda: replica.connection, poolclass=StaticPool, **options)

    engine.dialect.replica = replica  # type: ignore[attr-defined]
    process = os.getpid()

    def make_tables() -> None:
        with engine.begin() as connection:
            make_missing(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if os.getpid() != process:
            raise SendosoLedgerError(
                "A ledger in a bucket was opened before this process was forked, and cannot be used in both. Nothing "
                "was sent. Open the hook in the process that uses it."
            )
        if replica.is_loaded:
            replica.prepare_transaction()
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    replica.load(make_tables)
    return engine
