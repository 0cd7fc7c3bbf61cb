"""Imports run as docs/architecture.md says: the contracts are in pyproject.toml, and import-linter judges them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_sendoso"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Judge the package in a folder, by the contracts that are there."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    done.stdout = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)  # some versions write in colour wherever they write
    return done


def test_the_package_keeps_its_layers() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imports", "contract"),
    [
        ("client/pages.py", f"from {PACKAGE}.ledger.records import State", "Imports run one way"),
        ("ledger/pace.py", f"from {PACKAGE}.client.pace import SPACING", "Imports run one way"),
        ("models/text.py", f"from {PACKAGE}.sending import Job", "Imports run one way"),
        ("runs/gift.py", f"def late() -> None:\n    import {PACKAGE}.sensors.sendoso", "Imports run one way"),
        ("newcomer/__init__.py", "", "Imports run one way"),
        ("ledger/records.py", "from airflow.models import Connection", "The inside knows nothing of Airflow"),
        ("sending/jobs.py", f"from {PACKAGE}.links import sendoso", "The inside knows nothing of Airflow"),
        ("runs/landing.py", "import sqlalchemy.orm", "SQL is spoken in the ledger and the warehouse"),
        ("waiting/rounds.py", "import requests", "HTTP is spoken in the client"),
        ("sandbox/tracker.py", f"from {PACKAGE}.client import answers", "The sandbox shares nothing"),
    ],
)
def test_a_wrong_import_is_noticed(tmp_path: Path, module: str, imports: str, contract: str) -> None:
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    changed = tmp_path / PACKAGE / module
    changed.parent.mkdir(exist_ok=True)
    with changed.open("a", encoding="utf-8") as file:
        file.write(f"\n\n{imports}\n")
    done = lint_imports(tmp_path)
    assert re.search(rf"^{contract}.* BROKEN", done.stdout, re.MULTILINE), done.stdout + done.stderr
