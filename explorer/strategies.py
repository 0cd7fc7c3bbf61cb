"""How the choices of a schedule are made: all in turn, at random, by random priorities (PCT), or as once before."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any


class Choices:
    """Makes the default choice everywhere, and counts."""

    def __init__(self) -> None:
        self.points = 0
        self.deviations: dict[int, int] = {}
        """The choices other than the default, by the number of the point."""

    def choose(self, kind: str, options: Sequence[Any]) -> int:
        """Choose, as :class:`~explorer.scheduler.Strategy` says."""
        point, self.points = self.points, self.points + 1
        chosen = self._choose(point, kind, options)
        if chosen:
            self.deviations[point] = chosen
        return chosen

    def _choose(self, point: int, kind: str, options: Sequence[Any]) -> int:
        return 0


class Replay(Choices):
    """
    Makes the choices of an earlier schedule.

    :param deviations: the choices other than the default, by the number of the point.
    """

    def __init__(self, deviations: Mapping[int, int]) -> None:
        super().__init__()
        self._wanted = deviations

    def _choose(self, point: int, kind: str, options: Sequence[Any]) -> int:
        return min(self._wanted.get(point, 0), len(options) - 1)


class Sparse(Choices):
    """
    Deviates from the default now and then.

    :param seed: of all choices.
    :param most_faults: of one schedule.
    """

    def __init__(self, seed: int, most_faults: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._faults_left = self._random.randint(0, most_faults)
        self._often = {"switch": self._random.choice((0.02, 0.1, 0.3)), "fault": self._random.choice((0.02, 0.05, 0.1))}

    def _choose(self, point: int, kind: str, options: Sequence[Any]) -> int:
        if kind == "fault" and not self._faults_left:
            return 0
        if self._random.random() >= self._often[kind]:
            return 0
        self._faults_left -= kind == "fault"
        return self._random.randrange(1, len(options))


class Pct(Sparse):
    """
    Lets the thread with the highest of random priorities go on, which drops at a few random points.

    From "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (Burckhardt et al., 2010): a fault that
    shows where ``depth`` choices fall together is met with a probability of at least 1 / (threads * points ** (depth -
    1)).
    """

    _POINTS = 150

    def __init__(self, seed: int, most_faults: int, depth: int = 3) -> None:
        super().__init__(seed, most_faults)
        self._priorities: dict[Any, float] = {}
        self._drops = {self._random.randrange(self._POINTS): -float(n) for n in range(1, depth)}
        self._switches = 0

    def _choose(self, point: int, kind: str, options: Sequence[Any]) -> int:
        if kind == "fault":
            return super()._choose(point, kind, options)
        for option in options:
            self._priorities.setdefault(option.number, self._random.random())
        self._switches += 1
        if self._switches in self._drops:
            self._priorities[options[0].number] = self._drops[self._switches]
        # Not beyond those that can go on now: a thread that sleeps goes on when its time has come.
        return max(range(len(options)), key=lambda n: (self._priorities[options[n].number], -n))


class Exhaustive:
    """
    Makes, one schedule after the other, every choice with at most so many deviations of each kind: depth first.

    :param switches: the most hand-overs to another thread than the one that goes on by default.
    :param faults: the most faults.
    """

    def __init__(self, switches: int, faults: int) -> None:
        self._most = {"switch": switches, "fault": faults}
        self._path: list[list[int]] = []

    def next(self) -> Choices | None:
        """Return the choices of the next schedule; ``None`` once all were made."""
        if self._path:
            while self._path and self._path[-1][0] + 1 >= self._path[-1][1]:
                self._path.pop()
            if not self._path:
                return None
            self._path[-1][0] += 1
        return _Branch(self._path, dict(self._most))


class _Branch(Choices):
    """The path so far, and then the defaults, which are added to it."""

    def __init__(self, path: list[list[int]], left: dict[str, int]) -> None:
        super().__init__()
        self._path, self._left = path, left

    def _choose(self, point: int, kind: str, options: Sequence[Any]) -> int:
        if point == len(self._path):
            self._path.append([0, len(options) if self._left[kind] else 1])
        chosen = self._path[point][0]
        self._left[kind] -= chosen > 0
        return chosen
