"""The account's rate, counted at the server: the benchmark's case of eighteen batches in six processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACE = Path(__file__).parents[2] / "benchmarks" / "pace.py"


@pytest.mark.slow
@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_eighteen_batches_in_six_processes_never_make_an_eleventh_request_in_a_second(ledger: str) -> None:
    """On a machine that is too busy for its slots, fewer requests are made, and never more."""
    command = [sys.executable, str(PACE), "--seconds", "15", "--ledger", ledger, "--case", "6 x 3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=True)
    names, _, *lines = done.stdout.splitlines()
    (cells,) = [dict(zip(names.split(" | "), line.split(" | "), strict=True)) for line in lines]
    assert int(cells["peak in 1 s"]) <= 10, cells
    assert cells["429"] == "0.0%", cells
    assert float(cells["requests/s"]) > 1, cells
