"""
Runs DAGs in a real Airflow, one after the other: requests as JSON lines on stdin, answers on the first stdout.

A process of its own, so that nothing Airflow does to logging, signals and settings reaches the other tests; and one
for many runs, because the first run of a process takes ten seconds and the others one.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever Airflow prints goes to the log, which is our stderr


def run(request: dict[str, Any]) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    os.environ.update(request["environment"])
    moment = datetime.fromisoformat(request["moment"])
    dag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).dags[request["dag_id"]]
    # The run's id is made from run_after: the same moment again is the same run, cleared.
    dag_run = dag.test(logical_date=moment, run_after=moment, run_conf=request["conf"])
    with create_session() as session:
        xcoms = session.execute(
            XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag.dag_id, key="return_value")
        ).scalars()
        values = {_name(xcom): XComModel.deserialize_value(xcom) for xcom in xcoms}
        states = {_name(ti): str(ti.state) for ti in dag_run.get_task_instances(session=session)}
    return {"state": str(dag_run.state), "run_id": dag_run.run_id, "tasks": states, "xcoms": values}


def _name(of: Any) -> str:
    return of.task_id if of.map_index < 0 else f"{of.task_id}[{of.map_index}]"


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=ANSWERS, flush=True)
