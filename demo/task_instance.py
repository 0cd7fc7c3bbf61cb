"""
Run the demo's DAG as one certain run: ``python -m demo.task_instance DAG_ID MOMENT``.

``airflow dags test`` makes a new run each time. The same moment again is the same run, and its tasks are tried again.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime

from airflow.dag_processing.dagbag import DagBag


def main(dag_id: str, moment: str) -> int:
    """
    Run the DAG, and return the exit code.

    :param dag_id: of a DAG in Airflow's DAGs folder.
    :param moment: its logical date, in ISO 8601.
    """
    when = datetime.fromisoformat(moment)
    run = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).dags[dag_id].test(logical_date=when, run_after=when)
    return 0 if str(run.state) == "success" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
