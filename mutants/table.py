"""The table of the guards in the docs, made of the results."""

from __future__ import annotations

from collections.abc import Iterator

from mutants.guard import Guard
from mutants.guards import PARTS
from mutants.results import Result, Results
from mutants.trees import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
_BEGIN = "<!-- The guards: written by `python -m mutants --table`. -->"
_END = "<!-- The end of the guards. -->"


def write_table(results: Results) -> None:
    """
    Write the table into the docs.

    :param results: of all guards.
    """
    before, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    _, after = rest.split(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table(results)}\n{_END}{after}", encoding="utf-8")


def written_table() -> str:
    """Return the table as the docs have it."""
    return PAGE.read_text(encoding="utf-8").split(_BEGIN)[1].split(_END)[0].strip() + "\n"


def table(results: Results) -> str:
    """
    Make the table.

    :param results: of all guards.
    """
    return "\n".join(_lines(results)).strip() + "\n"


def _lines(results: Results) -> Iterator[str]:
    for part, guards in PARTS.items():
        yield from (f"**{part}**", "", "| guard | the explorer, in schedules | the test |", "|---|--:|---|")
        for one in guards:
            yield f"| {one.holds} (`{one.name}`) | {' | '.join(_killers(one, results.by_name.get(one.name)))} |"
        yield ""


def _killers(guard: Guard, result: Result | None) -> tuple[str, str]:
    """Say after how many schedules the explorer noticed that a guard was missing, and which test did."""
    if result is None:
        return "", "not measured"
    explorer = "" if result.schedules is None else f"{result.schedules:,}"
    if result.spare:
        return explorer, f"none: {result.spare}"
    return explorer, "; ".join(f"`tests/{test}`" for test in result.tests)
