"""The Airflow of the cluster: which process runs on which machine, and what its REST API says of runs and tasks."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from cryptography.fernet import Fernet
from live_airflow import AirflowApi, settings
from ports import free_ports

from cluster.machines import Machine
from cluster.settings import DAG_ID, HEARTBEAT_TIMEOUT, VISIBILITY_TIMEOUT
from demo.services import Postgres
from soak.recipients import Batch

WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
_SLOTS = 4
"""Tasks that a worker runs at the same time."""

_RECEIVED = re.compile(r"Task execute_workload\[([0-9a-f-]+)\] received")
_RUNS_ALREADY = "Task already running elsewhere, ignoring redelivered message"
_TOO_LATE = "raised unexpected: ServerResponseError('Invalid auth token')"


class Deployment(AirflowApi):
    """
    A whole Airflow.

    :param root: for the files of its machines, and nothing else.
    :param metadata: its database's server.
    :param broker: Redis's port.
    :param connections: by id.
    """

    def __init__(self, root: Path, metadata: Postgres, broker: int, connections: Mapping[str, Any]) -> None:
        port = free_ports()[0]
        super().__init__(f"http://127.0.0.1:{port}")
        database = f"postgresql+psycopg2://postgres@/airflow?host={metadata.socket_dir}"
        common = settings(Path(__file__).with_name("dags"), database, port) | {
            "API__WORKERS": "1",
            "API__SECRET_KEY": secrets.token_hex(16),
            "CELERY__BROKER_URL": f"redis://127.0.0.1:{broker}/0",
            "CELERY__RESULT_BACKEND": f"db+{database}",
            "CELERY__WORKER_CONCURRENCY": str(_SLOTS),
            "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "CORE__PARALLELISM": str(_SLOTS * len(WORKERS) + 2),
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(int(HEARTBEAT_TIMEOUT)),
            # A queue that Redis has lost is noticed after this many seconds, and not after ten minutes.
            "SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
            "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
            "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "20",
        }
        variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
        # First a copy of the package without a guard, if there is one.
        paths = [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[1])]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.control = Machine("control", root, common, variables)
        self.machines = {"control": self.control}
        for name in (*WORKERS, *TRIGGERERS):
            self.machines[name] = Machine(name, root, common, variables)

    def start(self) -> None:
        """Start everything, and wait until it can run DAGs."""
        self.control.run("db", "migrate")
        for process in (["api-server"], ["scheduler"], ["dag-processor"]):
            self.control.start(*process)
        for name in (*WORKERS, *TRIGGERERS):
            self.start_machine(name)
        self.wait_for_dags({DAG_ID})
        self.wait_until(self._workers_are_ready, "the workers are ready")

    def start_machine(self, name: str) -> None:
        """
        Start what runs on a machine.

        :param name: of a worker or a triggerer.
        """
        if name in TRIGGERERS:
            self.machines[name].start("triggerer", "--skip-serve-logs")
        else:
            self.machines[name].start("celery", "worker", "--celery-hostname", name, "--skip-serve-logs")

    def celery(self, name: str) -> list[psutil.Process]:
        """
        Find Celery's own processes on a worker: the tasks are children of theirs.

        :param name: of the worker.
        """
        everything = self.machines[name].processes()
        mains = {session.pid for session in self.machines[name].sessions}
        return [one for one in everything if one.pid in mains or one.ppid() in mains]

    def close(self) -> None:
        """Kill everything, whatever stands still included."""
        for machine in self.machines.values():
            machine.signal(signal.SIGCONT)
            machine.kill()

    # -- runs and tasks --------------------------------------------------------------------------------------------

    def trigger(self, batch: Batch, on_absent: str) -> None:
        """
        Start a DAG run.

        :param batch: whom it invites.
        :param on_absent: as the operator has it.
        """
        conf = {"scope": batch.dedupe_scope, "on_absent": on_absent}
        self.api("POST", f"dags/{DAG_ID}/dagRuns", dag_run_id=batch.run_id, logical_date=None, conf=conf)

    def states(self) -> dict[str, str]:
        """Return the state of each DAG run."""
        runs = self.api("GET", f"dags/{DAG_ID}/dagRuns?limit=100")["dag_runs"]
        return {run["dag_run_id"]: run["state"] for run in runs}

    def clear(self, run_id: str) -> None:
        """Have the failed tasks of a run tried again."""
        self.api("POST", f"dags/{DAG_ID}/clearTaskInstances", dry_run=False, only_failed=True, dag_run_id=run_id)

    def tasks(self, run_id: str = "~") -> list[dict[str, Any]]:
        """Return the task instances of a run, or of all."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances?limit=100&offset={len(found)}"
            answer = self.api("GET", path)
            found += answer["task_instances"]
            if len(found) >= answer["total_entries"] or not answer["task_instances"]:
                return found

    def summary(self, task: dict[str, Any]) -> dict[str, Any] | None:
        """Return the result of a mapped task, if it has pushed one."""
        path = f"dags/{DAG_ID}/dagRuns/{task['dag_run_id']}/taskInstances/gifts/xcomEntries"
        entries = self.api("GET", f"{path}?xcom_key=return_value&map_index={task['map_index']}")["xcom_entries"]
        if not entries:
            return None
        summary: dict[str, Any] = self.api("GET", f"{path}/return_value?map_index={task['map_index']}")["value"]
        return summary

    # -- what the logs say -----------------------------------------------------------------------------------------

    def deliveries(self) -> dict[str, int]:
        """Count the messages that the workers have got, and those that came more than once."""
        logs = [self.machines[name].log.read_text(errors="replace") for name in WORKERS]
        times = Counter(task for log in logs for task in _RECEIVED.findall(log))
        return {
            "messages": len(times),
            "of these delivered more than once": sum(count > 1 for count in times.values()),
            "turned away, as the task ran already": sum(log.count(_RUNS_ALREADY) for log in logs),
            "turned away, as the message's token had expired": sum(log.count(_TOO_LATE) for log in logs),
        }

    def _workers_are_ready(self) -> bool:
        return all("ready." in self.machines[name].log.read_text(errors="replace") for name in WORKERS)
