"""Finds campaign sends in the Send Tracker's list. No I/O.

The answer to a campaign send has a tracking code and no id, and the list has ids and no code (published). So a send is
matched once by its recipient, its campaign and its time, and is then bound to its id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_sendoso.client.answers import Answer, read_send
from airflow_provider_sendoso.client.endpoints import Request, list_campaign_sends_request
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.models import Send
from airflow_provider_sendoso.moments import moment_or_none

log = logging.getLogger(__name__)

CLOCKS_APART = 3600.0
"""Largest difference between Sendoso's clock and the ledger's, in seconds."""

MOST_PAGES = 1000
"""The most pages of one walk: an account's last 100,000 sends."""

NO_TOUCH = ""
"""The campaign of a row that shows none, as sends of the marketplace and of SmartSend do (inferred)."""

Key = tuple[str, str]
"""The hash of an e-mail, and a campaign."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    A campaign send that is looked for.

    :param name: the caller's name for the send.
    :param email_hash: hash of the recipient's e-mail.
    :param posted_at: epoch seconds.
    :param bound_id: the send's id in the list, if it is known already.
    :param accepted: whether Sendoso is known to have accepted the send, so that the list must hold it.
    """

    name: str
    touch_id: str
    email_hash: str
    posted_at: float
    bound_id: str | None = None
    accepted: bool = True

    @property
    def key(self) -> Key:
        """The key that the send's rows in the list share."""
        return self.email_hash, self.touch_id


@dataclass(frozen=True)
class Candidate:
    """
    A row of the list that may be one of the sends.

    :param created_at: epoch seconds; ``None`` if the row does not say.
    """

    send: Send
    created_at: float | None


class Descent:
    """Tracks whether a list of sends was newest first so far (inferred), and how far back it was read."""

    def __init__(self) -> None:
        self._newest_first = True
        self._last: float | None = None

    def see(self, item: Mapping[str, Any]) -> None:
        """
        Process the next row.

        :param item: the row.
        """
        created = created_at(item)
        # Once a row is out of order or has no date, an old row does not prove that the later rows are older.
        self._newest_first &= created is not None and (self._last is None or created <= self._last)
        self._last = created

    def is_past(self, moment: float) -> bool:
        """
        Return whether all remaining rows are older than a moment.

        :param moment: epoch seconds.
        """
        return self._newest_first and self._last is not None and self._last < moment


class Tracker:
    """
    Walks through the list once, for all of the sends together.

    :param tracked: the sends that are looked for.
    :param digest: the function that computes the sends' ``email_hash``.
    :param whole: whether to read the list to its end, for a caller that relies on a send's absence; otherwise the walk
        ends when no more sends can be found.
    :param stop: returns whether the time is over.
    """

    def __init__(
        self,
        tracked: Iterable[Tracked],
        digest: Callable[[str], str],
        *,
        whole: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._tracked = list(tracked)
        self._digest = digest
        self._whole = whole
        self._stop = stop
        self._bound = {send.bound_id: send.name for send in self._tracked if send.bound_id is not None}
        self._keys = {send.key for send in self._tracked if send.bound_id is None}
        self._touches = {touch_id for _, touch_id in self._keys}
        self.seen: dict[str, Send] = {}
        """The rows of the bound sends, by name."""
        self.candidates: dict[Key, dict[str, Candidate]] = {}
        """The rows that may match unbound sends, by key and id."""
        self.complete = False
        """Whether the list was read to its end, and had as many rows as its total says."""
        self.answers = 0
        """Number of pages received so far."""

    def walk(self) -> Generator[Request, Answer, None]:
        """
        Read the pages; a generator that yields requests and is sent their answers.

        :raises SendosoError: an error that was thrown in.
        """
        pages = Pages(list_campaign_sends_request(), "sends", until_empty=self._whole)
        oldest = min((send.posted_at for send in self._tracked), default=0.0) - CLOCKS_APART
        descent = Descent()
        while not pages.done:
            answer = yield pages.next_request()
            self.answers += 1
            for item in pages.read(answer.json):
                self._note(item)
                descent.see(item)
            all_seen = not self._keys and len(self.seen) == len(self._bound)
            if not self._whole and (all_seen or descent.is_past(oldest)):
                return
            if pages.page > MOST_PAGES or self._stop():
                log.warning("Sendoso's list of sends is too long to be read whole; %d pages were.", pages.page - 1)
                return
        self.complete = pages.whole

    def assign(self, taken: Collection[str], latest: float, also: Iterable[Tracked] = ()) -> dict[str, Send]:
        """
        Match the unbound sends with rows.

        If a recipient has as many rows of a campaign as sends, they are paired in the order of their times. Otherwise
        each accepted send takes the row nearest in time, because the list must hold it, and sends of unknown outcome
        are not matched.

        :param taken: ids that are bound already.
        :param latest: seconds after the start of its POST at which a send may still appear.
        :param also: further sends, whose rows must not be matched with the sends of this walk.
        :return: the rows, by the sends' names.
        """
        assigned: dict[str, Send] = {}
        by_key: dict[Key, list[Tracked]] = {}
        for send in {send.name: send for send in (*also, *self._tracked)}.values():
            if send.bound_id is None and send.key in self._keys:
                by_key.setdefault(send.key, []).append(send)
        for key, sends in by_key.items():
            found = self.candidates.get(key, {})
            free = {row_id: row for row_id, row in found.items() if row_id not in taken and row_id not in self._bound}
            assigned |= _assign(sends, free, latest)
        return assigned

    def may_hold(self, send: Tracked, taken: Collection[str]) -> bool:
        """
        Return whether any row may match a send, regardless of its time.

        :param send: one of the sends of this walk.
        :param taken: ids that are bound already.
        """
        return any(row_id not in taken for row_id in self.candidates.get(send.key, {}))

    def _note(self, item: Mapping[str, Any]) -> None:
        """Record a row that matches a send or may match one."""
        row_id = str(item.get("id"))
        if row_id in self._bound:
            send = read_send(item)
            if send is not None:
                self.seen[self._bound[row_id]] = send
            return
        touch_id, email = _inner(item, "touch", "id"), _inner(item, "recipient", "email")
        touch_id = NO_TOUCH if touch_id is None else str(touch_id)
        if email is None or touch_id not in self._touches:
            return
        key = (self._digest(str(email)), touch_id)
        send = read_send(item) if key in self._keys else None
        if send is not None:
            self.candidates.setdefault(key, {})[send.id] = Candidate(send, created_at(item))


def _assign(sends: list[Tracked], free: Mapping[str, Candidate], latest: float) -> dict[str, Send]:
    """Assign the free rows of one recipient and campaign to the sends that may be theirs."""
    sends = sorted(sends, key=lambda send: send.posted_at)
    rows = [row for row in free.values() if any(_in_time(send, row, latest) for send in sends)]
    rows.sort(key=lambda row: row.created_at or 0.0)
    accepted = [send for send in sends if send.accepted]
    for group in (sends, accepted):
        # With as many rows as sends, both are in the same order, even if the clocks differ.
        pairs = list(zip(group, rows, strict=False))
        if len(group) == len(rows) and all(_in_time(send, row, latest) for send, row in pairs):
            return {send.name: row.send for send, row in pairs}
    assigned: dict[str, Send] = {}
    for send in accepted:
        near = [row for row in rows if _in_time(send, row, latest)]
        if near:
            nearest = min(near, key=lambda row: _apart(send, row))
            rows.remove(nearest)
            assigned[send.name] = nearest.send
    return assigned


def _in_time(send: Tracked, row: Candidate, latest: float) -> bool:
    if row.created_at is None:
        return True
    return -CLOCKS_APART <= row.created_at - send.posted_at <= latest + CLOCKS_APART


def _apart(send: Tracked, row: Candidate) -> float:
    return abs(row.created_at - send.posted_at) if row.created_at is not None else float("inf")


def _inner(item: Mapping[str, Any], name: str, field: str) -> Any:
    value = item.get(name)
    return value.get(field) if isinstance(value, Mapping) else None


def created_at(item: Mapping[str, Any]) -> float | None:
    """
    Read when a send was made, in epoch seconds.

    :param item: a row of a list of sends.
    :return: ``None`` if the row does not say. A time without a zone is UTC (inferred).
    """
    moment = moment_or_none(item.get("created_at"))
    return None if moment is None else moment.timestamp()
