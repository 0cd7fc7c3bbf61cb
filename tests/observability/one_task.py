"""
Runs one try of one task as Airflow does: its supervisor, which forks its task runner; the API server is a file.

A process of its own, with settings of its own in its environment, because metrics, traces and listeners are set up once
in the life of a process.
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
from airflow.sdk.execution_time.supervisor import supervise_task

from soak.execution_api import ExecutionApi


class Api(ExecutionApi):
    """Also records what the end of the task reports, and answers that every asset is active."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH" and request.url.path.endswith("/state"):
            self.note(ended=json.loads(request.content))
        if request.url.path.endswith("/validate-inlets-and-outlets"):
            return httpx.Response(200, json={"inactive_assets": []})
        return super().__call__(request)


def main(dag_file: str, dag_id: str, task_id: str, run_id: str, directory: Path) -> int:
    now = datetime.now(UTC).isoformat()
    times = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date"), now)
    run = {"dag_id": dag_id, "run_id": run_id, "run_type": "manual", "state": "running", "conf": {}, **times}
    run |= {"end_date": None, "consumed_asset_events": [], "partition_key": None}
    api = Api(
        directory / "notes.jsonl", directory / "store.json", {"dag_run": run, "max_tries": 0, "should_retry": False}
    )
    task = TaskInstance(
        id=uuid.uuid4(), dag_id=dag_id, task_id=task_id, run_id=run_id, try_number=1, dag_version_id=uuid.uuid4()
    )
    return supervise_task(
        ti=task,
        bundle_info=BundleInfo(name="dags-folder"),
        dag_rel_path=dag_file,
        token="",
        client=Client(base_url=None, dry_run=True, token="", transport=httpx.MockTransport(api)),
        log_path=str(directory / "task.log"),
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5], Path(sys.argv[5])))
