"""Whom to ask when, and when a wait is over: pure rules, the same for the sensor's pokes and for the trigger.

A wait goes round after round. A round asks only for the sends that are *due*, by status and age, and is a generator of
requests (:func:`look`), so that the session over ``requests`` and the one over ``aiohttp`` both can make them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_sendoso.client.answers import Answer, read_send, read_send_answer
from airflow_provider_sendoso.client.endpoints import Request, get_send_request, list_sends_request
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.client.tracker import Tracked, Tracker
from airflow_provider_sendoso.exceptions import (
    TRANSIENT_ERRORS,
    SendosoApiError,
    SendosoConfigError,
    SendosoError,
    SendosoNotFoundError,
)
from airflow_provider_sendoso.models import TRACKING, SendStatus

TRANSIENT_FAILURES = 5
"""Consecutive rounds in which nothing may answer, each after the session's own retries, before a wait gives up."""

NAMED = 100
"""Sends that a report names before it only counts."""

FEW = 10
"""Sends that are asked one by one: for more, the list is tried, a hundred to a page."""

NOT_FOUND = "not_found"
"""What a report calls a send whose id Sendoso does not know (404, seed)."""

_HOUR = 3600.0
_DAY = 24 * _HOUR
_ROUNDS_SHIPPED = 12  # an hour, at the default poke_interval of five minutes
_ROUNDS_AT_LEAST = 2
_OF_ITS_AGE = 0.25
_FAILURES_IN_A_ROW = 5
_ALL_NOT_FOUND = 20

_STOPS_AT_PROCESSING = ("staging.sendo.so",)
"""The vendor's sandbox, where statuses never pass "processing" (published)."""


@dataclass(frozen=True)
class Goal:
    """
    What a wait is for.

    :param targets: at or beyond one of them counts as reached.
    :param failed: statuses that are failures; empty: any terminal status ends the wait well, for branching.
    """

    targets: tuple[SendStatus, ...]
    failed: tuple[SendStatus, ...]

    @classmethod
    def parse(cls, targets: Iterable[str], failed: Iterable[str]) -> Goal:
        """
        Read a goal from its words.

        :param targets: statuses.
        :param failed: statuses.
        :raises SendosoConfigError: for a word that is no status, or for no target.
        """
        goal = cls(_statuses("target_statuses", targets), _statuses("failed_statuses", failed))
        if not goal.targets:
            raise SendosoConfigError("target_statuses is empty: name the statuses to wait for.")
        return goal

    def settled(self, status: SendStatus | None) -> bool:
        """Say whether a send's status cannot change the answer any more."""
        return status is not None and (status.reached(self.targets) or status in self.failed or status.terminal)

    def missed(self, status: SendStatus) -> bool:
        """Say whether a settled status is a failure: one that is neither a target nor declared failed is one too."""
        return bool(self.failed) and not status.reached(self.targets)

    def ends(self) -> frozenset[SendStatus]:
        """Return the statuses that settle a send."""
        return frozenset(status for status in SendStatus if self.settled(status))

    def misses(self) -> frozenset[SendStatus]:
        """Return those of them that are failures."""
        return frozenset(status for status in self.ends() if self.missed(status))

    def check_host(self, base_url: str) -> None:
        """
        Refuse to wait for what never comes.

        :param base_url: the connection's.
        :raises SendosoConfigError: on the vendor's sandbox, for a target beyond ``processing``.
        """
        never = not any(SendStatus.PROCESSING.reached((target,)) for target in self.targets)
        if (urlsplit(base_url).hostname or "").endswith(_STOPS_AT_PROCESSING) and never:
            raise SendosoConfigError(
                f"On {base_url} statuses never pass 'processing' (published by Sendoso), so this wait would never end. "
                "Wait for target_statuses=('processing',) there."
            )


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
        due = [send_id for send_id in self.open(goal) if alone or _is_due(sends[send_id], now, every)]
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
        if nothing_known and sum(other.not_found for other in others) >= min(len(others), _ALL_NOT_FOUND):
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


def look(watch: Watch, due: Sequence[str], clock: Callable[[], float] = time.time) -> Generator[Request, Answer, None]:
    """
    Ask for sends: yields requests, is sent their answers, or thrown the errors that the session raised.

    Many are first looked for in the list, and what is not there is asked one by one. Those of campaigns are looked for
    in the Send Tracker's list, all in one walk; so are ids that no gift send has.

    :param watch: where the answers are noted.
    :param due: whom to ask, in this order.
    :param clock: epoch seconds.
    :raises SendosoError: thrown in, if waiting cannot mend it.
    """
    before, failed = watch.answers, list[str]()
    watch.round_from = before
    error: SendosoError | None = None
    seen = set[str]()
    unknown: dict[str, SendosoNotFoundError] = {}
    of_campaigns = [send_id for send_id in due if send_id in watch.tracked]
    if of_campaigns:
        try:
            yield from _track(watch, [watch.tracked[send_id] for send_id in of_campaigns], clock)
        except TRANSIENT_ERRORS as transient:
            error = transient
            failed += of_campaigns
            for send_id in of_campaigns:
                watch.note_failure(send_id, clock())
    due = [send_id for send_id in due if send_id not in watch.tracked]
    seen = yield from _walk(watch, [send_id for send_id in due if not send_id.startswith(TRACKING)], clock)
    in_a_row = 0
    for send_id in due:
        if send_id in seen:
            continue
        if send_id.startswith(TRACKING):
            lost = SendosoNotFoundError(404, f"The ledger knows no send {send_id!r}; only it knows whose code that is.")
            watch.note_not_found(send_id, lost, clock())
            continue
        try:
            answer = yield get_send_request(send_id)
            send = read_send_answer(send_id, answer.json)
        except SendosoNotFoundError as not_found:
            watch.answers += 1
            unknown[send_id] = not_found
            if len(unknown) >= _ALL_NOT_FOUND and all(send.status is None for send in watch.sends.values()):
                break  # perhaps they are all a campaign's; perhaps it is the connection that is wrong
        except TRANSIENT_ERRORS as transient:
            error = transient
            failed.append(send_id)
            watch.note_failure(send_id, clock())
            in_a_row += 1
            if in_a_row >= _FAILURES_IN_A_ROW:
                break  # Sendoso is down, not they: the rest is still due in the next round
        else:
            watch.answers += 1
            watch.note(send_id, send.status, clock())
            in_a_row = 0
    yield from _track_unknown(watch, unknown, clock)
    watch.end_round(before, failed, error)


def _track(watch: Watch, tracked: Sequence[Tracked], clock: Callable[[], float]) -> Generator[Request, Answer, None]:
    """Walk through the Send Tracker's list for all sends of campaigns that are due."""
    tracker = Tracker(tracked, watch.digest)
    try:
        yield from tracker.walk()
    finally:
        watch.answers += tracker.answers
    for send in tracked:
        found = tracker.seen.get(send.name)
        watch.note(send.name, None if found is None else found.status, clock())
    if tracker.candidates:
        watch.walked.append(tracker)


def _track_unknown(
    watch: Watch, unknown: Mapping[str, SendosoNotFoundError], clock: Callable[[], float]
) -> Generator[Request, Answer, None]:
    """Look for ids that no gift send has among those of the Send Tracker's list: perhaps a campaign's."""
    if not unknown:
        return
    tracked = [Tracked(send_id, "", "", 0.0, send_id) for send_id in unknown]
    tracker = Tracker(tracked, watch.digest)
    try:
        yield from tracker.walk()
    except TRANSIENT_ERRORS:
        for send_id in unknown:
            watch.note_failure(send_id, clock())
        return
    except SendosoApiError:
        pass  # this Sendoso has no such list
    finally:
        watch.answers += tracker.answers
    for send in tracked:
        found = tracker.seen.get(send.name)
        if found is None:
            watch.note_not_found(send.name, unknown[send.name], clock())
        else:
            watch.tracked[send.name] = send
            watch.note(send.name, found.status, clock())


def _walk(watch: Watch, due: Sequence[str], clock: Callable[[], float]) -> Generator[Request, Answer, set[str]]:
    """
    Look for many sends in the list (inferred; a page may repeat a row, or miss one that has moved), newest first.

    A page costs what a send costs, so the walk ends when it has found them, or has become half as long as asking them
    all. What it has not found is not looked for there again for a day: it may be older than the walk is long, or no
    gift send at all.

    :return: the sends that were found, with their status.
    """
    seen = set[str]()
    now = clock()
    wanted = {send_id for send_id in due if watch.sends[send_id].unlisted_until <= now}
    if watch.no_list or len(wanted) <= FEW:
        return seen
    longest = len(wanted) // 2
    pages = Pages(list_sends_request(), "sends")
    try:
        while wanted and not pages.done and pages.page <= longest:
            answer = yield pages.next_request()
            items = pages.read(answer.json)
            watch.answers += 1
            for item in items:
                # Looked up before it is read: most of an account's sends may be none of ours.
                send_id = str(item.get("id"))
                send = read_send(item) if send_id in wanted else None
                if send is not None and send.status is not None:
                    watch.note(send_id, send.status, clock())
                    wanted.remove(send_id)
                    seen.add(send_id)
    except TRANSIENT_ERRORS:
        return seen  # perhaps the next round's list answers; one by one it shows who is down
    except SendosoApiError:
        watch.no_list = True
    for send_id in wanted:
        watch.sends[send_id].unlisted_until = now + _DAY
    return seen


def good_enough(report: Mapping[str, Any], min_delivered: float | None) -> bool:
    """
    Say whether enough sends of a finished wait reached their target.

    :param report: of :meth:`Watch.report`.
    :param min_delivered: share of all sends, from 0 to 1; ``None``: none may have failed.
    """
    if min_delivered is None:
        return not report["failed"]
    return bool(report["sends"] == 0 or report["reached"] / report["sends"] >= min_delivered)


def _is_due(send: Watched, now: float, every: float) -> bool:
    if send.asked_at is None:
        return True
    # To the nearest round: one that begins a moment early would otherwise put it off by a whole one.
    return now - send.asked_at + every / 2 >= pause(send.status, now - send.made_at, every)


def _word(send: Watched) -> str:
    return NOT_FOUND if send.not_found else send.status.value if send.status else "unknown"


def _statuses(name: str, words: Iterable[str]) -> tuple[SendStatus, ...]:
    words = (words,) if isinstance(words, str) else tuple(words)
    try:
        return tuple(SendStatus(word) for word in words)
    except ValueError:
        raise SendosoConfigError(f"{name} has a word that is no status; use some of {', '.join(SendStatus)}.") from None
