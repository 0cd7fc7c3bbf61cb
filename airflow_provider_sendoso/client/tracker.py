"""The Send Tracker's list: which of its rows is which campaign send. No I/O.

A campaign send is answered with a tracking code and no id, and the list has ids and no code (published). So a send is
known again by its recipient, its campaign and when it was made; and once, for then it is bound to its id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_sendoso.client.answers import Answer, read_send
from airflow_provider_sendoso.client.endpoints import Request, list_campaign_sends_request
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.models import Send

log = logging.getLogger(__name__)

CLOCKS_APART = 3600.0
"""Seconds by which Sendoso's clock and the ledger's may differ."""

MOST_PAGES = 1000
"""Pages of one walk: an account's last 100,000 sends."""

Key = tuple[str, str]
"""The hash of an e-mail, and a campaign."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    A campaign send that is looked for.

    :param name: what its finder calls it.
    :param email_hash: of its recipient's e-mail.
    :param posted_at: epoch seconds.
    :param bound_id: its id in the list, where that is known already.
    :param accepted: whether it is known to be in the list; otherwise it may never have been received.
    """

    name: str
    touch_id: str
    email_hash: str
    posted_at: float
    bound_id: str | None = None
    accepted: bool = True

    @property
    def key(self) -> Key:
        """What its rows in the list have in common."""
        return self.email_hash, self.touch_id


@dataclass(frozen=True)
class Candidate:
    """
    A row of the list that may be one of the sends.

    :param created_at: epoch seconds; ``None`` where the row does not say.
    """

    send: Send
    created_at: float | None


class Descent:
    """Whether a list of sends has been newest first so far (inferred), and how far back it was read."""

    def __init__(self) -> None:
        self._newest_first = True
        self._last: float | None = None

    def see(self, item: Mapping[str, Any]) -> None:
        """
        Take the next row in.

        :param item: the row.
        """
        created = created_at(item)
        # Once a row says otherwise, or nothing, older ones do not mean that the rest is older.
        self._newest_first &= created is not None and (self._last is None or created <= self._last)
        self._last = created

    def is_past(self, moment: float) -> bool:
        """
        Say whether all rows that are still to come are older.

        :param moment: epoch seconds.
        """
        return self._newest_first and self._last is not None and self._last < moment


class Tracker:
    """
    Walks through the list once, for all of the sends together.

    :param tracked: the sends that are looked for.
    :param digest: hashes an e-mail as the sends' ``email_hash`` was.
    :param whole: whether to walk to the end, for a caller to whom a missing send proves something; otherwise the walk
        ends when all that can be in the list has been seen.
    :param stop: says whether there is no more time.
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
        """Of the bound sends, what the list says of them, by name."""
        self.candidates: dict[Key, dict[str, Candidate]] = {}
        """Of the others, the rows that may be theirs, by id."""
        self.complete = False
        """Whether the list was walked to its end, and has as many rows as it says."""
        self.answers = 0
        """How many pages Sendoso has given so far."""

    def walk(self) -> Generator[Request, Answer, None]:
        """
        Ask for the pages: yields requests and is sent their answers.

        :raises SendosoError: thrown in.
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
        Say which of the unbound sends is which row.

        Where a recipient has as many rows of a campaign as there are sends, they stand in the same order. Otherwise
        those that were accepted take the rows nearest to them in time, for they are in the list; and of those of
        unknown outcome nothing is said.

        :param taken: ids that are bound already.
        :param latest: seconds after its POST began at which a send may still appear.
        :param also: sends that are not looked for, and whose rows must not be taken for those of others.
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
        Say whether any row, of whatever time, may be this send's.

        :param send: one of those that are looked for.
        :param taken: ids that are bound already.
        """
        return any(row_id not in taken for row_id in self.candidates.get(send.key, {}))

    def _note(self, item: Mapping[str, Any]) -> None:
        """Take a row in."""
        row_id = str(item.get("id"))
        if row_id in self._bound:
            send = read_send(item)
            if send is not None:
                self.seen[self._bound[row_id]] = send
            return
        touch_id, email = _inner(item, "touch", "id"), _inner(item, "recipient", "email")
        if touch_id is None or email is None or str(touch_id) not in self._touches:
            return
        key = (self._digest(str(email)), str(touch_id))
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
        # As many rows as sends: they stand in the same order, however far the clocks are apart.
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
    :return: ``None`` where it does not say. A moment without a time zone is one in UTC (inferred), wherever this runs.
    """
    text = item.get("created_at")
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
