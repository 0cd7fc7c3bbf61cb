"""Paging as pure state: ``page`` from 1, ``per_page`` up to 100, until a short page (published)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.exceptions import SendosoServerError

log = logging.getLogger(__name__)

PER_PAGE = 100

MOST_WALKS = 5
"""Walks through a list that changes each time, after which it is given up."""

MOST_PAGES = 10_000
"""Pages of one walk: a million rows, and more than an hour at the pace of reads."""

_MOST_STALE = 10
"""Pages in a row without a row that is new to the walk: a thousand rows were added, or the list goes in circles."""


@dataclass
class Pages:
    """
    Walks through a collection, page by page, without I/O.

    :param request: the request of the whole collection; ``page`` and ``per_page`` are added to it.
    :param collection: the name under which an answer holds its items, like ``gifts``.
    :param until_empty: whether to walk on to an empty page, for a caller to whom a missing item proves something.
    """

    request: Request
    collection: str
    until_empty: bool = False
    page: int = 1
    done: bool = False
    repeated: bool = False
    total: int | None = None
    """How many rows Sendoso counted when the walk began; ``None`` where it does not say."""
    _last: list[Any] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """
        Whether the walk has met every row that the list had when the walk began.

        A list may end before its last row, because it shows only the newest ones; then its total says that there are
        more. Only a walk with ``until_empty`` counts the rows.
        """
        return self.done and not self.repeated and (self.total is None or len(self._ids) >= self.total)

    def next_request(self) -> Request:
        """Build the request of the next page."""
        return replace(self.request, params={**self.request.params, "page": self.page, "per_page": PER_PAGE})

    def read(self, body: Any) -> list[dict[str, Any]]:
        """
        Take a page's body, move on, and return its items.

        A bare list (published for the members of a group) is accepted for a collection under its own name, or under
        ``data`` (inferred), or as the only list beside a ``current_page`` (inferred).

        :param body: the answer's JSON.
        :raises SendosoServerError: where the body holds no such collection.
        """
        items = _items(body, self.collection)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise SendosoServerError(200, f"{self.request} answered without a list of {self.collection!r}.")
        # A server that does not know paging repeats itself: the same page twice is the end, not a loop.
        self.repeated = bool(items) and items == self._last
        self.done = self.repeated or len(items) < (1 if self.until_empty else _page_size(body))
        if self.until_empty:
            if self.page == 1:
                self.total = _total(body, self.collection)
            self._ids.update(str(item.get("id", f"{self.page}/{number}")) for number, item in enumerate(items))
        self.page += 1
        self._last = items
        return [] if self.repeated else items


class Listing:
    """
    Walks through a collection that may change meanwhile, without I/O: every row once, and none left out in silence.

    A list is read page by page. So a row that is added shows the last one of a page again on the next, and one that is
    removed lets another slip over the edge, unread. A walk is believed where it was a single page, or where the totals
    say that nothing was removed and all was read. Any other is repeated, for the rows that are new, until nothing that
    the walk before has met is gone.

    Rows are told apart by their ``id``, those without one by all they hold. What the totals hide is a row that slips
    because one before it was removed and another one added between the same two pages.

    :param request: the request of the whole collection.
    :param collection: the name under which an answer holds its items, like ``touches``.
    """

    def __init__(self, request: Request, collection: str) -> None:
        self.request = request
        self.collection = collection
        self.total: int | None = None
        """How many rows Sendoso counts, as of the last page; ``None`` before the first, and where it does not say."""
        self.done = False
        self._walk = _Walk(Pages(request, collection))
        self._walks = 0
        self._before: set[str] | None = None
        self._seen = set[str]()
        self._error: SendosoServerError | None = None

    def next_request(self) -> Request:
        """
        Build the request of the next page.

        :raises SendosoServerError: where the list cannot be read whole; what could be read has been returned by then.
        """
        if self._error is not None:
            raise self._error
        return self._walk.pages.next_request()

    def read(self, body: Any) -> list[dict[str, Any]]:
        """
        Take a page's body, move on, and return those of its rows that were in no page before.

        :param body: the answer's JSON.
        :raises SendosoServerError: where the body holds no such collection.
        """
        walk = self._walk
        first = walk.pages.page == 1
        items = walk.pages.read(body)
        before, self.total = self.total, _total(body, self.collection)
        if first:
            walk.first_total = self.total
            # Who answers with all that there is, whatever page was asked for, knows no pages.
            walk.unpaged = isinstance(body, list) or len(items) > PER_PAGE
        elif before is not None and self.total is not None:
            walk.shrank |= self.total < before
        rows = {key: item for key, item in _keyed(items).items() if key not in walk.keys}
        fresh = [item for key, item in rows.items() if key not in self._seen]
        walk.keys.update(rows)
        walk.stale = 0 if rows else walk.stale + 1
        # A short page is not the last where the total says that there is more.
        walk.received += len(items)
        more = bool(items) and self.total is not None and walk.received < self.total
        if (walk.pages.done and not more) or walk.pages.repeated or walk.stale == _MOST_STALE:
            self._end_walk()
        elif walk.pages.page > MOST_PAGES:
            self._error = SendosoServerError(
                200, f"{self.request} does not end: {len(walk.keys)} rows were read from {MOST_PAGES} pages."
            )
        return fresh

    def _end_walk(self) -> None:
        """Decide whether the walk that is over was the last."""
        walk = self._walk
        self._walks += 1
        self._seen |= walk.keys
        if self._is_whole(walk):
            self.done = True
        elif self._walks == MOST_WALKS:
            why = "gives the same pages again" if walk.in_circles else "changes each time"
            counts = "" if self.total is None else f", Sendoso counts {self.total}"
            self._error = SendosoServerError(
                200,
                f"{self.request} could not be read whole in {MOST_WALKS} walks, because it {why}: "
                f"{len(self._seen)} rows were read{counts}.",
            )
        else:
            self._before = walk.keys
            self._walk = _Walk(Pages(self.request, self.collection))

    def _is_whole(self, walk: _Walk) -> bool:
        rows = len(walk.keys)
        if walk.first_total is not None:
            if rows >= walk.first_total and not walk.shrank:
                return True
        elif walk.pages.page == 2 or (walk.unpaged and walk.pages.repeated):
            return True
        if walk.shrank or walk.in_circles or self._before is None or not self._before <= walk.keys:
            return False
        if self.total is not None and rows < self.total:
            log.warning("%s holds %d rows where Sendoso counts %d; two walks agree.", self.request, rows, self.total)
        return True


@dataclass
class _Walk:
    """One walk through a list, from its first page on: the rows it met, and what was odd about it."""

    pages: Pages
    keys: set[str] = field(default_factory=set)
    received: int = 0
    """Rows, those included that it had met before."""
    first_total: int | None = None
    unpaged: bool = False
    shrank: bool = False
    stale: int = 0

    @property
    def in_circles(self) -> bool:
        return (self.pages.repeated or self.stale == _MOST_STALE) and not self.unpaged


def _keyed(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name the rows of a page; those without an id, by what they hold: equal ones on the same page are not one."""
    keyed: dict[str, dict[str, Any]] = {}
    for item in items:
        if item.get("id") is not None:
            keyed.setdefault(f"id {item['id']}", item)
        else:
            text = json.dumps(item, sort_keys=True)
            keyed[next(key for number in count() if (key := f"{number} {text}") not in keyed)] = item
    return keyed


def _items(body: Any, collection: str) -> Any:
    if not isinstance(body, Mapping):
        return body
    for name in (collection, collection.replace("-", "_"), "data"):
        if name in body:
            return body[name]
    lists = [value for value in body.values() if isinstance(value, list)] if "current_page" in body else []
    return lists[0] if len(lists) == 1 else None


def _total(body: Any, collection: str) -> int | None:
    """Read the total, whose name differs: ``total_posts`` for touches, or like the collection (published)."""
    if not isinstance(body, Mapping):
        return None
    for name in ("total_count", "total_posts", f"total_{collection.replace('-', '_')}", "total_users", "total"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _page_size(body: Any) -> int:
    """A server may give smaller pages than it was asked for, and says so; then those are the full ones."""
    size = body.get("per_page") if isinstance(body, Mapping) else None
    return min(size, PER_PAGE) if isinstance(size, int) and size > 0 else PER_PAGE
