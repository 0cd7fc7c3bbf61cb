"""``python -m mutants``: takes out each guard in turn, and fails if nothing notices."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase

from mutants.guard import Guard
from mutants.guards import GUARDS
from mutants.killers import VITAL_SIGN, explore, run_tests
from mutants.results import Result, Results
from mutants.table import write_table
from mutants.trees import tree_without

_AT_ONCE = 2


def main() -> None:
    """Run the mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="names of guards, also as patterns like 'lease-*'")
    parser.add_argument("--until", type=float, default=float("inf"), help="begin no mutant after this moment (Unix)")
    parser.add_argument("--record", action="store_true", help="write the results, and the table of the docs")
    parser.add_argument("--table", action="store_true", help="write the table of the docs anew; run nothing")
    parser.add_argument("--explore-all", action="store_true", help="ask the explorer about every guard")
    parser.add_argument("--tests-only", action="store_true", help="do not ask the explorer")
    arguments = parser.parse_args()
    if arguments.table:
        write_table(Results.read())
        return
    patterns = [pattern for given in arguments.only for pattern in given.split(",")]
    chosen = [one for one in GUARDS if not patterns or any(fnmatchcase(one.name, pattern) for pattern in patterns)]
    if not chosen:
        sys.exit(f"No guard is called {', '.join(patterns)}; there are {', '.join(one.name for one in GUARDS)}.")
    explored = [one for one in chosen if (one.explored or arguments.explore_all) and not arguments.tests_only]
    good = Trial(chosen, explored, arguments.until, record=arguments.record).run()
    if arguments.record:
        write_table(Results.read())
    sys.exit(0 if good else 1)


class Trial:
    """
    One run of some mutants.

    :param guards: the guards to take out.
    :param explored: those about which the explorer is asked, too.
    :param until: no mutant is begun after this moment, as a Unix timestamp.
    :param record: whether each result is kept, once it is there.
    """

    def __init__(self, guards: list[Guard], explored: list[Guard], until: float, *, record: bool) -> None:
        # Another one comes first each day, so that a run that has to end early reaches all of them in time.
        first = int(time.time() // 86_400) * 37 % len(guards)
        self._guards = guards if until == float("inf") else guards[first:] + guards[:first]
        self._until = until
        self._explored = explored
        self._record = record
        self._recording = threading.Lock()

    def run(self) -> bool:
        """Run them, and say what became of each; return whether all were noticed."""
        began = time.monotonic()
        if not self._all_pass_with_every_guard():
            return False
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = [result for result in pool.map(self._without, self._guards) if result is not None]
        missed = [one.name for one in self._guards if one.name not in {result.name for result in found}]
        wrong = [result for result in found if result.problem]
        spare = sum(bool(result.spare) for result in found)
        print(
            f"{len(found) - len(wrong) - spare} of {len(found)} mutants were killed, {spare} need not be, and "
            f"{len(wrong)} are wrong, in {time.monotonic() - began:.0f} s."
        )
        if missed:
            print(f"Not reached in time: {', '.join(missed)}.")
        for result in wrong:
            print(f"WRONG: {result.name}: {result.problem}")
        return not wrong

    def _all_pass_with_every_guard(self) -> bool:
        """Run the tests where nothing was taken out: a test that fails anyway notices nothing."""
        for database in sorted({one.database for one in self._guards}):
            tests = sorted({test for one in self._guards if one.database == database for test in one.tests})
            with tree_without(None) as tree:
                ran = run_tests(tree, [VITAL_SIGN, *tests], database)
            print(f"With every guard, {len(tests)} tests on {database}: {ran.seconds:.0f} s.", flush=True)
            if ran.failed or not ran.alive or ran.hung:
                failed = ", ".join(sorted(ran.failed)) or "to run"
                print(f"{ran.output[-3000:]}\nWith every guard these fail: {failed}.")
                return False
        if self._explored:
            with tree_without(None) as tree:
                explored = explore(tree, seconds=30)
            print(
                f"With every guard, the explorer's {explored.schedules} schedules: {explored.seconds:.0f} s.",
                flush=True,
            )
            if explored.broken or not explored.schedules:
                print(f"{explored.story}\nWith every guard the explorer finds this, or does not run.")
                return False
        return True

    def _without(self, one: Guard) -> Result | None:
        """Take one guard out, and see what notices."""
        if time.time() > self._until:
            return None
        with tree_without(one) as tree:
            ran = run_tests(tree, [VITAL_SIGN, *one.tests], one.database)
            explored = explore(tree) if one in self._explored else None
        result = Result.of(one, ran, explored)
        print(result.line(), flush=True)
        if self._record and not result.problem:
            with self._recording:
                Results.read().with_new(result, explored=one in self._explored)
        if result.problem:
            print("\n".join(f"    {line}" for line in ran.output.splitlines()[-12:]), flush=True)
        return result


main()
