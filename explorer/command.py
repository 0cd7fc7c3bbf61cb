"""What the command line asks for, and what it prints."""

from __future__ import annotations

import time
from argparse import Namespace
from math import inf

from explorer.cases import CASES, LARGE_CASES, SCENARIOS
from explorer.exploring import Explored, Explorer, Found, chosen
from explorer.scenarios import Scenario
from explorer.stdlib import take_over
from explorer.strategies import Replay

_A_MINUTE = 60.0


def run(arguments: Namespace) -> bool:
    """
    Explore, and print what was found.

    :param arguments: of the command line.
    :return: whether every invariant holds.
    """
    take_over()
    explorer = Explorer()
    if arguments.choices is not None:
        [scenario] = _named(arguments.case)
        pairs = (pair.split("=") for pair in arguments.choices.split(",") if pair)
        return _told(explorer, explorer.play(scenario, Replay({int(point): int(choice) for point, choice in pairs})))
    if arguments.seed is not None and arguments.seconds is None:
        return _told(explorer, explorer.play(*chosen(SCENARIOS, arguments.seed)))
    until = time.process_time() + arguments.seconds if arguments.seconds else inf
    good = True
    for case in [*CASES, *(LARGE_CASES if arguments.large else [])]:
        if arguments.random or arguments.case not in (None, case.scenario.name):
            continue
        done = explorer.exhaust(case.scenario, case.switches, case.faults, until)
        visited = "all of them" if done.all_of_them else "not all of them"
        _print(f"{case.scenario.name}, at most {case.switches} switches and {case.faults} faults", done, visited)
        good &= _told(explorer, done.found)
        if not good and arguments.stop_at_first:
            return False
        if time.process_time() >= until:
            return good
    if arguments.exhaustive:
        return good
    scenarios = [one for one in SCENARIOS if arguments.case is None] or _named(arguments.case)
    seed = arguments.seed or 0
    done = explorer.random(scenarios, seed, time.process_time() + _A_MINUTE if until == inf else until)
    _print(f"random and PCT, seeds from {seed} on", done, "four faults at the most")
    if done.found:
        print(f"Seed {done.seed}: python -m explorer --seed {done.seed}")
    return good & _told(explorer, done.found)


def _named(name: str) -> list[Scenario]:
    """Return the scenario of a name."""
    found = [one for one in SCENARIOS if one.name == name]
    if not found:
        raise SystemExit(f"There is no case {name!r}: {', '.join(one.name for one in SCENARIOS)}.")
    return found


def _print(what: str, done: Explored, how: str) -> None:
    rate = 60 * done.schedules / done.seconds if done.seconds else 0.0
    print(f"{what}: {done.schedules} schedules, {how}, {done.seconds:.1f} s, {rate:.0f} a minute", flush=True)


def _told(explorer: Explorer, found: Found | None) -> bool:
    """Print the story of a schedule that breaks an invariant."""
    if found is None:
        return True
    short = explorer.shrink(found)
    print(f"\nBROKEN: {short.broken}\n")
    print("\n".join(short.story))
    choices = ",".join(f"{point}={choice}" for point, choice in sorted(short.deviations.items()))
    print(f"\nAgain: python -m explorer --case '{short.scenario.name}' --choices '{choices}'\n", flush=True)
    return False
