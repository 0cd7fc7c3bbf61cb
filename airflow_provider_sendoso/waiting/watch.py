"""What a wait knows of its sends, and which of them are due. Pure rules: no I/O.

A wait goes round after round. A round asks only for the sends that are *due*, by status and age.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sendoso.client.tracker import Tracked, Tracker
from airflow_provider_sendoso.exceptions import (
    SendosoError,
)
from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.waiting.goal import Goal

TRANSIENT_FAILURES = 5
"""Consecutive rounds in which nothing may answer, each after the session's own retries, before a wait gives up."""

NAMED = 100
"""Sends that a report names before it only counts."""

NOT_FOUND = "not_found"
"""What a report calls a send whose id Sendoso does not know (404, seed)."""

_HOUR = 3600.0
_ROUNDS_SHIPPED = 12  # an hour, at the default poke_interval of five minutes
_ROUNDS_AT_LEAST = 2
_OF_ITS_AGE = 0.25
ALL_NOT_FOUND = 20


def pause(status: SendStatus | None, age: float, every: float) -> float:
    """
    Return the seconds for which a send is left alone after a look at it: for many of them, requests are short.

    A shipped one is asked once an hour. Any other is left alone for a quarter of its age, so that one just made is
    asked in every second round, and one that has been processing since yesterday once an hour.

    :param status: as it was at that look.
    :param age: seconds since the send was made.
    :param every: seconds between two rounds, which all of this scales with; one that is longer than an hour is kept.
    """
    longest = max(every, _HOUR)
    if status is SendStatus.SHIPPED:
        return min(_ROUNDS_SHIPPED * every, longest)
    return min(max(age * _OF_ITS_AGE, _ROUNDS_AT_LEAST * every), longest)


@dataclass(slots=True)
class Watched:
    """
    One send that is waited for.

    :param status: ``None`` while it is not known.
    :param made_at: epoch seconds; where nobody knows, when the wait first heard of it.
    :param asked_at: epoch seconds of the last look, by whomever; ``None`` before the first.
    :param not_found: Sendoso does not know the id.
    :param unlisted_until: epoch seconds until which it is asked by itself: the list was walked and is without it.
    :param failing_since: how many answers the wait had had when this send stopped giving any; ``None``: it does.
    """

    made_at: float
    status: SendStatus | None = None
    asked_at: float | None = None
    not_found: bool = False
    unlisted_until: float = 0.0
    failing_since: int | None = None


@dataclass
class Watch:
    """
    The sends of one wait and what is known of them.

    :param sends: by id.
    :param answers: how many answers there were, pages of the list among them.
    :param dead_rounds: rounds in a row that had none.
    :param round_from: ``answers`` when the present round began.
    :param error: of the last of these.
    :param no_list: this Sendoso has no list of sends.
    :param news: statuses that were read and are not in the ledger yet.
    :param tracked: those of the sends that are campaigns', which only the Send Tracker's list shows, by id.
    :param not_followed: those that nothing asks Sendoso for; how far they have come is what the ledger says.
    :param digest: hashes an e-mail as the ledger has hashed those of the campaigns' recipients.
    :param walked: walks through that list whose rows are still to be bound to sends, which takes the ledger.
    """

    sends: dict[str, Watched] = field(default_factory=dict)
    answers: int = 0
    dead_rounds: int = 0
    round_from: int = 0
    error: SendosoError | None = None
    no_list: bool = False
    news: dict[str, SendStatus] = field(default_factory=dict)
    tracked: dict[str, Tracked] = field(default_factory=dict)
    not_followed: set[str] = field(default_factory=set)
    digest: Callable[[str], str] = str
    walked: list[Tracker] = field(default_factory=list)

    def add(self, send_ids: Iterable[str], now: float) -> None:
        """
        Watch these sends too, where they are not watched yet.

        :param send_ids: their ids.
        :param now: epoch seconds.
        """
        for send_id in send_ids:
            if send_id not in self.sends:
                self.sends[send_id] = Watched(now)

    def recall(self, send_id: str, status: SendStatus | None, made_at: float, asked_at: float | None) -> None:
        """
        Take over what the ledger knows of a send, unless it is known better here.

        :param send_id: its id.
        :param status: as it was last read.
        :param made_at: epoch seconds.
        :param asked_at: epoch seconds of that reading.
        """
        send = self.sends.setdefault(send_id, Watched(made_at))
        send.made_at = made_at
        if asked_at is not None and (send.asked_at is None or asked_at > send.asked_at):
            send.status, send.asked_at = status, asked_at

    def open(self, goal: Goal) -> list[str]:
        """Return the sends whose status can still change the answer."""
        ends = goal.ends()
        return [send_id for send_id, send in self.sends.items() if send.status not in ends and not send.not_found]

    def due(self, goal: Goal, now: float, every: float) -> list[str]:
        """
        Return the sends to ask in this round, those of which there is most to learn first.

        First the ones nobody has asked yet, then the newest; last the ones that fail while others answer. One send
        alone is asked in every round.

        :param goal: what is waited for.
        :param now: epoch seconds.
        :param every: seconds between two rounds.
        """
        sends, alone = self.sends, len(self.sends) == 1
        due = [
            send_id
            for send_id in self.open(goal)
            if send_id not in self.not_followed and (alone or _is_due(sends[send_id], now, every))
        ]
        due.sort(key=lambda name: (self._odd(sends[name]), sends[name].asked_at is not None, -sends[name].made_at))
        return due

    def note(self, send_id: str, status: SendStatus | None, now: float) -> None:
        """
        Note an answer.

        :param send_id: whose.
        :param status: what it says; ``None`` if it says nothing of that.
        :param now: epoch seconds.
        """
        send = self.sends[send_id]
        send.asked_at, send.failing_since, send.not_found = now, None, False
        if status is not None:
            send.status = self.news[send_id] = status

    def note_failure(self, send_id: str, now: float) -> None:
        """
        Note that a send did not answer; it is left alone for a while, as if it had.

        :param send_id: which.
        :param now: epoch seconds.
        """
        send = self.sends[send_id]
        send.asked_at = now
        if send.failing_since is None:
            # From the round's beginning: whether others answer does not depend on who of them was asked first.
            send.failing_since = self.round_from

    def note_not_found(self, send_id: str, error: SendosoError, now: float) -> None:
        """
        Note that Sendoso does not know an id.

        :param send_id: which.
        :param error: its answer; raised if it knows none of those that it was asked for: then it is not these ids
            that are wrong, but perhaps the connection.
        :param now: epoch seconds.
        """
        send = self.sends[send_id]
        send.asked_at, send.failing_since, send.not_found = now, None, True
        others = self.sends.values()
        nothing_known = all(other.status is None for other in others)
        if nothing_known and sum(other.not_found for other in others) >= min(len(others), ALL_NOT_FOUND):
            raise error

    def end_round(self, answers_before: int, failed: Sequence[str], error: SendosoError | None) -> None:
        """
        Tell a round in which Sendoso was down from one in which only single sends gave no answer.

        :param answers_before: :attr:`answers` when the round began.
        :param failed: the sends that gave none.
        :param error: of the last one.
        """
        if self.answers > answers_before:
            self.dead_rounds = 0
        elif error is not None and not all(self._odd(self.sends[send_id]) for send_id in failed):
            self.fail_round(error)

    def fail_round(self, error: SendosoError) -> None:
        """Count a round in which nothing could be learnt."""
        self.dead_rounds += 1
        self.error = error

    def check(self) -> None:
        """
        Give up when nothing has answered for too many rounds.

        :raises SendosoError: the last round's.
        """
        if self.error is not None and self.dead_rounds > TRANSIENT_FAILURES:
            raise self.error

    def counts(self) -> dict[str, int]:
        """Count the sends by status; the ones whose status is not known yet are ``unknown``."""
        return dict(Counter(map(_word, self.sends.values())))

    def report(self, goal: Goal, *, named: bool) -> dict[str, Any]:
        """
        Say how the wait stands, in plain values for a trigger's event, which lands in a log: counts, and few names.

        :param goal: what is waited for.
        :param named: whether to give each send's status: for sends that were named one by one. For more than a
            hundred it is not given.
        """
        misses = goal.misses()
        failed = [send_id for send_id, send in self.sends.items() if send.not_found or send.status in misses]
        few = named and len(self.sends) <= NAMED
        known = {i: _word(send) for i, send in self.sends.items() if send.status or send.not_found} if few else None
        return {
            "sends": len(self.sends),
            "reached": sum(
                not send.not_found and send.status is not None and send.status.reached(goal.targets)
                for send in self.sends.values()
            ),
            "counts": self.counts(),
            "failed": len(failed),
            "failed_ids": failed[:NAMED],
            "statuses": known,
        }

    def _odd(self, send: Watched) -> bool:
        """Say whether a send fails while others answer."""
        return send.failing_since is not None and self.answers > send.failing_since


def _is_due(send: Watched, now: float, every: float) -> bool:
    if send.asked_at is None:
        return True
    # To the nearest round: one that begins a moment early would otherwise put it off by a whole one.
    return now - send.asked_at + every / 2 >= pause(send.status, now - send.made_at, every)


def _word(send: Watched) -> str:
    return NOT_FOUND if send.not_found else send.status.value if send.status else "unknown"
