"""The example, in the folder of the Airflow that runs by itself: only a triggerer starts a DAG by a watcher."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["SENDOSO_POKE_INTERVAL"] = "2"

# Under this file's name: a DAG that seems to come from another folder is taken for deleted after a minute.
example = Path(__file__).parents[3] / "dags_examples" / "delivered_event.py"
exec(compile(example.read_text(), __file__, "exec"))
