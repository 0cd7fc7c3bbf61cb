"""The example with a schedule, in the folder of the Airflow that runs by itself; it waits there to be unpaused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

example = Path(__file__).parents[3] / "dags_examples" / "weekly_campaign.py"
# Under this file's name: a DAG that seems to come from another folder is taken for deleted after a minute.
here: dict[str, Any] = {"__name__": __name__, "__file__": __file__}
exec(compile(example.read_text(), __file__, "exec"), here)
dag = here["send_gifts"].dag
dag.is_paused_upon_creation = True
