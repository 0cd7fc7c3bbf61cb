"""The name by which SQLAlchemy, and the ledger's code, know the engine of a ledger in a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Engine

if TYPE_CHECKING:
    from airflow_provider_sendoso.ledger.bucket.replica import Replica

DRIVER = "bucket"
"""The driver of such an engine's dialect, whose name is ``sqlite``."""

NOW = "sendoso_now"
"""The SQL function that tells the store's time."""


class BucketDialect(SQLiteDialect_pysqlite):
    """SQLite's dialect under another driver's name, by which the ledger knows whose clock to ask."""

    driver = DRIVER
    supports_statement_cache = True
    replica: Replica | None = None


def replica_of(engine: Engine) -> Replica | None:
    """Return the replica that an engine runs on; ``None`` if its ledger is not in a bucket."""
    return engine.dialect.replica if isinstance(engine.dialect, BucketDialect) else None


registry.register(f"sqlite.{DRIVER}", __name__, BucketDialect.__name__)
