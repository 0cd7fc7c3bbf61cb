"""Takes schedules one after the other, and tells the story of one that breaks an invariant, made short."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from explorer.bucket import BucketStore
from explorer.ledger import Store
from explorer.scenarios import Play, Scenario
from explorer.scheduler import Broken
from explorer.strategies import Choices, Exhaustive, Pct, Replay, Sparse

_SHRINKING = 20.0
"""Seconds for which a story is made shorter."""


@dataclass
class Found:
    """A schedule that breaks an invariant."""

    scenario: Scenario
    broken: str
    deviations: dict[int, int]
    story: list[str]


@dataclass
class Explored:
    """What was taken."""

    schedules: int
    seconds: float
    """Of the processor, as all seconds here."""
    all_of_them: bool
    found: Found | None = None
    seed: int | None = None


class Explorer:
    """Takes schedules, each on an empty ledger."""

    def __init__(self) -> None:
        self._stores: dict[bool, Store] = {}

    def play(self, scenario: Scenario, choices: Choices) -> Found | None:
        """Take one schedule; return it if it breaks an invariant."""
        if scenario.bucket not in self._stores:
            self._stores[scenario.bucket] = BucketStore() if scenario.bucket else Store()
        play = Play(scenario, choices, self._stores[scenario.bucket])
        try:
            play.run()
        except Broken as broken:
            story = [f"{moment:9.3f} s  {who:<14} {what}" for moment, who, what in play.world.story]
            return Found(scenario, str(broken), dict(choices.deviations), story)
        return None

    def exhaust(self, scenario: Scenario, switches: int, faults: int, until: float) -> Explored:
        """Take every schedule with so many deviations at the most, unless ``until`` comes first."""
        every = Exhaustive(switches, faults)
        return self._explore(((scenario, choices, None) for choices in iter(every.next, None)), until)

    def random(self, scenarios: list[Scenario], seed: int, until: float) -> Explored:
        """Take random schedules with the seeds from this one on, until a moment of the processor's time."""

        def forever() -> Iterator[tuple[Scenario, Choices, int]]:
            number = seed
            while True:
                yield *chosen(scenarios, number), number
                number += 1

        return self._explore(forever(), until)

    def shrink(self, found: Found) -> Found:
        """Leave out whatever the same invariant breaks without."""
        give_up = time.process_time() + _SHRINKING
        for point in sorted(found.deviations, reverse=True):
            if time.process_time() > give_up:
                break
            fewer = {other: choice for other, choice in found.deviations.items() if other != point}
            shorter = self.play(found.scenario, Replay(fewer))
            if shorter and shorter.broken.partition(":")[0] == found.broken.partition(":")[0]:
                found = shorter
        return found

    def _explore(self, schedules: Iterator[tuple[Scenario, Choices, int | None]], until: float) -> Explored:
        began, taken = time.process_time(), 0
        for scenario, choices, seed in schedules:
            found = self.play(scenario, choices)
            taken += 1
            spent = time.process_time()
            if found is not None or spent >= until:
                return Explored(taken, spent - began, False, found, seed)
        return Explored(taken, time.process_time() - began, True)


def chosen(scenarios: list[Scenario], seed: int) -> tuple[Scenario, Choices]:
    """Return what a seed stands for: half of them are PCT's."""
    scenario = scenarios[seed // 2 % len(scenarios)]
    return scenario, Pct(seed, 4) if seed % 2 else Sparse(seed, 4)
