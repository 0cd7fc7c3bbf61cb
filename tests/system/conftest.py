"""A real Airflow with the example DAGs, a warehouse and a ledger on PostgreSQL, and a local Sendoso."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import requests
from ports import free_ports

from airflow_provider_sendoso.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags_examples"


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
        self, dag_id: str, moment: str, environment: Mapping[str, str], conf: Mapping[str, Any] | None = None
    ) -> DagRun:
        """Run a DAG; the same moment again is the same run, cleared."""
        worker = self._running()
        assert worker.stdin is not None
        assert worker.stdout is not None
        start = self._log.stat().st_size
        request = {"dag_id": dag_id, "moment": moment, "environment": dict(environment), "conf": dict(conf or {})}
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

    def _running(self) -> subprocess.Popen[str]:
        if self._worker is None:
            self.cli("db", "migrate")
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
        return given | {"CHAMPIONS_POKE_INTERVAL": "1"}

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
        with psycopg.connect(host=self.ledger.socket_dir, user="postgres", dbname=self.ledger.name) as database:
            return database.execute(query).fetchall()


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


class LiveAirflow:
    """
    A whole Airflow that runs by itself: scheduler with LocalExecutor, DAG processor, triggerer and API server.

    It gives up a task whose supervisor is dead after 20 seconds instead of 300.

    :param home: for its files.
    :param dags: the folder of its DAGs.
    :param metadata: its database.
    """

    def __init__(self, home: Path, dags: Path, metadata: Any) -> None:
        self._log = home / "airflow.log"
        api, task_logs, trigger_logs = free_ports(3)
        self.url = f"http://127.0.0.1:{api}"
        settings = {
            "CORE__DAGS_FOLDER": str(dags),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__PARALLELISM": "20",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__TEST_CONNECTION": "Enabled",
            "DATABASE__SQL_ALCHEMY_CONN": metadata.url.replace("postgresql:", "postgresql+psycopg2:"),
            "API__HOST": "127.0.0.1",
            "API__PORT": str(api),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            "LOGGING__WORKER_LOG_SERVER_PORT": str(task_logs),
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        environment |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
        environment |= {"AIRFLOW_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.metadata = metadata
        self._home = home
        with self._log.open("wb") as log:
            command = [sys.executable, "-W", "ignore", "-m", "airflow", "standalone"]
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait_for_dags(self, dag_ids: set[str]) -> None:
        """Wait until it can run these DAGs."""
        self.wait_until(self._answers, "Airflow answers")
        token = requests.get(f"{self.url}/auth/token", timeout=60).json()["access_token"]
        self._headers = {"Authorization": f"Bearer {token}"}
        self.wait_until(
            lambda: dag_ids <= {dag["dag_id"] for dag in self.api("GET", "dags")["dags"]}, f"DAGs: {dag_ids}"
        )

    def api(self, method: str, path: str, **body: Any) -> Any:
        """Ask the REST API, as a user does."""
        answer = requests.request(
            method, f"{self.url}/api/v2/{path}", json=body or None, headers=self._headers, timeout=60
        )
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def delete(self, path: str) -> None:
        """Delete something through the REST API."""
        requests.delete(f"{self.url}/api/v2/{path}", headers=self._headers, timeout=60).raise_for_status()

    def task_log(self, dag_id: str, run_id: str, try_number: int) -> str:
        """Read what a task has logged in one of its tries, nothing if it has not come to that."""
        folder = self._home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / "task_id=send"
        log = folder / f"attempt={try_number}.log"
        return log.read_text() if log.exists() else ""

    @staticmethod
    def wait_until(condition: Callable[[], Any], what: str, patience: float = 180.0) -> Any:
        """Return the first true answer; the patience is for a machine that is busy with something else."""
        give_up = time.monotonic() + patience
        while not (answer := condition()):
            assert time.monotonic() < give_up, f"in {patience:.0f} s it never came to this: {what}"
            time.sleep(0.3)
        return answer

    def close(self) -> None:
        """Kill every process of it, the orphans too, and see that they are gone."""

        def are_gone() -> bool:
            for process in (left := self._processes()):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.poll()
            return not left

        self.wait_until(are_gone, "Airflow's processes are gone", patience=60)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-5000:]
        with suppress(requests.RequestException, ValueError):
            health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
            parts = ("scheduler", "dag_processor", "triggerer")
            return all((health.get(part) or {}).get("status") == "healthy" for part in parts)
        return False

    def _processes(self) -> list[psutil.Process]:
        """Everything in its session: a task has a process group of its own, and an orphan no parent, but they stay."""
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == self._process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@pytest.fixture(scope="session")
def live_airflow(postgres_database: Callable[[], Any]) -> Iterator[LiveAirflow]:
    """An Airflow with the DAGs that are there to be killed."""
    home = Path(tempfile.mkdtemp(prefix="airflow-live-"))
    airflow = LiveAirflow(home, Path(__file__).with_name("dags"), postgres_database())
    try:
        yield airflow
    finally:
        airflow.close()


class Stage:
    """A DAG of the live Airflow, with a Sendoso and a ledger of its own."""

    def __init__(self, airflow: Any, dag_id: str, sandbox: Sandbox, ledger: Any) -> None:
        self.airflow, self.dag_id, self.sandbox, self.ledger = airflow, dag_id, sandbox, ledger

    def trigger(self) -> str:
        return self.airflow.api("POST", f"dags/{self.dag_id}/dagRuns", logical_date=None)["dag_run_id"]

    def task(self, run_id: str) -> dict[str, Any]:
        return self.airflow.api("GET", f"dags/{self.dag_id}/dagRuns/{run_id}/taskInstances/send")

    def wait_for_success(self, run_id: str) -> None:
        """Wait for the end of the run, not of its task: what is cleared between the two is never run again."""
        run = f"dags/{self.dag_id}/dagRuns/{run_id}"
        self.wait_until(lambda: self.airflow.api("GET", run)["state"] == "success", "the run has succeeded")

    def clear(self, run_id: str) -> None:
        """Run the task again, once its run has succeeded."""
        self.wait_for_success(run_id)
        tries = self.task(run_id)["try_number"]
        self.airflow.api(
            "POST", f"dags/{self.dag_id}/clearTaskInstances", dry_run=False, only_failed=False, dag_run_id=run_id
        )
        self.wait_until(lambda: self.task(run_id)["try_number"] > tries, "the next try")

    def log(self, run_id: str) -> str:
        return self.airflow.task_log(self.dag_id, run_id, self.task(run_id)["try_number"])

    def emails(self) -> list[str]:
        return sorted(send.body["email"] for send in self.sandbox.sends)

    def ask_ledger(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(host=self.ledger.socket_dir, user="postgres", dbname=self.ledger.name) as database:
            return database.execute(statement).fetchall()

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        return self.airflow.wait_until(condition, f"{self.dag_id}: {what}")


@pytest.fixture
def stage(live_airflow: Any, postgres_database: Callable[[], Any]) -> Callable[[str], Any]:
    """Sets up a DAG of the live Airflow that names its connection after itself, or as told."""

    @contextmanager
    def make(dag_id: str, conn_id: str | None = None) -> Iterator[Stage]:
        live_airflow.wait_for_dags({dag_id})
        conn_id = conn_id or dag_id
        ledger = postgres_database()
        with Sandbox(step=0, rate=0) as sandbox:
            extra = {"requests_per_second": 50, "timeout": 60, "ledger_conn_id": f"{conn_id}_ledger"}
            login = {"login": "sandbox", "password": "sandbox"}
            connections = {
                conn_id: {"conn_type": "sendoso", "host": sandbox.url, "extra": json.dumps(extra), **login},
                f"{conn_id}_ledger": ledger.connection,
            }
            for name, connection in connections.items():
                live_airflow.api("POST", "connections", connection_id=name, **connection)
            yield Stage(live_airflow, dag_id, sandbox, ledger)
            for name in connections:
                live_airflow.delete(f"connections/{name}")

    return make
