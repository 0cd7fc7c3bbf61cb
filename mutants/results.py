"""What became of each mutant when it was run last, kept beside the list for the table of the docs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from mutants.guard import Guard
from mutants.guards import GUARDS
from mutants.killers import Explored, Ran

FILE = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Result:
    """
    What became of one mutant.

    :param name: the guard's.
    :param digest: of the edits that were tried.
    :param tests: the tests that noticed.
    :param schedules: after how many schedules the explorer noticed; ``None`` if it did not, or was not asked.
    :param spare: why nothing has to notice.
    :param seconds: how long the tests took, and after how many the explorer noticed.
    :param problem: what is wrong; empty if nothing is.
    """

    name: str
    digest: str
    tests: tuple[str, ...]
    schedules: int | None
    spare: str = ""
    seconds: tuple[float, float | None] = (0.0, None)
    problem: str = ""

    @classmethod
    def of(cls, guard: Guard, ran: Ran, explored: Explored | None) -> Self:
        """
        Judge what the tests and the explorer have found.

        :param guard: what was taken out.
        :param ran: the tests.
        :param explored: the explorer, if it was asked.
        """
        found = explored if explored is not None and explored.broken else None
        noticed = tuple(test for test in guard.tests if test in ran.failed)
        if not ran.alive:
            problem = "without it a plain batch is not sent: the mutant is broken"
        elif slept := [test for test in guard.tests if test not in noticed]:
            problem = f"not noticed by {', '.join(slept)}"
        elif guard.spare and found is not None:
            problem = "the explorer notices that it is missing, though it is said to be spare"
        elif not noticed and found is None and not guard.spare:
            problem = "nothing notices that it is missing"
        else:
            problem = ""
        schedules = None if found is None else found.schedules
        seconds = ran.seconds, None if found is None else found.seconds
        return cls(guard.name, guard.digest, noticed, schedules, guard.spare, seconds, problem)

    def line(self) -> str:
        """Say it in a line."""
        tests, explorer = self.seconds
        by = [f"{', '.join(test.partition('::')[2] for test in self.tests)} ({tests:.0f} s)"] if self.tests else []
        by += [f"the explorer in {self.schedules} schedules ({explorer:.0f} s)"] if explorer is not None else []
        word = "WRONG " if self.problem else "spare " if self.spare else "killed"
        return f"{word} {self.name}: {self.problem or ' and '.join(by) or self.spare}"


@dataclass(frozen=True)
class Results:
    """
    The results of all guards.

    :param by_name: the results, by the guards' names.
    """

    by_name: dict[str, Result]

    @classmethod
    def read(cls) -> Self:
        """Read the results that were written last."""
        if not FILE.exists():
            return cls({})
        entries = json.loads(FILE.read_text(encoding="utf-8"))
        return cls(
            {
                name: Result(name, entry["digest"], tuple(entry["tests"]), entry["schedules"], entry["spare"])
                for name, entry in entries.items()
            }
        )

    def with_new(self, result: Result, *, explored: bool) -> Self:
        """
        Write the results together with a new one; those of guards that there are no more are dropped.

        :param result: the new one.
        :param explored: whether the explorer was asked; if not, what it found last about the same edits is kept.
        """
        before = self.by_name.get(result.name)
        if not explored and before is not None and before.digest == result.digest:
            result = replace(result, schedules=before.schedules)
        all_of_them = self.by_name | {result.name: result}
        kept = {guard.name: all_of_them[guard.name] for guard in GUARDS if guard.name in all_of_them}
        entries = {name: {"digest": one.digest, **_told(one)} for name, one in kept.items()}
        FILE.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        return type(self)(kept)


def _told(result: Result) -> dict[str, object]:
    return {name: value for name, value in asdict(result).items() if name in ("tests", "schedules", "spare")}
