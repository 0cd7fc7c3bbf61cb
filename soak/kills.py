"""Interruptions of a try: none, a kill at any moment or at a named point of the protocol, or a freeze."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from soak.settings import POSTING_LEASE

# The points that a try comes to once or not at all, and those that it comes to for every POST.
_ONCE = ("claimed", "put-off", "found", "reconciled", "reopened", "released")
_OFTEN = ("slot-taken", "posting-committed", "posted", "outcome-committed")
# Rare: nobody gets a token until the lease of a renewal that was killed has lapsed, and nothing happens for a minute.
_TOKEN = ("token-claimed", "token-granted", "token-stored")
_TOKEN_SHARE = 0.01


class Kind(StrEnum):
    """The kinds of interruption."""

    NOTHING = "nothing"
    CRASH = "crash"
    """The task kills itself with SIGKILL at a named point."""
    KILL = "kill"
    """SIGKILL to the task."""
    ORPHAN = "orphan"
    """SIGKILL to the supervisor; the task goes on, and the next try starts beside it."""
    TERM = "term"
    """SIGTERM to the supervisor, which hands it to the task: ``on_kill`` is called."""
    STOP = "stop"
    """SIGSTOP to the task, and SIGCONT before anybody misses it."""
    FREEZE = "freeze"
    """SIGSTOP to both for longer than any lease; the next try starts beside them, and they wake up into it."""


@dataclass(frozen=True)
class Interruption:
    """
    The interruption of one try.

    :param after: seconds from the task's start.
    :param lasts: seconds until SIGCONT.
    :param crash_point: ``name:count``, as ``crashpoints`` reads it.
    """

    kind: Kind
    after: float = 0.0
    lasts: float = 0.0
    crash_point: str = ""


def draw(chance: random.Random) -> Interruption:
    """
    Draw how a try is interrupted.

    :param chance: decides.
    """
    kind = chance.choices(
        [Kind.NOTHING, Kind.CRASH, Kind.KILL, Kind.ORPHAN, Kind.TERM, Kind.STOP, Kind.FREEZE], [15, 30, 30, 8, 4, 8, 5]
    )[0]
    after = chance.expovariate(1 / 0.7)
    match kind:
        case Kind.CRASH:
            return draw_crash(chance, tokens=True)
        case Kind.STOP:
            return Interruption(kind, after, chance.uniform(0.2, 4.0))
        case Kind.FREEZE:
            return Interruption(kind, after, POSTING_LEASE + chance.uniform(0.5, 5.0))
        case _:
            return Interruption(kind, after)


def draw_crash(chance: random.Random, tokens: bool = False) -> Interruption:
    """
    Draw a kill at a named point of the protocol.

    :param chance: decides.
    :param tokens: whether it may be during the renewal of the token.
    """
    if tokens and chance.random() < _TOKEN_SHARE:
        name, most = chance.choice(_TOKEN), 1
    elif chance.random() < 0.3:
        name, most = chance.choice(_ONCE), 1
    else:
        name, most = chance.choice(_OFTEN), 25
    return Interruption(Kind.CRASH, crash_point=f"{name}:{chance.randint(1, most)}")
