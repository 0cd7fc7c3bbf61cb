"""Examples that send gifts to people of the warehouse, in the folder of the Airflow that runs by itself."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["SENDOSO_POKE_INTERVAL"] = "1"

# Under this file's name: a DAG that seems to come from another folder is taken for deleted after a minute.
for name in ("thank_you", "welcome_gift", "replaced_gift", "champions_campaign", "campaign_results", "egift_links"):
    example = Path(__file__).parents[3] / "dags_examples" / f"{name}.py"
    exec(compile(example.read_text(), __file__, "exec"), {"__name__": __name__, "__file__": __file__})
