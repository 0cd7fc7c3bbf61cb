"""Finds what is new in one of Sendoso's lists since it was last read: pure rules for the sensor and the triggers.

Sendoso offers no feed of events: its lists have no filter by date (published), and their order, newest first, is
inferred and not relied on. So an event is a difference between two readings. A poll reads a list as far as necessary
(:func:`poll`, a generator of requests, like those in ``waiting/rounds.py``), and a :class:`Cursor` tells which rows are
new.

Each row is an event once, and no row is skipped silently. A poll stops early only if it has met every watched send that
is not terminal, has read past the moment from which rows may be unknown, and has found as many new rows as the list's
total has grown by. Otherwise it reads the whole list.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from airflow_provider_sendoso.arguments.values import moment as parse_moment
from airflow_provider_sendoso.client.answers import Answer, read_status
from airflow_provider_sendoso.client.endpoints import Request, object_request
from airflow_provider_sendoso.client.objects import listing_of
from airflow_provider_sendoso.events.words import OBJECTS, SENDS, EventKind, check_words, listed
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.moments import moment_or_none

log = logging.getLogger(__name__)

NAMED = 100
"""The most events in one report; further events are left for the next report."""

_MINUTE = 60.0
_DAY = 24 * 3600.0

OVERLAP = 10 * _MINUTE
"""Seconds by which a row may be out of order, or appear late, without being missed."""

WATCHED_FOR = 60 * _DAY
"""Seconds after which a send is no longer watched, even if its status is not terminal."""

MOST_WATCHED = 20_000
"""The most watched sends in a cursor; beyond that, the oldest are dropped."""

MOST_SEEN = 20_000
"""The most rows in a cursor whose date alone does not tell whether they are new."""

MOST_PAGES = 2_000
"""The most pages of one poll: 200,000 rows, which take a quarter of an hour to read."""

_VERSION = 1

_UNDATED = ("return-addresses", "users")
"""Objects without a creation date (published for users, inferred for return addresses)."""


@dataclass(frozen=True)
class Question:
    """
    The object to poll, and what counts as an event.

    :param object: one of :data:`OBJECTS`.
    :param events: the kinds of events.
    :param statuses: the new statuses that count as an event; empty: all of them.
    :param since: epoch seconds; rows of the first poll count as events from then on; ``None``: none of them does.
    """

    object: str
    events: frozenset[EventKind]
    statuses: frozenset[SendStatus] = frozenset()
    since: float | None = None

    @classmethod
    def parse(
        cls,
        object_name: str,
        events: str | Iterable[str],
        statuses: str | Iterable[str] | None = None,
        since: datetime | str | float | None = None,
    ) -> Question:
        """
        Parse and validate a question.

        :param object_name: one of :data:`OBJECTS`.
        :param events: ``created``, ``status_changed`` or both.
        :param statuses: some of the six statuses.
        :param since: a moment, as :func:`~airflow_provider_sendoso.moments.read_moment` reads it.
        :raises SendosoConfigError: if a word is unknown, or if words contradict each other.
        """
        kinds, wanted = listed("events", events), listed("statuses", statuses)
        check_words(object_name, kinds, wanted)
        began = parse_moment("since", since)
        if began is not None and object_name in _UNDATED:
            raise SendosoConfigError(f"since is given, but {object_name} have no date by which they could be chosen.")
        moment = None if began is None else began.timestamp()
        return cls(object_name, frozenset(map(EventKind, kinds)), frozenset(map(SendStatus, wanted)), moment)

    @property
    def dated(self) -> bool:
        """Whether rows are sends: that list grows without end, and is read by date; other lists are read whole."""
        return self.object in SENDS

    @property
    def follows(self) -> bool:
        """Whether sends are watched for changes of status."""
        return EventKind.STATUS_CHANGED in self.events


@dataclass(frozen=True, slots=True)
class ListedRow:
    """
    The relevant fields of a row, without personal data.

    :param id: the row's id.
    :param at: creation time in epoch seconds; ``None`` if the list does not say.
    :param status: a send's status.
    :param changed_at: epoch seconds since which it has that status, if the list says (published for campaign sends).
    """

    id: str
    at: float | None = None
    status: SendStatus | None = None
    changed_at: float | None = None


@dataclass
class Reading:
    """
    The part of a list that a poll has read so far.

    :param rows: the rows by id, each as it was read last.
    :param whole: whether the list was read to its end, without a row that could have been missed.
    :param total: the list's number of rows when its first page was read; ``None`` if the list does not say.
    :param newest: epoch seconds of the newest row.
    :param in_order: whether all rows had a date and came newest first, within :data:`OVERLAP`.
    :param reach: epoch seconds of the newest row of the page that was read last.
    :param oldest: epoch seconds of the oldest row.
    :param cut: whether the poll reached its limit of pages; older rows are then given up.
    :param pages: the number of pages, each a request.
    """

    rows: dict[str, ListedRow] = field(default_factory=dict)
    whole: bool = False
    total: int | None = None
    newest: float | None = None
    in_order: bool = True
    reach: float = float("inf")
    oldest: float = float("inf")
    cut: bool = False
    pages: int = 0

    def add(self, rows: Sequence[ListedRow]) -> None:
        """
        Add the rows of a page.

        :param rows: the page's rows that were not on an earlier page, in the list's order.
        """
        for row in rows:
            self.rows[row.id] = row
            if row.at is None:
                self.in_order = False
                continue
            self.in_order &= row.at <= self.oldest + OVERLAP
            self.oldest = min(self.oldest, row.at)
        dated = [row.at for row in rows if row.at is not None]
        if dated:
            self.reach = max(dated)
            self.newest = self.reach if self.newest is None else max(self.newest, self.reach)


@dataclass(frozen=True)
class Taken:
    """
    The result of :meth:`Cursor.take`.

    :param cursor: the cursor for the next reading.
    :param events: the events as plain values, oldest first.
    :param left: number of further events, which the next :meth:`Cursor.take` returns.
    :param given_up: number of sends that are no longer watched, because they are too old or too many.
    :param gone: number of watched sends that are no longer in the list.
    """

    cursor: Cursor
    events: list[dict[str, Any]]
    left: int = 0
    given_up: int = 0
    gone: int = 0

    def report(self, question: Question) -> dict[str, Any]:
        """
        Return the events as plain values for an XCom or a trigger's event.

        :param question: the question of the poll.
        """
        kinds = Counter(str(event["event"]) for event in self.events)
        return {
            "object": question.object,
            "counts": {kind.value: kinds[kind] for kind in EventKind if kind in question.events},
            "left": self.left,
            "events": self.events,
        }


@dataclass(frozen=True)
class Cursor:
    """
    The known part of a list, from which the new rows of the next reading follow: bounded in size, no personal data.

    :param began: whether there was a reading before.
    :param followed: whether the last reading watched sends for changes of status.
    :param floor: epoch seconds; every row that is older is known.
    :param newest: epoch seconds of the newest row ever read.
    :param count: number of known rows.
    :param seen: date by id of the known rows that are not older than ``floor``.
    :param watched: status and date by id of the sends that are watched.
    """

    began: bool = False
    followed: bool = False
    floor: float | None = None
    newest: float | None = None
    count: int | None = None
    seen: Mapping[str, float | None] = field(default_factory=dict, repr=False)
    watched: Mapping[str, tuple[SendStatus, float | None]] = field(default_factory=dict, repr=False)

    # -- how far to read ---------------------------------------------------------------------------------------------

    def is_answered(self, question: Question, reading: Reading, now: float) -> bool:
        """
        Return whether a reading holds everything that can be new.

        :param question: the question of the poll.
        :param reading: a reading that may be unfinished, or made for another cursor.
        :param now: epoch seconds.
        """
        if reading.whole:
            return True
        if not self.is_created_answered(question, reading, now):
            return False
        if reading.reach + OVERLAP >= self._watched_from(question, reading, now):
            return False
        if question.follows and any(
            send_id not in reading.rows for send_id, (_, at) in self.watched.items() if not _too_old(at, now)
        ):
            return False
        if not self.began or self.count is None or reading.total is None:
            return True
        return sum(map(self.is_new, reading.rows.values())) >= reading.total - self.count

    def is_created_answered(self, question: Question, reading: Reading, now: float) -> bool:
        """
        Return whether a reading holds all rows that can be new, even if it lacks watched sends.

        :param question: the question of the poll.
        :param reading: a reading that may be unfinished.
        :param now: epoch seconds.
        """
        return reading.in_order and reading.reach + OVERLAP < self._unknown_from(question, reading, now)

    def _unknown_from(self, question: Question, reading: Reading, now: float) -> float:
        """Return the moment from which rows may be unknown, in epoch seconds."""
        if not question.dated or reading.newest is None:
            return float("-inf")
        if self.began:
            return self.floor if self.floor is not None else float("-inf")
        return min(reading.newest, now) - OVERLAP if question.since is None else question.since

    def _watched_from(self, question: Question, reading: Reading, now: float) -> float:
        """Return the moment, in epoch seconds, from which there may be sends to watch that are not watched yet."""
        if not question.follows or self.followed or reading.newest is None:
            return float("inf")
        return min(reading.newest, now) - WATCHED_FOR

    def is_new(self, row: ListedRow) -> bool:
        """
        Return whether no earlier reading held a row.

        :param row: a row of this reading.
        """
        if row.id in self.seen or row.id in self.watched:
            return False
        return self.floor is None or row.at is None or row.at >= self.floor

    # -- what is new -------------------------------------------------------------------------------------------------

    def take(self, question: Question, reading: Reading, now: float, most: int = NAMED) -> Taken:
        """
        Return a reading's new events, and the cursor that knows them.

        :param question: the question of the poll.
        :param reading: a reading for which :meth:`is_answered` is true.
        :param now: epoch seconds.
        :param most: the most events to return; the next cursor returns the others.
        :raises SendosoError: if the list has too many rows without dates to tell which are new.
        """
        seen, watched = dict(self.seen), dict(self.watched)
        events: list[dict[str, Any]] = []
        left, left_rows = 0, list[ListedRow]()
        for row in sorted(reading.rows.values(), key=lambda row: (row.at or 0.0, row.id)):
            new = self.is_new(row)
            happened = list(self._events(question, row, new))
            if happened and len(events) + len(happened) > most:
                left += len(happened)
                if new and happened[0]["event"] == EventKind.STATUS_CHANGED and EventKind.CREATED in question.events:
                    # Created before ``since`` and changed after it: for the next cursor only the change is an event.
                    seen[row.id], watched[row.id] = row.at, (SendStatus.PENDING, row.at)
                elif new:
                    left_rows.append(row)
                continue
            events += happened
            if new:
                seen[row.id] = row.at
            self._watch(question, row, new, watched, now)
        kept = _kept(watched, reading, now) if question.follows else {}
        given_up = len(watched) - len(kept) if question.follows else 0
        there = {send_id: known for send_id, known in kept.items() if not reading.whole or send_id in reading.rows}
        floor = self._next_floor(question, reading, left_rows, seen, now)
        cursor = Cursor(
            began=True,
            followed=question.follows,
            floor=floor,
            newest=max((at for at in (self.newest, reading.newest) if at is not None), default=None),
            count=self._next_count(reading, len(left_rows)),
            seen=_bounded(question, {i: at for i, at in seen.items() if not _below(at, floor)}, reading),
            watched=there,
        )
        return Taken(cursor, events, left, given_up, len(kept) - len(there))

    def _events(self, question: Question, row: ListedRow, new: bool) -> Iterator[dict[str, Any]]:
        since, was = question.since, None
        if row.id in self.watched:
            was = self.watched[row.id][0]
            if row.status is None or row.status is was:
                return
        elif not self.began:
            # A row of the first poll is an event only if ``since`` is given and the list shows a later date.
            if since is None:
                return
            new = row.at is not None and row.at >= since
            if not new and (row.changed_at is None or row.changed_at < since):
                return
        elif not new:
            return
        if new and EventKind.CREATED in question.events:
            yield _event(question, row, EventKind.CREATED, None, row.at)
        # Every send begins as pending, so a new send with another status has changed before this poll.
        changed = was is not None or row.status not in (None, SendStatus.PENDING)
        if question.follows and changed and (not question.statuses or row.status in question.statuses):
            yield _event(question, row, EventKind.STATUS_CHANGED, was, row.changed_at)

    def _watch(
        self,
        question: Question,
        row: ListedRow,
        new: bool,
        watched: dict[str, tuple[SendStatus, float | None]],
        now: float,
    ) -> None:
        """Record the status of a send that is to be watched, and drop a send that has arrived."""
        there = row.id in watched
        if not question.follows or (not there and not new and self.followed):
            return  # a known send that is not watched has arrived, or was given up
        if row.status is None:
            if not there:
                watched[row.id] = (SendStatus.PENDING, row.at)
        elif row.status.terminal or (not there and _too_old(row.at, now)):
            watched.pop(row.id, None)
        else:
            watched[row.id] = (row.status, row.at)

    def _next_floor(
        self,
        question: Question,
        reading: Reading,
        left: Sequence[ListedRow],
        seen: Mapping[str, float | None],
        now: float,
    ) -> float | None:
        """Raise the floor to :data:`OVERLAP` before the previous reading's newest row, so that late rows are found."""
        if not question.dated or reading.newest is None:
            return self.floor
        newest = self.newest if self.began and self.newest is not None else reading.newest
        floor = max(min(newest, now) - OVERLAP, self.floor if self.floor is not None else float("-inf"))
        dates = sorted((at for at in seen.values() if at is not None and at >= floor), reverse=True)
        if len(dates) > MOST_SEEN:
            floor = dates[MOST_SEEN]
        return min([floor, *(row.at for row in left if row.at is not None)])

    def _next_count(self, reading: Reading, left: int) -> int | None:
        if reading.total is None:
            return None
        if reading.whole:
            return max(reading.total, len(reading.rows)) - left
        found = sum(map(self.is_new, reading.rows.values()))
        # If the total lags behind the rows, the next poll must not search for these rows again when it catches up.
        return max(reading.total, (self.count or 0) + found) - left

    # -- as JSON -----------------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """Return the cursor as plain values."""
        watched: dict[str, dict[str, float | None]] = {}
        for send_id, (status, at) in self.watched.items():
            watched.setdefault(status.value, {})[send_id] = at
        return {
            "version": _VERSION,
            "followed": self.followed,
            "floor": self.floor,
            "newest": self.newest,
            "count": self.count,
            "seen": dict(self.seen),
            "watched": watched,
        }

    @classmethod
    def from_json(cls, value: Any) -> Cursor:
        """
        Parse a cursor.

        :param value: the result of :meth:`as_json`; ``None`` stands for a new cursor.
        :raises SendosoError: if another version of this provider has written the cursor.
        """
        if value is None:
            return cls()
        if not isinstance(value, Mapping) or value.get("version") != _VERSION:
            raise SendosoError(
                "The cursor of these events was written by another version of airflow-provider-sendoso. Upgrade the "
                "provider here as well, or give another cursor_name, which begins anew."
            )
        return cls(
            began=True,
            followed=value["followed"],
            floor=value["floor"],
            newest=value["newest"],
            count=value["count"],
            seen=value["seen"],
            watched={
                send_id: (SendStatus(status), at)
                for status, sends in value["watched"].items()
                for send_id, at in sends.items()
            },
        )


def poll(
    cursor: Cursor, question: Question, clock: Callable[[], float] = time.time
) -> Generator[Request, Answer, Reading]:
    """
    Read a list as far as a cursor needs it; a generator that yields requests and is sent their answers.

    :param cursor: the cursor of the last reading.
    :param question: the object to poll, and what counts as an event.
    :param clock: returns epoch seconds.
    :return: the reading.
    :raises SendosoError: if an answer is not a list, or if the list cannot be read far enough.
    """
    name = OBJECTS[question.object]
    listing = listing_of(name, object_request(name))
    reading = Reading()
    while not cursor.is_answered(question, reading, clock()):
        if reading.pages == MOST_PAGES:
            _stop(cursor, question, reading, clock())
            break
        answer = yield listing.next_request()
        items = listing.read(answer.json)
        if not reading.pages:
            reading.total = listing.total
        reading.add([row for item in items if (row := _row(question, item)) is not None])
        reading.whole = listing.done
        reading.pages += 1
    return reading


def _stop(cursor: Cursor, question: Question, reading: Reading, now: float) -> None:
    """Cut a reading at the limit of pages, or raise if new rows could be missing from it."""
    if not cursor.is_created_answered(question, reading, now):
        raise SendosoError(
            f"{len(reading.rows)} rows of {question.object} were read, and what is new could still be behind them: "
            "the list is longer than one poll reads, and not newest first, or all of that is new. No event was passed "
            "over: the next poll begins where this one did. Give another cursor_name to begin anew."
        )
    reading.cut = True
    log.warning(
        "The newest %d %s were read, and no further: those before them are not watched (any more).",
        len(reading.rows),
        question.object,
    )


def _row(question: Question, item: Mapping[str, Any]) -> ListedRow | None:
    row_id, created = item.get("id"), item.get("created_at")
    if row_id is None or isinstance(row_id, bool) or not str(row_id).strip():
        _complain("A row of %s has no id and cannot be told from others; it is left out.", question.object)
        return None
    if question.object not in SENDS:
        return ListedRow(str(row_id), _moment(created))
    status = _status(item.get("status"))
    return ListedRow(str(row_id), _moment(created), status, _changed_at(item.get("status_updates"), status))


def _status(word: Any) -> SendStatus | None:
    return read_status(word) if isinstance(word, str) else None


def _changed_at(updates: Any, status: SendStatus | None) -> float | None:
    """Find when a send got its present status: the first update since which the status has not changed."""
    if not isinstance(updates, list) or status is None:
        return None
    steps = [
        (moment, _status(update.get("status")))
        for update in updates
        if isinstance(update, Mapping) and (moment := _moment(update.get("occurred_at"))) is not None
    ]
    found = None
    for moment, reached in sorted(steps, key=lambda step: step[0]):
        if reached is not status:
            found = None
        elif found is None:
            found = moment
    return found


@lru_cache(maxsize=256)
def _complain(words: str, about: str) -> None:
    """Log a warning once per process."""
    log.warning(words, about)


def _moment(value: Any) -> float | None:
    moment = moment_or_none(value)
    return None if moment is None else moment.timestamp()


def _event(
    question: Question, row: ListedRow, kind: EventKind, was: SendStatus | None, at: float | None
) -> dict[str, Any]:
    event: dict[str, Any] = {"object": question.object, "id": row.id, "event": kind.value}
    if question.dated:
        event["status"] = row.status.value if row.status else None
        if kind is EventKind.STATUS_CHANGED:
            event["previous_status"] = was.value if was else None
    event["occurred_at"] = None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
    return event


def _too_old(at: float | None, now: float) -> bool:
    return at is not None and at < now - WATCHED_FOR


def _below(at: float | None, floor: float | None) -> bool:
    return at is not None and floor is not None and at < floor


def _kept(
    watched: Mapping[str, tuple[SendStatus, float | None]], reading: Reading, now: float
) -> dict[str, tuple[SendStatus, float | None]]:
    """Drop the sends that are too old; if there are still too many, drop the oldest."""
    oldest = reading.oldest if reading.cut else now - WATCHED_FOR
    kept = {send_id: known for send_id, known in watched.items() if not _below(known[1], oldest)}
    if len(kept) <= MOST_WATCHED:
        return kept
    newest = sorted(kept, key=lambda send_id: kept[send_id][1] or float("-inf"), reverse=True)
    return {send_id: kept[send_id] for send_id in newest[:MOST_WATCHED]}


def _bounded(question: Question, seen: Mapping[str, float | None], reading: Reading) -> dict[str, float | None]:
    """Drop the rows that are no longer in the list, if there are too many to hold."""
    undated = sum(at is None for at in seen.values()) if question.dated else len(seen)
    if undated > MOST_SEEN and reading.whole:
        seen = {row_id: at for row_id, at in seen.items() if row_id in reading.rows}
        undated = sum(at is None for at in seen.values()) if question.dated else len(seen)
    if undated > MOST_SEEN:
        raise SendosoError(
            f"The list of {question.object} holds more than {MOST_SEEN} rows that cannot be told apart by a date: too "
            "many to know which of them are new. It cannot be polled for events."
        )
    return dict(seen)
