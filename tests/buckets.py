"""Ledgers in a bucket, for tests: a folder of this machine, or a store of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore
from sqlalchemy.engine import Engine

from airflow_provider_sendoso.ledger.bucket.engine import make_engine
from airflow_provider_sendoso.ledger.bucket.nearby import Nearby
from airflow_provider_sendoso.ledger.bucket.objects import Bucket
from airflow_provider_sendoso.ledger.bucket.turns import MachineTurn


def folder_ledger(folder: Path) -> dict[str, Any]:
    """The connection of an empty ledger below a folder."""
    return {"conn_type": "generic", "extra": {"ledger": f"file://{folder}/ledger"}}


@dataclass(frozen=True)
class FolderLedger:
    """A ledger below a folder."""

    folder: Path

    @property
    def connection(self) -> dict[str, str]:
        """The ledger as an Airflow connection, whose extra is text, as Airflow's REST API takes it."""
        connection = folder_ledger(self.folder)
        return connection | {"extra": json.dumps(connection["extra"])}

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the ledger, as a process does that opens it anew."""
        engine = folder_engine(f"file://{self.folder}/ledger")
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.exec_driver_sql(statement)]
        finally:
            engine.dispose()


SQLITE_OR_BUCKET = ["sqlite", pytest.param("bucket", marks=pytest.mark.slow)]
"""Where tests that are not about the ledger have one: a file, and in another round a bucket."""


def small_ledger(kind: str, folder: Path) -> dict[str, Any]:
    """The connection of an empty ledger of one of :data:`SQLITE_OR_BUCKET`."""
    return folder_ledger(folder) if kind == "bucket" else {"conn_type": "sqlite", "host": str(folder / "ledger.db")}


def folder_address(connection: dict[str, Any]) -> str | None:
    """The address of such a connection; ``None`` for a database's."""
    return str(connection["extra"]["ledger"]) if connection["conn_type"] == "generic" else None


def folder_engine(address: str) -> Engine:
    """What the hook makes of the connection, without Airflow."""
    bucket = Bucket(LocalStore(address.removeprefix("file://"), mkdir=True), address)
    return make_engine(bucket, MachineTurn(address), Nearby(address), hide_parameters=True)
