"""The state of a wait, and which of its sends are due. Pure rules: no I/O.

A wait consists of rounds. A round checks only the sends that are *due*, by their status and age.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from airflow_provider_sendoso.client.tracker import Tracked, Tracker
from airflow_provider_sendoso.exceptions import (
    SendosoError,
)
from airflow_provider_sendoso.ledger.wakeups import Wakeup
from airflow_provider_sendoso.models import SendStatus, StatusReport
from airflow_provider_sendoso.waiting.goal import Goal

TRANSIENT_FAILURES = 5
"""Consecutive rounds without any answer, each after the session's own retries, before a wait gives up."""

NAMED = 100
"""The most sends that a report names; it only counts further ones."""

NOT_FOUND = "not_found"
"""The status in a report of a send whose id Sendoso does not know (404, seed)."""

_HOUR = 3600.0
_ROUNDS_SHIPPED = 12  # an hour, at the default poke_interval of five minutes
_ROUNDS_AT_LEAST = 2
_OF_ITS_AGE = 0.25
ALL_NOT_FOUND = 20

_PAUSE_PER_PAGE = 36.0
"""Seconds for each page of a list, before it is read again because of webhooks: no more than 100 requests an hour."""

_BEHIND = 30.0
"""Seconds by which a wake-up may be older than the last check and still call for another: the clocks of ledger and
process differ, and a check takes its time."""

_HEARD_FOR = 2 * 86_400.0
"""Seconds for which a wait knows which wake-ups it has heard: longer than any look reaches back."""


def walk_pause(pages: int) -> float:
    """
    Return the seconds after which a list may be read again because a webhook has named one of its sends.

    There is no request for a single campaign send (none is published), so each wake-up would cost a walk through the
    list, and a wait for thousands of them more requests than without webhooks.

    :param pages: the requests of the last walk.
    """
    return max(1, pages) * _PAUSE_PER_PAGE


def pause(status: SendStatus | None, age: float, every: float) -> float:
    """
    Return the seconds until a send is due again, because a wait for many sends has few requests.

    A shipped send is checked once an hour. Any other is due after a quarter of its age: a new send in every second
    round, and a send that has been processing since yesterday once an hour.

    :param status: the status at the last check.
    :param age: seconds since the send was made.
    :param every: seconds between two rounds; pauses scale with it, up to an hour, or up to ``every`` if that is longer.
    """
    longest = max(every, _HOUR)
    if status is SendStatus.SHIPPED:
        return min(_ROUNDS_SHIPPED * every, longest)
    return min(max(age * _OF_ITS_AGE, _ROUNDS_AT_LEAST * every), longest)


@dataclass(slots=True)
class Watched:
    """
    One send of a wait.

    :param report: the last known status, with Sendoso's words for it; ``None`` if it is not known.
    :param made_at: epoch seconds; if the time of the send is not known, when the wait first heard of it.
    :param asked_at: epoch seconds of the last check by any process; ``None`` before the first.
    :param not_found: whether Sendoso does not know the id.
    :param unlisted_until: epoch seconds until which the send is checked by itself, because the list did not show it.
    :param failing_since: the wait's number of answers when this send began to fail; ``None`` if it does not fail.
    :param named: whether webhooks are known to name this send by an id that the wait knows.
    :param sought: whether this wait has asked for it, and so for that id.
    """

    made_at: float
    report: StatusReport | None = None
    asked_at: float | None = None
    not_found: bool = False
    unlisted_until: float = 0.0
    failing_since: int | None = None
    named: bool = False
    sought: bool = False

    @property
    def status(self) -> SendStatus | None:
        """The last known status; ``None`` if it is not known."""
        return None if self.report is None else self.report.status

    @property
    def on_hold(self) -> bool:
        """Whether Sendoso holds the send."""
        return self.report is not None and self.report.on_hold


@dataclass
class Watch:
    """
    The state of one wait.

    :param sends: the sends by id.
    :param answers: number of answers, pages of the list included.
    :param dead_rounds: number of consecutive rounds without an answer.
    :param round_from: ``answers`` when the present round began.
    :param error: the error of the last dead round.
    :param no_list: whether this Sendoso has no list of sends.
    :param news: statuses that were read and are not in the ledger yet.
    :param tracked: the campaign sends by id, which only the Send Tracker's list shows.
    :param not_followed: the sends that cannot be looked for in Sendoso; only the ledger's status counts for them.
    :param not_listed: the sends whose id the Send Tracker's list does not show.
    :param digest: hashes an e-mail in the same way as the ledger.
    :param changes: number of answers that changed what is known of a send.
    :param put_on_hold: the sends that Sendoso has put on hold since this was last logged.
    :param walked: walks through the Send Tracker's list whose rows are still to be bound to sends in the ledger.
    :param rare: with webhooks, the seconds after which a send is due that none has named; ``None``: there are none.
    :param woken: the sends that a webhook has named since they were last checked.
    :param gids: the sends' ids by those that webhooks name them by, as far as answers have shown them.
    :param new_gids: what the ledger does not know of it yet, the other way round.
    :param heard: the wake-ups that have woken a send, with the moment of each in epoch seconds.
    :param tidied_at: epoch seconds when old ones were last taken out of ``heard``.
    :param walk_at: epoch seconds from which the Send Tracker's list may be read again because of a webhook.
    """

    sends: dict[str, Watched] = field(default_factory=dict)
    answers: int = 0
    dead_rounds: int = 0
    round_from: int = 0
    error: SendosoError | None = None
    no_list: bool = False
    news: dict[str, StatusReport] = field(default_factory=dict)
    changes: int = 0
    put_on_hold: list[str] = field(default_factory=list)
    tracked: dict[str, Tracked] = field(default_factory=dict)
    not_followed: set[str] = field(default_factory=set)
    not_listed: set[str] = field(default_factory=set)
    digest: Callable[[str], str] = str
    walked: list[Tracker] = field(default_factory=list)
    rare: float | None = None
    woken: set[str] = field(default_factory=set)
    gids: dict[str, str] = field(default_factory=dict)
    new_gids: dict[str, str] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    tidied_at: float = 0.0
    walk_at: float = 0.0

    def add(self, send_ids: Iterable[str], now: float) -> None:
        """
        Add sends to the wait, if they are not in it yet.

        :param send_ids: their ids.
        :param now: epoch seconds.
        """
        for send_id in send_ids:
            if send_id not in self.sends:
                self.sends[send_id] = Watched(now)

    def recall(self, send_id: str, report: StatusReport | None, made_at: float, asked_at: float | None) -> None:
        """
        Take over the ledger's status of a send, unless this wait has a newer one.

        :param send_id: the send's id.
        :param report: the status in the ledger.
        :param made_at: epoch seconds.
        :param asked_at: epoch seconds when that status was read.
        """
        send = self.sends.setdefault(send_id, Watched(made_at))
        send.made_at = made_at
        if asked_at is not None and (send.asked_at is None or asked_at > send.asked_at):
            send.report, send.asked_at = None if report is None else report.after(send.report), asked_at

    def open(self, goal: Goal) -> list[str]:
        """Return the sends whose status can still change the result."""
        settled = cache(goal.settled)  # thousands of sends have few statuses between them
        return [send_id for send_id, send in self.sends.items() if not send.not_found and not settled(send.report)]

    def due(self, goal: Goal, now: float, every: float) -> list[str]:
        """
        Return the sends to check in this round, in the order of their priority.

        Sends that were never checked come first, then the newest; sends that fail while others answer come last. A
        single send is due in every round. With webhooks, those that one has named come before all others, and the
        others are due after ``rare`` seconds at the soonest, unless no webhook could name them: a send is due once to
        learn the id by which one would, and if no answer shows such an id, it is due as without webhooks.

        :param goal: the goal of the wait.
        :param now: epoch seconds.
        :param every: seconds between two rounds.
        """
        sends, alone = self.sends, len(self.sends) == 1
        woken = set(self.due_woken(goal, now))
        candidates = [send_id for send_id in self.open(goal) if send_id not in self.not_followed]
        due = {send_id for send_id in candidates if _is_due(sends[send_id], now, every, self.rare, alone)}
        if any(sends[send_id].named for send_id in due):
            # All of them at once, whichever was read in between: many are read through the list, which would otherwise
            # be read for a few of them again and again.
            due.update(send_id for send_id in candidates if sends[send_id].named)
        return self._sorted(due | woken, woken)

    def due_woken(self, goal: Goal, now: float) -> list[str]:
        """
        Return the sends to check because a webhook has named them, in the order of their priority.

        Of those that only the Send Tracker's list shows, all are due, because one walk shows all; or none yet, if the
        list was read too recently.

        :param goal: the goal of the wait.
        :param now: epoch seconds.
        """
        over = (name for name in self.woken if self.sends[name].not_found or goal.settled(self.sends[name].report))
        self.woken -= set(over)
        due = {name for name in self.woken if name not in self.not_followed and name not in self.tracked}
        if self.wait_for_walk(now) == 0:
            due.update(name for name in self.open(goal) if name in self.tracked and name not in self.not_followed)
        return self._sorted(due, due)

    def wait_for_walk(self, now: float) -> float | None:
        """
        Return the seconds until the Send Tracker's list may be read for sends that webhooks have named.

        :param now: epoch seconds.
        :return: ``None`` if no such send waits for it.
        """
        waiting = any(name in self.tracked and name not in self.not_followed for name in self.woken)
        return max(0.0, self.walk_at - now) if waiting else None

    def wake(self, wakeups: Iterable[Wakeup], now: float) -> None:
        """
        Note which sends webhooks have named since their last check.

        :param wakeups: the wake-ups; those that were noted before wake nothing again.
        :param now: epoch seconds.
        """
        new = [wakeup for wakeup in wakeups if wakeup.svix_id not in self.heard]
        bound = {send.bound_id: name for name, send in self.tracked.items()} if new else {}
        for wakeup in new:
            at = now - wakeup.ago
            for name in (self.gids.get(known) or bound.get(known, known) for known in wakeup.names):
                send = self.sends.get(name)
                if send is None:
                    continue
                self.heard[wakeup.svix_id] = at
                send.named = True
                if send.asked_at is None or at > send.asked_at - _BEHIND:
                    self.woken.add(name)
                break
        if now > self.tidied_at + _HEARD_FOR:
            self.heard = {svix_id: at for svix_id, at in self.heard.items() if at > now - _HEARD_FOR}
            self.tidied_at = now

    def learn(self, send_id: str, gid: str | None) -> None:
        """
        Note by which id webhooks name a send, where there are webhooks.

        :param send_id: the send's id.
        :param gid: ``send_gid`` of an answer; ``None`` if it shows none.
        """
        if self.rare is not None and gid is not None and self.gids.get(gid) != send_id:
            self.recall_gid(send_id, gid)
            self.new_gids[send_id] = gid

    def recall_gid(self, send_id: str, gid: str) -> None:
        """
        Take over from the ledger by which id webhooks name a send.

        :param send_id: the send's id.
        :param gid: the ``send_gid``.
        """
        self.gids[gid] = send_id
        self.sends[send_id].named = True

    def _sorted(self, due: Collection[str], first: Collection[str]) -> list[str]:
        sends = self.sends
        return sorted(
            due,
            key=lambda name: (
                self._odd(sends[name]),
                name not in first,
                sends[name].asked_at is not None,
                -sends[name].made_at,
            ),
        )

    def note(self, send_id: str, report: StatusReport | None, now: float) -> None:
        """
        Record an answer.

        :param send_id: the send's id.
        :param report: the status in the answer; ``None`` if the answer holds none.
        :param now: epoch seconds.
        """
        send = self.sends[send_id]
        send.asked_at, send.failing_since, send.not_found, send.sought = now, None, False, True
        self.woken.discard(send_id)
        if report is not None:
            if report.on_hold and not send.on_hold:
                self.put_on_hold.append(send_id)
            self.changes += send.report is None or (report.status, report.word) != (send.status, send.report.word)
            send.report = self.news[send_id] = report.after(send.report)

    def age_of(self, news: Iterable[str], now: float) -> float:
        """
        Return the seconds since the first of some sends was asked for.

        :param news: the sends' ids.
        :param now: epoch seconds.
        """
        return max((now - (self.sends[send_id].asked_at or now) for send_id in news), default=0.0)

    def note_failure(self, send_id: str, now: float) -> None:
        """
        Record that the check of a send failed; the send is due again after the same pause as after an answer.

        :param send_id: the send's id.
        :param now: epoch seconds.
        """
        send = self.sends[send_id]
        send.asked_at = now
        if send.failing_since is None:
            # Counted from the round's beginning, so that the order of the checks within the round does not matter.
            send.failing_since = self.round_from

    def note_not_found(self, send_id: str, error: SendosoError, now: float) -> None:
        """
        Record that Sendoso does not know an id.

        :param send_id: the send's id.
        :param error: Sendoso's answer; raised if Sendoso knows none of the ids, because then the connection may be
            wrong.
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
        Distinguish a round in which Sendoso was down from one in which only single sends failed.

        :param answers_before: :attr:`answers` when the round began.
        :param failed: the sends whose check failed.
        :param error: the last error.
        """
        if self.answers > answers_before:
            self.dead_rounds = 0
        elif error is not None and not all(self._odd(self.sends[send_id]) for send_id in failed):
            self.fail_round(error)

    def fail_round(self, error: SendosoError) -> None:
        """Count a dead round."""
        self.dead_rounds += 1
        self.error = error

    def check(self) -> None:
        """
        Give up after too many dead rounds.

        :raises SendosoError: the error of the last dead round.
        """
        if self.error is not None and self.dead_rounds > TRANSIENT_FAILURES:
            raise self.error

    def counts(self) -> dict[str, int]:
        """Count the sends by status; a status that is not known yet counts as ``unknown``."""
        return dict(Counter(map(_word, self.sends.values())))

    def on_hold(self) -> dict[str, str]:
        """Return, by the ids of the sends that Sendoso holds, its word for why."""
        return {send_id: str(send.report.word) for send_id, send in self.sends.items() if send.report and send.on_hold}

    def report(self, goal: Goal, *, named: bool) -> dict[str, Any]:
        """
        Return the state of the wait as plain values for a trigger's event; it is short, because Airflow logs it.

        :param goal: the goal of the wait.
        :param named: whether to include each send's status, which is done for at most a hundred sends.
        """
        missed, reached = cache(goal.missed), cache(goal.reached)
        failed = [send_id for send_id, send in self.sends.items() if send.not_found or missed(send.report)]
        few = named and len(self.sends) <= NAMED
        known = {i: _word(send) for i, send in self.sends.items() if send.status or send.not_found} if few else None
        words = {i: send.report.word for i, send in self.sends.items() if send.report} if few else None
        on_hold = self.on_hold()
        return {
            "sends": len(self.sends),
            "reached": sum(
                not send.not_found and send.report is not None and reached(send.report) for send in self.sends.values()
            ),
            "counts": self.counts(),
            "failed": len(failed),
            "failed_ids": failed[:NAMED],
            "on_hold": len(on_hold),
            "on_hold_ids": list(on_hold)[:NAMED],
            "statuses": known,
            "status_words": words,
        }

    def _odd(self, send: Watched) -> bool:
        """Return whether a send fails while others answer."""
        return send.failing_since is not None and self.answers > send.failing_since


def _is_due(send: Watched, now: float, every: float, rare: float | None, alone: bool) -> bool:
    if send.asked_at is None or (alone and rare is None):
        return True
    if rare is not None and not send.named:
        if not send.sought:
            return True
        rare = None
    wanted = every if alone else pause(send.status, now - send.made_at, every)
    # Rounded to the nearest round, or else a round that begins slightly early would delay the check by a whole round.
    return now - send.asked_at + every / 2 >= max(wanted, rare or 0.0)


def _word(send: Watched) -> str:
    return NOT_FOUND if send.not_found else send.status.value if send.status else "unknown"
