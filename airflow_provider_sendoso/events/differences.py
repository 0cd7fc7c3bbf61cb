"""What is new in a list of Sendoso's since it was last read: pure rules, the same for the sensor and the triggers.

Sendoso offers no feed of events that can be asked for: its lists have no filter by date (published), and that they are
newest first is inferred and not depended on. So an event is a difference: a poll reads a list as far as it has to
(:func:`poll`, a generator of requests, as in ``waiting.py``), and a :class:`Cursor` says what of it is new.

Each row is an event once, and none is passed over in silence: a walk that stops early has met every send that is still
on its way, has read past the moment from which on rows may be unknown, and has found as many new rows as the list's
total has grown by. Otherwise the whole list is read.
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

from pydantic import TypeAdapter

from airflow_provider_sendoso.client.answers import Answer, read_status
from airflow_provider_sendoso.client.endpoints import Request, object_request
from airflow_provider_sendoso.client.objects import listing_of
from airflow_provider_sendoso.events.words import OBJECTS, SENDS, EventKind, check_words, listed
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.models import LenientMoment, SendStatus

log = logging.getLogger(__name__)

NAMED = 100
"""Events that one answer names; further ones are left for the next."""

_MINUTE = 60.0
_DAY = 24 * 3600.0

OVERLAP = 10 * _MINUTE
"""Seconds by which rows may be out of their order, or appear late, and still be met."""

WATCHED_FOR = 60 * _DAY
"""Seconds after which a send that is still on its way is not watched any more."""

MOST_WATCHED = 20_000
"""Sends on their way that a cursor holds; the oldest of more are given up."""

MOST_SEEN = 20_000
"""Rows that a cursor holds because their date does not say whether they are new."""

MOST_PAGES = 2_000
"""Pages of one poll: 200,000 rows, and a quarter of an hour at the pace of reads."""

_VERSION = 1
_MOMENT: TypeAdapter[datetime | None] = TypeAdapter(LenientMoment)


_UNDATED = ("return-addresses", "users")
"""Rows that have no date of creation (published for users, inferred for return addresses)."""


@dataclass(frozen=True)
class Question:
    """
    What is asked of a list.

    :param object: one of :data:`OBJECTS`.
    :param events: what counts as an event.
    :param statuses: the statuses that a change has to lead to; empty: any.
    :param since: epoch seconds from which on the first poll's rows are events; ``None``: none of them is one.
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
        Read a question from its words.

        :param object_name: one of :data:`OBJECTS`.
        :param events: ``created`` and ``status_changed``.
        :param statuses: of the six.
        :param since: a datetime, or text in ISO 8601, without a zone in UTC; or epoch seconds.
        :raises SendosoConfigError: for words that are none, or do not go together.
        """
        kinds, wanted = listed(events), listed(statuses)
        check_words(object_name, kinds, wanted)
        moment = _since(since)
        if moment is not None and object_name in _UNDATED:
            raise SendosoConfigError(f"since is given, but {object_name} have no date by which they could be chosen.")
        return cls(object_name, frozenset(map(EventKind, kinds)), frozenset(map(SendStatus, wanted)), moment)

    @property
    def dated(self) -> bool:
        """Whether the list grows with every send, and a row's date says that it is old; the others are read whole."""
        return self.object in SENDS

    @property
    def follows(self) -> bool:
        """Whether sends are watched on their way."""
        return EventKind.STATUS_CHANGED in self.events


@dataclass(frozen=True, slots=True)
class ListedRow:
    """
    What matters of a row; nothing of it is about a person.

    :param id: its id.
    :param at: epoch seconds of its creation, where the list says.
    :param status: a send's.
    :param changed_at: epoch seconds since when it has that status, where the list says (published for campaign sends).
    """

    id: str
    at: float | None = None
    status: SendStatus | None = None
    changed_at: float | None = None


@dataclass
class Reading:
    """
    What a poll has read of a list so far.

    :param rows: by id, as last met.
    :param whole: the list was read to its end, and nothing can have slipped.
    :param total: how many rows the list had when its first page was read; ``None`` where it does not say.
    :param newest: epoch seconds of the newest row.
    :param in_order: rows came newest first so far, but for :data:`OVERLAP`, and all had a date.
    :param reach: epoch seconds of the newest row of the page that was last read.
    :param oldest: epoch seconds of the oldest row.
    :param cut: the walk was ended before its time: nothing older is looked for any more.
    """

    rows: dict[str, ListedRow] = field(default_factory=dict)
    whole: bool = False
    total: int | None = None
    newest: float | None = None
    in_order: bool = True
    reach: float = float("inf")
    oldest: float = float("inf")
    cut: bool = False

    def add(self, rows: Sequence[ListedRow]) -> None:
        """
        Take a page's rows, those that were met before left out.

        :param rows: in their order.
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
    What a reading has brought.

    :param cursor: where the next one goes on.
    :param events: plain values, oldest first.
    :param left: events that are there and not among these; the next :meth:`Cursor.take` has them.
    :param given_up: sends that were watched for too long, or are too many.
    :param gone: sends that were watched and are not in the list any more.
    """

    cursor: Cursor
    events: list[dict[str, Any]]
    left: int = 0
    given_up: int = 0
    gone: int = 0

    def report(self, question: Question) -> dict[str, Any]:
        """
        Say what has happened, in plain values for an XCom or a trigger's event.

        :param question: what was asked.
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
    What is known of a list, so that the next reading's news can be told: of bounded size, and without anybody's name.

    :param began: whether there was a reading at all.
    :param followed: whether the last one watched sends on their way.
    :param floor: epoch seconds; a row that is older is known.
    :param newest: epoch seconds of the newest row ever met.
    :param count: how many rows of the list are known.
    :param seen: known rows that are not below the floor, with their date.
    :param watched: sends on their way, with their status and date.
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
        Say whether a reading holds all that can be new.

        :param question: what is asked.
        :param reading: as far as it has come, or one that was made for another cursor.
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
        Say whether a reading holds all rows that can be new, be it without some send that is watched.

        :param question: what is asked.
        :param reading: as far as it has come.
        :param now: epoch seconds.
        """
        return reading.in_order and reading.reach + OVERLAP < self._unknown_from(question, reading, now)

    def _unknown_from(self, question: Question, reading: Reading, now: float) -> float:
        """Return the moment from which on rows may be unknown."""
        if not question.dated or reading.newest is None:
            return float("-inf")
        if self.began:
            return self.floor if self.floor is not None else float("-inf")
        return min(reading.newest, now) - OVERLAP if question.since is None else question.since

    def _watched_from(self, question: Question, reading: Reading, now: float) -> float:
        """Return the moment from which on sends may be on their way and not watched yet."""
        if not question.follows or self.followed or reading.newest is None:
            return float("inf")
        return min(reading.newest, now) - WATCHED_FOR

    def is_new(self, row: ListedRow) -> bool:
        """
        Say whether a row was in no reading before.

        :param row: of this reading.
        """
        if row.id in self.seen or row.id in self.watched:
            return False
        return self.floor is None or row.at is None or row.at >= self.floor

    # -- what is new -------------------------------------------------------------------------------------------------

    def take(self, question: Question, reading: Reading, now: float, most: int = NAMED) -> Taken:
        """
        Say what a reading brings that is new.

        :param question: what is asked.
        :param reading: one that answers it.
        :param now: epoch seconds.
        :param most: events at the most; those that are left are new to the next cursor, too.
        :raises SendosoError: for a list that is too long to be told apart without dates.
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
                    # Created before ``since`` and changed after it: to the next cursor only the change is new.
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
            # Seen before the first poll: an event only where a moment was given, and the list says that it is later.
            if since is None:
                return
            new = row.at is not None and row.at >= since
            if not new and (row.changed_at is None or row.changed_at < since):
                return
        elif not new:
            return
        if new and EventKind.CREATED in question.events:
            yield _event(question, row, EventKind.CREATED, None, row.at)
        # A send begins as pending: a new one that is beyond has changed before anybody looked.
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
        """Note how far a send has come, if it is one to be watched."""
        there = row.id in watched
        if not question.follows or (not there and not new and self.followed):
            return  # in the second case it has arrived, or was given up
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
        """Move the floor up to where it was one reading ago, so that a row that appears late is met by the next."""
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
        # A total that lags behind the rows must not make them be looked for again once it has caught up.
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
        Read a cursor.

        :param value: of :meth:`as_json`; ``None``: one that has read nothing.
        :raises SendosoError: for one that a newer version of this provider has written.
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
    Read a list as far as a cursor needs it: yields requests, is sent their answers.

    :param cursor: of the last reading.
    :param question: what is asked.
    :param clock: epoch seconds.
    :return: the reading.
    :raises SendosoError: for a list that is no list, or cannot be read far enough.
    """
    name = OBJECTS[question.object]
    listing = listing_of(name, object_request(name))
    reading = Reading()
    pages = 0
    while not cursor.is_answered(question, reading, clock()):
        if pages == MOST_PAGES:
            _stop(cursor, question, reading, clock())
            break
        answer = yield listing.next_request()
        items = listing.read(answer.json)
        if not pages:
            reading.total = listing.total
        reading.add([row for item in items if (row := _row(question, item)) is not None])
        reading.whole = listing.done
        pages += 1
    return reading


def _stop(cursor: Cursor, question: Question, reading: Reading, now: float) -> None:
    """Decide about a list that is too long to be read whole."""
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
    """Find when a send came to its status: the first of the updates since which it has not left it."""
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
    """Warn once per process."""
    log.warning(words, about)


def _moment(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    moment = _MOMENT.validate_python(value)
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
    """Give up the sends that are too old, and the oldest of too many."""
    oldest = reading.oldest if reading.cut else now - WATCHED_FOR
    kept = {send_id: known for send_id, known in watched.items() if not _below(known[1], oldest)}
    if len(kept) <= MOST_WATCHED:
        return kept
    newest = sorted(kept, key=lambda send_id: kept[send_id][1] or float("-inf"), reverse=True)
    return {send_id: kept[send_id] for send_id in newest[:MOST_WATCHED]}


def _bounded(question: Question, seen: Mapping[str, float | None], reading: Reading) -> dict[str, float | None]:
    """Forget rows that are not in the list any more, if there are too many to hold all."""
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


def _since(value: Any) -> float | None:
    if isinstance(value, str) and value.strip() in ("", "None"):
        return None  # a template that has rendered to nothing
    moment = _moment(value)
    if moment is None and value is not None:
        raise SendosoConfigError(f"since is {value!r}; use a datetime, or text like 2026-01-31T12:00:00+00:00.")
    return moment
