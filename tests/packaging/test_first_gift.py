"""README.md's first gift: its own lines, in a fresh environment that has nothing but the wheel and what it needs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from ports import free_ports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="a fresh environment gets the newest Airflow in any case"),
]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST = 300
"""Seconds that the README promises, on a machine with nothing else to do."""


def steps() -> str:
    """The section's blocks in their order, as a script; a DAG is written into the file that the text names."""
    (section,) = re.findall(r"^## The first gift\n(.*?)^## ", README, re.M | re.S)
    script = ""
    for before, language, code in re.findall(r"([^`]*(?:`[^`\n]+`[^`]*)*)^```(\w+)\n(.*?)^```$", section, re.M | re.S):
        if language == "python":
            (name,) = re.findall(r"`(\w+\.py)` in the folder `dags`", before)
            code = f"cat > dags/{name} <<'END_OF_THE_DAG'\n{code}END_OF_THE_DAG\n"
        script += code
    return script


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_from_pip_install_to_one_gift_in_five_minutes(wheels: Path, tmp_path: Path) -> None:
    (port,) = free_ports()
    script = steps().replace("8765", str(port))  # the one that is shown may be taken
    for line in ("pip install airflow-provider-sendoso\n", "airflow dags test thank_ada\n", 'DAG("thank_ada"'):
        assert script.count(line) == 1
    script += "airflow dags test thank_ada\n"  # and once more, as the text says
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    (tmp_path / "work").mkdir()
    taken = ("AIRFLOW", "PYTHON", "VIRTUAL_ENV", "XDG")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(taken)}
    environment |= {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        # As if the release were in the index.
        "PIP_FIND_LINKS": f"{wheels} {os.environ.get('PIP_FIND_LINKS', '')}".strip(),
    }
    (tmp_path / "script").write_text(script)
    started = time.monotonic()
    shell = subprocess.Popen(
        ["bash", "-ex", str(tmp_path / "script")],
        cwd=tmp_path / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=(tmp_path / "log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,  # to end the sandbox with it
    )
    try:
        shell.wait(timeout=1800)
        took = time.monotonic() - started
        log = (tmp_path / "log").read_text(errors="replace")
        if "NewConnectionError" in log or "NameResolutionError" in log:
            pytest.skip("pip reaches no package index from here")
        assert shell.returncode == 0, log[-5000:]
        assert "Sends can be made through 'sendoso_default'." in log
        sends = requests.get(f"http://127.0.0.1:{port}/sandbox/state", timeout=30).json()["sends"]
        assert [send["recipient"]["email"] for send in sends] == ["ada@example.com"], log[-5000:]
        # A core that others use, too, is slower by as much.
        assert took < MOST * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
