"""The explorer takes every schedule of its small cases, and finds a guard that is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.cases import CASES
from mutants.guards import GUARDS
from mutants.trees import ROOT, environment_of, tree_without

PROMISES = {
    "renewal-claim": ("tokens", "refresh token that was used before"),
    "renewal-lease-owner": ("tokens", "with its successor stored before its last transaction"),
    "store-owner": ("tokens", "a newer token was stored"),
    "server-error-is-unknown": ("one run", "no gift twice"),
    "lease-after-turn": ("one run, resend", "no gift twice"),
    "settle-deadline": ("accepted at the last moment", "no gift twice"),
    "slot-over": ("rate", "looked at their slots and left within a second"),
    "capped": ("days between gifts", "within the days between two gifts"),
    "lapsed-post": ("one run", "no gift twice"),
    "budget-reserved": ("scope limit, late POSTs", "the limit of the scope is 2"),
    "budget-used-up": ("scope limit, late POSTs", "and 2 fit in the scope's limit"),
    "capped-open": ("days between gifts, late POSTs", "within the days between two gifts"),
    "group-own-result": ("group commit of outcomes, restarts", "was answered, and is lost"),
    "group-committed": ("group commit of outcomes, restarts", "was answered, and is lost"),
    "woken": ("a wait that webhooks wake, lost answers", "and webhooks would have it by"),
    "status-back": ("a wait that webhooks wake, lost answers", "processing, shipped, delivered, shipped"),
}
"""The case in which a missing guard breaks a promise."""


def explore(*arguments: str, tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the explorer in a process of its own, because it takes the place of the standard library's clocks."""
    command = [sys.executable, "-m", "explorer", *arguments]
    environment = environment_of(tree)
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=540, check=False)


LATER = (
    *("campaign", "days between gifts", "marketplace and SmartSend", "one run, resend"),
    *("scope limit", "the database's clock", "two runs"),
    *("scope limit, late POSTs", "days between gifts, late POSTs", "limits of sends and cost, late POSTs"),
    *("a wait for campaign sends", "a wait that webhooks wake", "a wait that webhooks wake, lost answers"),
    *("bucket", "bucket, lists are trusted", "bucket, tokens"),
)
"""The dearest cases. Of those left, `one run` has each fault at each step, and `bucket, two runs` two runs that take
turns at each step."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow) if case in LATER else case
        for case in sorted({case.scenario.name for case in CASES})
    ],
)
def test_no_schedule_of_a_small_case_breaks_a_promise(case: str) -> None:
    ran = explore("--case", case, "--exhaustive")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    taken = [line for line in ran.stdout.splitlines() if line.startswith(f"{case}, at most ")]
    assert len(taken) == sum(one.scenario.name == case for one in CASES)
    for line in taken:
        found = re.search(r": (\d+) schedules, all of them, ", line)
        assert found, line
        assert int(found[1]) > 20


@pytest.mark.parametrize("seconds", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_random_schedules_with_up_to_four_faults_break_no_promise(seconds: int) -> None:
    ran = explore("--case", "three runs", "--seconds", str(seconds))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"random and PCT, seeds from 0 on: [1-9]\d* schedules", ran.stdout)


# The others are slow tests; `make mutants` takes out every guard.
@pytest.mark.parametrize(
    "name", [name if name == "lapsed-post" else pytest.param(name, marks=pytest.mark.slow) for name in sorted(PROMISES)]
)
def test_a_guard_that_is_missing_is_found_and_its_story_can_be_told_again(name: str) -> None:
    case, promise = PROMISES[name]
    with tree_without(next(guard for guard in GUARDS if guard.name == name)) as tree:
        ran = explore("--case", case, "--exhaustive", "--stop-at-first", tree=tree)
        assert ran.returncode == 1, ran.stdout + ran.stderr
        broken = re.search(r"^BROKEN: (.*)$", ran.stdout, re.MULTILINE)
        assert broken, ran.stdout
        assert promise in broken[1]
        choices = re.search(r"--choices '(.*)'$", ran.stdout, re.MULTILINE)
        assert choices, ran.stdout
        again = explore("--case", case, "--choices", choices[1], tree=tree)
    assert again.returncode == 1
    assert f"BROKEN: {broken[1]}" in again.stdout
