"""
One try of the soak's task, in a process of its own: Airflow's real supervisor, which forks Airflow's real task runner.

This module is imported once by the process that all tries are forked from, so that a try starts in a fraction of a
second; it imports all that a try needs, and starts no thread and no engine.
"""

from __future__ import annotations

import importlib
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import airflow.dag_processing.dagbag
import airflow.providers.postgres.hooks.postgres
import airflow.providers.sqlite.hooks.sqlite  # noqa: F401  (what a try imports when it first needs it)
import httpx
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
from airflow.sdk.execution_time import task_runner  # noqa: F401
from airflow.sdk.execution_time.supervisor import supervise_task

import airflow_provider_sendoso.operators.sendoso  # noqa: F401
from airflow_provider_sendoso import crashpoints
from soak.execution_api import ExecutionApi
from soak.settings import DAG_ID, TASK_ID


@dataclass(frozen=True)
class Told:
    """
    The arguments of a try's process.

    :param run_id: of the DAG run.
    :param number: of the try, from 1.
    :param conf: of the DAG run.
    :param directory: for what outlives the try.
    :param environment: the connections, and where to crash.
    :param next_method: where a deferred task goes on.
    """

    run_id: str
    number: int
    conf: dict[str, Any]
    directory: Path
    environment: dict[str, str]
    next_method: str | None = None

    @property
    def notes(self) -> Path:
        """The file in which the try's facts are noted."""
        return self.directory / f"try-{self.number}.jsonl"


def run_try(told: Told) -> None:
    """
    Run as the supervisor of one try.

    :param told: which try.
    """
    # Nobody reads what it prints, and its task inherits these until it has its own.
    with (told.directory / "supervisor.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update(told.environment)
    importlib.reload(crashpoints)  # it reads the environment when it is imported
    api = ExecutionApi(told.notes, told.directory / "store.json", _context(told))
    client = Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(api))
    task = TaskInstance(
        id=uuid.uuid4(),
        dag_id=DAG_ID,
        task_id=TASK_ID,
        run_id=told.run_id,
        try_number=told.number,
        dag_version_id=uuid.uuid4(),
    )
    exit_code = supervise_task(
        ti=task,
        bundle_info=BundleInfo(name="dags-folder"),
        dag_rel_path=f"{DAG_ID}.py",
        token="",
        client=client,
        log_path=str(told.directory / f"try-{told.number}.log"),
    )
    api.note(exit_code=exit_code)


def _context(told: Told) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    dag_run = {
        "dag_id": DAG_ID,
        "run_id": told.run_id,
        "logical_date": now,
        "data_interval_start": now,
        "data_interval_end": now,
        "run_after": now,
        "start_date": now,
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "conf": told.conf,
        "consumed_asset_events": [],
        "partition_key": None,
    }
    resumed = {"next_method": told.next_method, "next_kwargs": {"event": "settled"}} if told.next_method else {}
    # As long as Airflow has retries left, a killed task is "up for retry"; the driver has as many as it takes.
    return {"dag_run": dag_run, "max_tries": 1000, "should_retry": True, **resumed}
