"""A real Airflow with the example DAGs, a warehouse and a ledger on PostgreSQL, and a local Sendoso."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import palette
import psycopg
import pytest
from live_airflow import LiveAirflow, Stage

from airflow_provider_sendoso.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags_examples"
SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""The folder for pictures of the docs, if they are to be kept: ``make screenshots``."""


@dataclass(frozen=True)
class DagRun:
    """How a DAG run ended; ``name[index]`` for mapped tasks."""

    state: str
    run_id: str
    tasks: dict[str, str]
    xcoms: dict[str, Any]
    log: str = field(repr=False)


class Airflow:
    """An Airflow with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")} | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        self._log = home / "worker.log"
        self._worker: subprocess.Popen[str] | None = None
        self._migrated = False

    def cli(self, *arguments: str) -> str:
        """Run a command of Airflow's and return what it prints."""
        command = [sys.executable, "-W", "ignore", "-m", "airflow", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python as one of this Airflow's processes."""
        command = [sys.executable, "-W", "ignore", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=600)

    def run(
        self,
        dag_id: str,
        moment: str,
        environment: Mapping[str, str],
        conf: Mapping[str, Any] | None = None,
        manual: bool = False,
    ) -> DagRun:
        """Run a DAG; the same moment again is the same run, cleared. A manual one has no logical date on Airflow 3."""
        worker = self._running()
        assert worker.stdin is not None
        assert worker.stdout is not None
        start = self._log.stat().st_size
        request = {"dag_id": dag_id, "moment": moment, "environment": dict(environment), "conf": dict(conf or {})}
        request["manual"] = manual
        print(json.dumps(request), file=worker.stdin, flush=True)
        answer = worker.stdout.readline()
        log = self._log.read_bytes()[start:].decode(errors="replace")
        assert answer, log[-5000:]
        return DagRun(**json.loads(answer), log=log)

    def close(self) -> None:
        """End the worker, which has nothing left to do and would take its time."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()

    def migrate(self) -> None:
        """Make the metadata database, once."""
        if not self._migrated:
            self.cli("db", "migrate")
            self._migrated = True

    def _running(self) -> subprocess.Popen[str]:
        if self._worker is None:
            self.migrate()
            with self._log.open("wb") as log:
                self._worker = subprocess.Popen(
                    [sys.executable, str(Path(__file__).with_name("airflow_worker.py"))],
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        return self._worker


@pytest.fixture(scope="session")
def airflow() -> Iterator[Airflow]:
    """The Airflow of these tests; its database is made at the first run of a DAG."""
    airflow = Airflow(Path(tempfile.mkdtemp(prefix="airflow-system-")))
    yield airflow
    airflow.close()


@dataclass(frozen=True)
class World:
    """What a DAG runs against."""

    sendoso: Sandbox
    warehouse: Any
    ledger: Any

    @property
    def environment(self) -> dict[str, str]:
        """The connections, as a user sets them."""
        connections = {
            "warehouse": self.warehouse.connection,
            "sendoso_ledger": self.ledger.connection,
            "sendoso_default": {
                "conn_type": "sendoso",
                "host": self.sendoso.url,
                "login": "sandbox",
                "password": "sandbox",
                "extra": {"requests_per_second": 500, "timeout": 60},
            },
        }
        given = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
        return given | {"SENDOSO_POKE_INTERVAL": "1"}

    def emails(self) -> list[str]:
        """The recipients of all that Sendoso has accepted, sorted: one entry for every gift."""
        return sorted(send.body["email"] for send in self.sendoso.sends)

    def posts(self) -> int:
        """How often a send was posted, accepted or not."""
        return sum(request.method == "POST" and request.path.endswith("/sends") for request in self.sendoso.requests)

    def execute(self, statement: str, *rows: tuple[Any, ...]) -> None:
        """Change the warehouse."""
        with psycopg.connect(host=self.warehouse.socket_dir, user="postgres", dbname=self.warehouse.name) as database:
            if rows:
                database.cursor().executemany(statement, rows)
            else:
                database.execute(statement)

    def read_warehouse(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the warehouse."""
        with psycopg.connect(host=self.warehouse.socket_dir, user="postgres", dbname=self.warehouse.name) as database:
            return database.execute(query).fetchall()

    def read_ledger(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the ledger's database."""
        return self.ledger.query(query)


@pytest.fixture
def world(postgres_database: Callable[[], Any]) -> Iterator[Callable[..., World]]:
    """Makes a world whose gifts take three steps of so many seconds to arrive."""
    started: list[Sandbox] = []

    def make(step: float = 0.0) -> World:
        sandbox = Sandbox(step=step, rate=0)
        sandbox.start()
        started.append(sandbox)
        return World(sandbox, postgres_database(), postgres_database())

    yield make
    for sandbox in started:
        sandbox.stop()


@pytest.fixture(scope="session")
def live_airflow(
    postgres_database: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveAirflow]:
    """An Airflow with the DAGs that are there to be killed; it is too heavy for a second one beside it."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose folders are side by side
        (tmp_path_factory.getbasetemp().parent / "live-airflow").touch(exist_ok=False)
    home = Path(tempfile.mkdtemp(prefix="airflow-live-"))
    airflow = LiveAirflow(home, Path(__file__).with_name("dags"), postgres_database())
    try:
        yield airflow
    finally:
        airflow.close()


@pytest.fixture(scope="session")
def stage(live_airflow: LiveAirflow, postgres_database: Callable[[], Any]) -> Callable[..., Stage]:
    """Sets up a DAG of the live Airflow that names its connection after itself, or as told."""
    return partial(Stage, live_airflow, postgres_database)


@pytest.fixture
def sandbox_port() -> int:
    """In the docs' pictures the sandbox is where its own help says that it is."""
    return 8765 if SCREENSHOTS else 0


@pytest.fixture
def shoot(page: Page, tmp_path: Path) -> Callable[..., None]:
    """Takes a picture of the page, or of a part of it."""
    folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path

    def take(name: str, part: Locator | None = None, **options: Any) -> None:
        picture = (part or page).screenshot(animations="disabled", **options)
        (folder / f"{name}.png").write_bytes(palette.reduce(page, picture))

    return take
