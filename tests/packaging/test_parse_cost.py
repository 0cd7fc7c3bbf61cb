"""
Parsing a DAG imports next to nothing of this provider: what only a run needs is imported by a run.

The DAG processor parses every file every half minute, each in a fork that has Airflow but not this package loaded. What
that costs in time is measured by ``benchmarks/parse.py``; what it is made of can be tested on a busy machine, too.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

MODULES = ("operators.sendoso", "operators.ledger", "sensors.sendoso", "notifications.sendoso", "retries")

IMPORTS = """
import json, sys
import airflow
from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, DAG
before = set(sys.modules)
{block}
for name in {modules}:
    __import__("airflow_provider_sendoso." + name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported(*modules: str, block: str = "") -> set[str]:
    """What a fresh Python that has Airflow loaded imports for these modules."""
    program = IMPORTS.format(modules=modules, block=block)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(names)


@pytest.fixture(scope="module")
def parsed() -> set[str]:
    """What a DAG file with our operators and our sensor brings into the DAG processor."""
    return imported(*MODULES)


def test_operators_and_sensor_import_no_other_packages(parsed: set[str]) -> None:
    foreign = {name.partition(".")[0] for name in parsed} - {"airflow_provider_sendoso", "airflow"}
    assert foreign - set(sys.stdlib_module_names) == set()


def test_operators_and_sensor_import_no_module_that_only_runs_need(parsed: set[str]) -> None:
    ours = {name for name in parsed if name.startswith("airflow_provider_sendoso.")}
    parts = {name.split(".")[1] for name in ours}
    heavy = {
        "batch",
        "client",
        "hooks",
        "landing",
        "ledger",
        "models",
        "runs",
        "sending",
        "triggers",
        "waiting",
        "warehouse",
    }
    assert parts & heavy == set()
    assert "airflow_provider_sendoso.arguments.sends" not in ours


def test_the_hook_imports_no_http_client() -> None:
    assert {"aiohttp", "requests", "urllib3"} & imported("hooks.sendoso") == set()


def test_only_the_trigger_needs_aiohttp() -> None:
    imported(*MODULES, "hooks.sendoso", "runs.batch", "runs.gift", block='sys.modules["aiohttp"] = None')
    with pytest.raises(AssertionError, match="aiohttp"):
        imported("triggers.sendoso", block='sys.modules["aiohttp"] = None')
