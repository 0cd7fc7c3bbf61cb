"""The example, in the folder of the Airflow that runs by itself: only a scheduler starts a DAG by an asset."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

globals().update(run_path(str(Path(__file__).parents[3] / "dags_examples" / "speaker_gifts.py")))
