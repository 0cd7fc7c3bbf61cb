"""What an example is triggered with is in its run's ``conf`` and in the audit log: never a name or an e-mail."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG

EXAMPLES = sorted((Path(__file__).parents[2] / "dags_examples").glob("*.py"))
PERSONAL = re.compile(r"name$|mail|phone|mobile|address|line\d|street|city|postal|zip|recipient|birth|title$", re.I)
ALLOWED = {"cursor_name"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_example_is_triggered_with_personal_data(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dags = [one for one in vars(module).values() if isinstance(one, DAG)]
    asked = {name for dag in dags for name in dag.params}
    used = set(re.findall(r"params(?:\.|\[['\"])(\w+)|conf(?:\.get\(['\"]|\[['\"])(\w+)", path.read_text()))
    asked |= {name for pair in used for name in pair if name}
    assert [name for name in asked - ALLOWED if PERSONAL.search(name)] == []
    assert "@" not in json.dumps([dag.params.dump() for dag in dags], default=str)
