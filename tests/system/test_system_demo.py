"""``make demo``, end to end: what it prints, what a second run finds, and that it leaves no process running."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

NOTHING_SENT = "25 rows: sent 0, already_sent 23, duplicate 0, refused 0, invalid 2, held 0, capped 0, not_reached 0"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Outside pytest's own: PostgreSQL may run as another user, who could not get in there."""
    directory = Path(tempfile.mkdtemp(prefix="demo-"))
    yield directory
    shutil.rmtree(directory)


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "demo", "--directory", str(directory), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(directory: Path, *options: str) -> str:
    demo = start(directory, *options)
    output, _ = demo.communicate(timeout=400)
    assert demo.returncode == 0, output
    return output


def running(directory: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(directory) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(command)
    return found


def outcomes(output: str) -> dict[str, str]:
    rows = re.findall(r"^(C-\d{4}) .* (?:[A-Z]{2}|–) +(\w+)  +(\S.*)$", output, re.MULTILINE)
    return {row_ref: f"{outcome} {detail.strip()}" for row_ref, outcome, detail in rows}


SENT = "25 rows: sent 23 ({} posted by this try, {} by earlier ones), already_sent 0, duplicate 0, refused 0, invalid 2"


def test_second_run_sends_nothing_and_says_why(directory: Path) -> None:
    output = run(directory)
    first, again = output.split("The same again, to see that nobody is sent a second gift:")
    assert SENT.format(23, 0) in first
    assert "23 gifts received in this run, 0 in earlier ones; 0 people were sent the same gift twice" in first
    assert running(directory) == []
    became = outcomes(first)
    assert len(became) == 25
    assert sum(text.startswith("delivered send-") for text in became.values()) == 23
    assert became["C-1007"].startswith("invalid the recipient key")
    assert became["C-1015"].startswith("invalid there is no address")
    assert NOTHING_SENT in again
    assert "0 gifts received in this run, 23 in earlier ones; 0 people were sent the same gift twice" in again

    second = run(directory)
    assert "The same again" not in second
    assert NOTHING_SENT in second
    assert "0 gifts received in this run, 23 in earlier ones; 0 people were sent the same gift twice" in second
    assert "23 were already sent in scope 'champions-2026-q4'" in second
    delivered = {row_ref: text for row_ref, text in became.items() if text.startswith("delivered")}
    assert outcomes(second).items() >= delivered.items()
    assert running(directory) == []


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="`make demo` runs Airflow 3, and this part runs its DagBag")
@pytest.mark.parametrize(("ledger", "runs"), [((), 2), (("--bucket",), 1)], ids=["postgresql", "bucket"])
def test_killed_task_is_tried_again_and_nobody_is_sent_a_second_gift(
    directory: Path, ledger: tuple[str, ...], runs: int
) -> None:
    for _ in range(runs):  # the ledger and the Sendoso of a killed run are new each time
        output = run(directory, "--kill", *ledger)
        (found,) = re.findall(r"kill -9: no process of the task is left, and (\d+) gifts are out", output)
        out = int(found)
        assert 8 <= out < 23
        ((posted, before, held),) = re.findall(
            r"sent \d+ \((\d+) posted by this try, (\d+) by earlier ones\), .*, held (\d+), capped 0, not_reached 0$",
            output,
            re.M,
        )
        assert int(posted) + int(before) + int(held) == 23
        # A kill between the commit of POSTING and the POST leaves a send of which nobody knows whether it went out.
        assert ("Held       " in output) == (int(held) > 0)
        assert int(held) <= 16  # no more than were under way at once
        assert "; 0 people were sent the same gift twice" in output
        assert f"Killed     with {out} gifts out; the retry found them, and sent " in output
        assert sum(text.startswith("held ") for text in outcomes(output).values()) == int(held)
        assert running(directory) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_demo_leaves_nothing_running(directory: Path, number: signal.Signals) -> None:
    demo = start(directory)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "Airflow makes its database" in line:
            break
    assert running(directory)
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=180)

    assert demo.returncode == 128 + number
    assert "Stopped. Everything was shut down" in output
    assert running(directory) == []


def test_second_demo_in_the_same_directory_is_refused(directory: Path) -> None:
    first = start(directory)
    assert first.stdout is not None
    assert "the ledger is in PostgreSQL" in first.stdout.readline()
    second = start(directory)
    output, _ = second.communicate(timeout=180)
    first.terminate()
    first.communicate(timeout=180)

    assert second.returncode == 1
    assert "Another demo is running in this directory." in output
