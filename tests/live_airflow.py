"""A complete Airflow with scheduler and triggerer, and its DAGs, each with its own Sendoso and ledger."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import requests
from ports import free_ports

from airflow_provider_sendoso.sandbox import Sandbox

COUNTS = ("sent", "already_sent", "duplicate", "refused", "invalid", "held", "not_reached")


def settings(dags: Path, metadata: str, port: int) -> dict[str, str]:
    """
    Settings of an Airflow that does at once what else takes minutes; it gives up a task whose supervisor is dead after
    20 seconds instead of 300.

    :param dags: the folder of its DAGs.
    :param metadata: its database's URL.
    :param port: of its API server.
    :return: by ``SECTION__KEY``.
    """
    return {
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__TEST_CONNECTION": "Enabled",
        "DATABASE__SQL_ALCHEMY_CONN": metadata.replace("postgresql:", "postgresql+psycopg2:"),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    }


def environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """
    Return the environment of a process of that Airflow; nothing of the user's own gets in.

    :param home: its ``AIRFLOW_HOME``.
    :param settings: by ``SECTION__KEY``.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return (
        inherited
        | {f"AIRFLOW__{name}": value for name, value in settings.items()}
        | {
            "AIRFLOW_HOME": str(home),
            "PATH": path,
        }
    )


def processes_of(session: int) -> list[psutil.Process]:
    """
    Find all living processes of a session, in which tasks and orphans stay as well.

    :param session: the process that began it.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


class AirflowApi:
    """
    The REST API of a running Airflow.

    :param url: of its API server.
    """

    def __init__(self, url: str) -> None:
        self.url = url

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

    @staticmethod
    def wait_until(condition: Callable[[], Any], what: str, patience: float = 180.0) -> Any:
        """Return the first true answer; the patience is for a machine that is busy with something else."""
        give_up = time.monotonic() + patience
        while not (answer := condition()):
            assert time.monotonic() < give_up, f"in {patience:.0f} s it never came to this: {what}"
            time.sleep(0.3)
        return answer

    def _answers(self) -> bool:
        with suppress(requests.RequestException, ValueError):
            health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=10).json()
            parts = ("scheduler", "dag_processor", "triggerer")
            return all((health.get(part) or {}).get("status") == "healthy" for part in parts)
        return False


class LiveAirflow(AirflowApi):
    """
    A whole Airflow that runs by itself: scheduler with LocalExecutor, DAG processor, triggerer and API server.

    :param home: for its files.
    :param dags: the folder of its DAGs.
    :param metadata: its database.
    """

    def __init__(self, home: Path, dags: Path, metadata: Any) -> None:
        self._log = home / "airflow.log"
        api, task_logs, trigger_logs = free_ports(3)
        super().__init__(f"http://127.0.0.1:{api}")
        local = {
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "20",
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            "LOGGING__WORKER_LOG_SERVER_PORT": str(task_logs),
        }
        self.metadata = metadata
        self._home = home
        with self._log.open("wb") as log:
            command = [sys.executable, "-W", "ignore", "-m", "airflow", "standalone"]
            self._process = subprocess.Popen(
                command,
                env=environment(home, settings(dags, metadata.url, api) | local),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def task_log(self, dag_id: str, run_id: str, try_number: int) -> str:
        """Read the log of one of a task's tries; empty if there is none yet."""
        folder = self._home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / "task_id=send"
        log = folder / f"attempt={try_number}.log"
        return log.read_text() if log.exists() else ""

    def logs(self, part: str = "") -> str:
        """Read all that it has logged: its own processes, and every try of every task; or the files of a path."""
        paths = [self._log, *(path for path in (self._home / "logs").rglob("*") if path.is_file())]
        return "\n".join(path.read_text(errors="replace") for path in paths if part in str(path))

    def close(self) -> None:
        """Kill every process of this Airflow, orphans included, and check that they have ended."""

        def are_gone() -> bool:
            for process in (left := processes_of(self._process.pid)):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.poll()
            return not left

        self.wait_until(are_gone, "Airflow's processes are gone", patience=60)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-5000:]
        return super()._answers()


class Stage:
    """
    A DAG of the live Airflow with a local Sendoso, an empty ledger, and the connections between them.

    Its methods are of the task ``send``, where they do not say otherwise.

    :param airflow: the Airflow that has the DAG.
    :param make_ledger: makes an empty one, which has a ``connection`` and answers a ``query``.
    :param dag_id: the DAG.
    :param conn_id: by which the DAG knows Sendoso, where that is not its own name.
    :param timeout: of the connection, in seconds.
    """

    def __init__(
        self,
        airflow: LiveAirflow,
        make_ledger: Callable[[], Any],
        dag_id: str,
        conn_id: str | None = None,
        timeout: float = 60,
    ) -> None:
        self.airflow = airflow
        self.dag_id = dag_id
        self.make_ledger = make_ledger
        self.ledger = make_ledger()
        self.sandbox = Sandbox(step=0, rate=0)
        self.conn_id = conn_id or dag_id
        self.ledger_conn_id = f"{self.conn_id}_ledger"
        self._extra = {"requests_per_second": 50, "timeout": timeout, "ledger_conn_id": self.ledger_conn_id}

    def __enter__(self) -> Stage:
        self.airflow.wait_for_dags({self.dag_id})
        self.sandbox.start()
        login = {"host": self.sandbox.url, "login": "sandbox", "password": "sandbox"}
        self._connect(self.conn_id, conn_type="sendoso", extra=json.dumps(self._extra), **login)
        self._connect(self.ledger_conn_id, **self.ledger.connection)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.sandbox.stop()
        for conn_id in (self.conn_id, self.ledger_conn_id):
            self.airflow.delete(f"connections/{conn_id}")
        if error is not None:
            for task in self.airflow.api("GET", f"dags/{self.dag_id}/dagRuns/~/taskInstances")["task_instances"]:
                error.add_note(f"{self.dag_id} {task['dag_run_id']}: {task['state']} in try {task['try_number']}")
                error.add_note(self.airflow.task_log(self.dag_id, task["dag_run_id"], task["try_number"])[-5000:])
            error.add_note(f"{len(self.sandbox.sends)} gifts, ledger: {dict(self.states())}")

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        return self.airflow.wait_until(condition, f"{self.dag_id}: {what}")

    # -- Airflow ---------------------------------------------------------------------------------------------------

    def trigger(self) -> str:
        return self.airflow.api("POST", f"dags/{self.dag_id}/dagRuns", logical_date=None)["dag_run_id"]

    def task(self, run_id: str) -> dict[str, Any]:
        return self.airflow.api("GET", self._task_path(run_id))

    def process(self, run_id: str) -> psutil.Process:
        """The process that the task's code runs in; its parent is the supervisor."""
        return psutil.Process(self.wait_until(lambda: self.task(run_id)["pid"], "the task has a process"))

    def run_state(self, run_id: str) -> str:
        return self.airflow.api("GET", f"dags/{self.dag_id}/dagRuns/{run_id}")["state"]

    def is_over(self, run_id: str) -> bool:
        return self.run_state(run_id) in ("success", "failed")

    def wait_for_end(self, run_id: str) -> str:
        """Wait for the end of the run, not of its task: what is cleared between the two is never run again."""
        self.wait_until(lambda: self.is_over(run_id), "the run is over")
        assert self.task(run_id)["state"] == self.run_state(run_id)
        return self.run_state(run_id)

    def wait_for_try(self, run_id: str, number: int) -> None:
        self.wait_until(lambda: self.task(run_id)["try_number"] == number, f"try {number}")

    def clear(self, run_id: str) -> None:
        """Have the task run again."""
        self.airflow.api(
            "POST",
            f"dags/{self.dag_id}/clearTaskInstances",
            dry_run=False,
            only_failed=False,
            task_ids=["send"],
            dag_run_id=run_id,
        )

    def delete_runs(self) -> None:
        """Have Airflow forget all runs of the DAG."""
        for run in self.airflow.api("GET", f"dags/{self.dag_id}/dagRuns")["dag_runs"]:
            self.airflow.delete(f"dags/{self.dag_id}/dagRuns/{run['dag_run_id']}")

    def mark_failed(self, run_id: str) -> None:
        self.airflow.api("PATCH", self._task_path(run_id), new_state="failed")

    def counts(self, run_id: str) -> dict[str, int]:
        """The counts of a run that are not zero; together they are the rows."""
        summary = self.airflow.api("GET", f"{self._task_path(run_id)}/xcomEntries/return_value")["value"]
        counts = {name: summary[name] for name in COUNTS if summary[name]}
        assert sum(counts.values()) == summary["rows"]
        return counts

    def log(self, run_id: str, try_number: int | None = None) -> str:
        return self.airflow.task_log(self.dag_id, run_id, try_number or self.task(run_id)["try_number"])

    def _task_path(self, run_id: str) -> str:
        return f"dags/{self.dag_id}/dagRuns/{run_id}/taskInstances/send"

    def _connect(self, conn_id: str, **connection: Any) -> None:
        self.airflow.api("POST", "connections", connection_id=conn_id, **connection)

    # -- Sendoso and the ledger ------------------------------------------------------------------------------------

    def emails(self) -> list[str]:
        """The recipients of all that Sendoso has accepted, sorted: one entry for every gift."""
        return sorted(send.body["email"] for send in self.sandbox.sends)

    def wait_for_gifts(self, count: int) -> None:
        self.wait_until(lambda: len(self.sandbox.sends) >= count, f"{count} gifts")

    def assert_everybody_has_one_gift(self, people: int) -> None:
        """Check that Sendoso has accepted one gift for each recipient, and that the ledger has the id of each."""
        assert self.sandbox.duplicates() == {}
        assert Counter(self.emails()) == {f"ada{number}@example.com": 1 for number in range(people)}
        recorded = self.ask_ledger("SELECT state, send_id FROM sendoso_sends")
        assert set(recorded) == {("SENT", send.id) for send in self.sandbox.sends}

    def states(self) -> dict[str, int]:
        """Count the ledger's sends by state."""
        return Counter(state for (state,) in self.ask_ledger("SELECT state FROM sendoso_sends"))

    def found(self) -> int:
        """Count the sends of unknown outcome that were found in Sendoso by their mark."""
        decided = self.ask_ledger("SELECT to_state, resolved_by FROM sendoso_resolutions")
        assert set(decided) <= {("SENT", "reconcile")}
        return len(decided)

    def ask_ledger(self, statement: str) -> list[tuple[Any, ...]]:
        return self.ledger.query(statement)
