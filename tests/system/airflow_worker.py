"""
Runs DAGs in a real Airflow, one after the other: requests as JSON lines on stdin, answers on the first stdout.

A process of its own, so that nothing Airflow does to logging, signals and settings reaches the other tests; and one
for many runs, because the first run of a process takes ten seconds and the others one.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever Airflow prints goes to the log, which is our stderr


def run(request: dict[str, Any]) -> dict[str, Any]:
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
    from airflow.utils.session import create_session
    from sqlalchemy import select

    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.1
        from airflow.models.dagbag import DagBag
    try:
        from airflow.models.xcom import XComModel
    except ImportError:  # Airflow 2
        from airflow.models.xcom import XCom as XComModel

    with suppress(ImportError):  # Airflow 2's tables refer to its own
        import airflow.providers.fab.auth_manager.models  # noqa: F401

    os.environ.update(request["environment"])
    moment = datetime.fromisoformat(request["moment"])
    dag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).dags[request["dag_id"]]
    # The run's id is made from run_after: the same moment again is the same run, cleared.
    dates = {"logical_date": moment, "run_after": moment} if AIRFLOW_V_3_0_PLUS else {"execution_date": moment}
    if request["manual"] and AIRFLOW_V_3_0_PLUS:
        dates["logical_date"] = None
    dag_run = dag.test(**dates, run_conf=request["conf"])
    with create_session() as session:
        xcoms = session.scalars(
            select(XComModel).where(
                XComModel.dag_id == dag.dag_id, XComModel.run_id == dag_run.run_id, XComModel.key == "return_value"
            )
        )
        # Airflow 2 has deserialised what it loads.
        read = XComModel.deserialize_value if AIRFLOW_V_3_0_PLUS else attrgetter("value")
        values = {_name(xcom): read(xcom) for xcom in xcoms}
        states = {_name(ti): str(ti.state) for ti in dag_run.get_task_instances(session=session)}
    return {"state": str(dag_run.state), "run_id": dag_run.run_id, "tasks": states, "xcoms": values}


def _name(of: Any) -> str:
    return of.task_id if of.map_index < 0 else f"{of.task_id}[{of.map_index}]"


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=ANSWERS, flush=True)
