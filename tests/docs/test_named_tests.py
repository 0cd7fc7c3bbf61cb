"""Every test and every file that the docs, the README and CONTRIBUTING name exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from blocks import ROOT

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FOLDERS = [ROOT, ROOT / "airflow_provider_sendoso", ROOT / "docs", ROOT / "tests"]
"""A page names a file from the root, or from the folder that it is about."""

on_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def prose(page: Path) -> str:
    """Return the text of a page without its code blocks, which may define tests and files of their own."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def paths(page: Path) -> set[str]:
    """Return the files and folders with a ``/`` in their names that a page names, without links to other hosts."""
    text = re.sub(r"https?://\S+", "", prose(page))
    return set(re.findall(r"(?<![\w./-])(?:[\w.-]+/)+[\w-]+\.(?:py|md|toml|yaml|json)\b|\btests/[\w/]+/?", text))


def named_tests(page: Path) -> set[str]:
    """Return the test functions that a page names: words that are not a file, a folder or a method of the hook."""
    return set(re.findall(r"(?<![\w/])test_\w+\b(?![.(/])", prose(page)))


def named_with_file(page: Path) -> list[tuple[str, str]]:
    """Return the test functions that a page names with their file, as ``path::name``."""
    return re.findall(r"(tests/[\w/]+\.py)::(\w+)", prose(page))


def functions_of(path: Path) -> set[str]:
    """Return the names of the test functions of a file, those of its classes included."""
    return set(re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.fixture(scope="module")
def every_test() -> set[str]:
    return set[str]().union(*(functions_of(path) for path in (ROOT / "tests").rglob("test_*.py")))


@on_each_page
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in sorted(paths(page)) if not any((folder / path).exists() for folder in FOLDERS)] == []


@on_each_page
def test_every_test_that_a_page_names_exists(page: Path, every_test: set[str]) -> None:
    assert sorted(named_tests(page) - every_test) == []
    assert [(path, name) for path, name in named_with_file(page) if name not in functions_of(ROOT / path)] == []


def test_the_patterns_find_the_tests_and_files_of_the_pages() -> None:
    guarantees = ROOT / "docs" / "guarantees.md"
    assert len(named_tests(guarantees)) > 15
    assert len(named_with_file(guarantees)) > 5
    assert len(paths(ROOT / "CONTRIBUTING.md")) > 20
