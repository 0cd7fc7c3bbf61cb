"""The list of the protocol's guards fits the code, and the docs say what was measured; `make mutants` runs it."""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

import pytest

from mutants.guard import PACKAGE, Edit, Guard, MisfitError
from mutants.guards import GUARDS
from mutants.killers import node_of
from mutants.results import Result, Results
from mutants.table import table, written_table
from mutants.trees import ROOT


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return Results.read().by_name


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package in which each guard can be taken out and put back."""
    copy = tmp_path_factory.mktemp("mutants") / PACKAGE
    shutil.copytree(ROOT / PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_can_be_taken_out_of_the_code_as_it_is(package: Path, guard: Guard) -> None:
    files = {package / place.partition(":")[0] for place in guard.places}
    before = {file: file.read_text(encoding="utf-8") for file in files}
    try:
        guard.take_out(package)
        assert all(compileall.compile_file(str(file), quiet=1, force=True) for file in files)
    finally:
        for file, text in before.items():
            file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("place", ["ledger/clocks.py", "ledger/clocks.py:elapsed"])
def test_a_text_that_is_not_there_exactly_once_is_not_replaced(package: Path, place: str) -> None:
    before = (package / "ledger/clocks.py").read_text(encoding="utf-8")
    for old in ("no such text", "seconds"):
        with pytest.raises(MisfitError, match="and not once"):
            Edit(place, old, "").apply(package)
    with pytest.raises(MisfitError, match="means the same"):
        Edit(place, "seconds = time.time() - float(epoch)", "seconds = (time.time() - float(epoch))").apply(package)
    with pytest.raises(MisfitError, match="no Python any more"):
        Edit(place, "seconds = time.time() - float(epoch)", "seconds = ((").apply(package)
    with pytest.raises(MisfitError, match="there is no function"):
        Edit("ledger/clocks.py:elapses", "seconds", "").apply(package)
    assert (package / "ledger/clocks.py").read_text(encoding="utf-8") == before


def test_each_guard_has_a_name_of_its_own_and_something_that_notices_or_a_reason_why_nothing_can() -> None:
    assert len({guard.name for guard in GUARDS}) == len({guard.holds for guard in GUARDS}) == len(GUARDS) > 40
    assert [guard.name for guard in GUARDS if not (guard.tests or guard.explored or guard.spare)] == []
    assert [guard.name for guard in GUARDS if guard.spare and guard.tests] == []


def test_the_tests_that_have_to_notice_exist() -> None:
    assert [node_of(test).rpartition("::")[2] for guard in GUARDS for test in guard.tests]


def test_the_results_are_of_these_guards_and_of_no_others(results: dict[str, Result]) -> None:
    """If this fails: `make mutants ONLY=… RECORD=1`."""
    assert [(name, result.digest) for name, result in results.items()] == [
        (guard.name, guard.digest) for guard in GUARDS
    ]


def test_every_guard_was_noticed_by_what_has_to(results: dict[str, Result]) -> None:
    missed = [
        guard.name
        for guard in GUARDS
        if set(results[guard.name].tests) != set(guard.tests)
        or not (guard.tests or guard.spare or results[guard.name].schedules)
    ]
    assert missed == []


def test_the_docs_have_the_table_of_the_results() -> None:
    """If this fails: `python -m mutants --table`."""
    assert written_table() == table(Results.read())
