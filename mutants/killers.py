"""What has to notice that a guard is missing: tests, run by pytest, and the explorer."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mutants.trees import ROOT, environment_of

VITAL_SIGN = "runs/test_runs_from_plans.py::test_a_plan_of_a_batch_is_sent_without_an_operator"
"""A test that every mutant passes: a batch is still sent without the guard. A mutant that fails it proves nothing."""

_DATABASES = {"sqlite", "postgresql", "mysql", "bucket"}
_LONGEST_TEST = 240.0
_EACH_MORE = 10.0
"""Seconds after which tests are ended, and how many more each of them has."""
_GRACE = 30.0
_LONGER = 4
"""How much longer the explorer may take than it has of the processor, which others use as well."""
_SEED = 1


@dataclass(frozen=True)
class Ran:
    """
    What became of the tests of one mutant.

    :param alive: whether the vital sign passed.
    :param failed: the tests that failed, as ``path::name``.
    :param seconds: how long it took.
    :param output: what pytest has written.
    :param hung: whether it was ended.
    """

    alive: bool
    failed: frozenset[str]
    seconds: float
    output: str
    hung: bool = False


@dataclass(frozen=True)
class Explored:
    """
    What the explorer has found.

    :param broken: whether an invariant was broken.
    :param schedules: the number of schedules that it ran.
    :param seconds: how long it took.
    :param story: what it has written.
    """

    broken: bool
    schedules: int
    seconds: float
    story: str


def run_tests(tree: Path, tests: Sequence[str], database: str) -> Ran:
    """
    Run tests on a copy.

    :param tree: the copy.
    :param tests: as ``path::name`` below ``tests/``.
    :param database: of tests that are run on several databases, the one to run on.
    """
    report = tree / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", "-k", _on(database), *(f"tests/{node_of(test)}" for test in tests)]
    began = time.monotonic()
    output, hung = _run(command, tree, _LONGEST_TEST + _EACH_MORE * len(tests))
    failed, passed = _read(report, tests)
    alive = VITAL_SIGN not in failed and (hung or VITAL_SIGN not in tests or VITAL_SIGN in passed)
    if hung:
        failed |= set(tests) - passed - {VITAL_SIGN}
    return Ran(alive, frozenset(failed), time.monotonic() - began, output, hung)


def explore(tree: Path, seconds: int = 300) -> Explored:
    """
    Let the explorer look for a schedule that breaks an invariant.

    :param tree: the copy.
    :param seconds: for how long, if it finds none.
    """
    command = [sys.executable, "-m", "explorer", "--seconds", str(seconds), "--seed", str(_SEED), "--stop-at-first"]
    began = time.monotonic()
    output, _ = _run(command, tree, _LONGER * seconds + _GRACE)
    # One line for each of its parts; the last of them has found it.
    schedules = sum(int(count) for count in re.findall(r"(\d+) schedules", output))
    return Explored("BROKEN:" in output, schedules, time.monotonic() - began, output)


@cache
def node_of(test: str) -> str:
    """
    Return pytest's id of a test, which names its class as well.

    :param test: as ``path::name`` below ``tests/``.
    :raises LookupError: if there is no such test.
    """
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return test
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name == name:
                    return f"{path}::{node.name}::{name}"
    raise LookupError(f"there is no test {test}")


def _on(database: str) -> str:
    others = " or ".join(sorted(_DATABASES - {database}))
    # A test that is about one database has its name, and no others.
    return f"{database} or not ({others})"


def _run(command: Sequence[str], tree: Path, most: float) -> tuple[str, bool]:
    """Run a command in a copy; return what it has written, and whether it had to be ended."""
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment_of(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=most)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # pytest ends the databases that it has started
        try:
            output, _ = process.communicate(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        return output, True
    return f"{output}exit code {process.returncode}", False


def _read(report: Path, tests: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the tests that failed, and those that passed, in any of their rounds."""
    failed, passed = set[str](), set[str]()
    if not report.exists():
        return failed, passed
    for case in ET.parse(report).getroot().iter("testcase"):
        module, name = str(case.get("classname")).replace(".", "/"), str(case.get("name")).partition("[")[0]
        test = next(
            (test for test in tests if test.endswith(f"::{name}") and f"tests/{test.partition('.py::')[0]}" in module),
            None,
        )
        if test is not None and case.find("skipped") is None:
            bad = case.find("failure") is not None or case.find("error") is not None
            (failed if bad else passed).add(test)
    return failed, passed
