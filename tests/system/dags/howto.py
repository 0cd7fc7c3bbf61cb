"""The DAGs of docs/howto/ and docs/operators.md, as they are there, for a real Airflow; each waits to be unpaused."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"
# The DAG of the page on CI is run by a job of its own, in tests/docs/test_howto_docs.py.
PAGES = [page for page in sorted((DOCS / "howto").glob("*.md")) if page.stem != "ci"]

# Whose DAG the page on MWAA leads to.
CHECK = DOCS.parent / "dags_examples" / "sendoso_check.py"

exec(compile(CHECK.read_text(encoding="utf-8"), __file__, "exec"), {"__name__": __name__, "__file__": __file__})
for page in [DOCS / "operators.md", *PAGES]:
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        if "with DAG(" in code:
            code = code.replace(", schedule=", ", is_paused_upon_creation=True, schedule=", 1)
            code = code.replace("deferrable=True", "deferrable=True, poke_interval=2")  # and not five minutes
            # Under this file's name: a DAG that seems to come from another file is taken for deleted.
            exec(compile(code, __file__, "exec"), {"__name__": __name__, "__file__": __file__})
