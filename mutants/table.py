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
        yield from (f"**{part}**", "", "| guard | taken out, it is noticed by |", "|---|---|")
        yield from (
            f"| {one.holds} (`{one.name}`) | {_killers(one, results.by_name.get(one.name))} |" for one in guards
        )
        yield ""


def _killers(guard: Guard, result: Result | None) -> str:
    if result is None:
        return "not measured"
    if result.spare:
        return f"nothing, for {result.spare}"
    explorer = f"the explorer in {result.schedules:,} schedules" if result.schedules is not None else ""
    return "; ".join(filter(None, [explorer, *(f"`tests/{test}`" for test in result.tests)]))
