"""Paging as pure state: ``page`` from 1, ``per_page`` up to 100, until a short page (published)."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.exceptions import SendosoServerError

log = logging.getLogger(__name__)

PER_PAGE = 100

MOST_WALKS = 5
"""The most walks through a list that keeps changing."""

MOST_PAGES = 10_000
"""The most pages of one walk: a million rows, which take more than an hour to read."""

_MOST_STALE = 10
"""The most consecutive pages without a new row: then a thousand rows were added, or the list repeats its pages."""


@dataclass
class Pages:
    """
    Walks through a collection, page by page, without I/O.

    :param request: the request of the whole collection; ``page`` and ``per_page`` are added to it.
    :param collection: the name under which an answer holds its items, like ``gifts``.
    :param until_empty: whether to read on until a page is empty, for a caller that relies on an item's absence.
    """

    request: Request
    collection: str
    until_empty: bool = False
    page: int = 1
    done: bool = False
    repeated: bool = False
    total: int | None = None
    """Sendoso's count of rows when the walk began; ``None`` if it does not say."""
    _last: list[Any] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """
        Whether the walk has read every row that the list had when the walk began.

        A list that shows only its newest rows ends early; its total then exceeds the rows that were read. Only a walk
        with ``until_empty`` counts the rows.
        """
        return self.done and not self.repeated and (self.total is None or len(self._ids) >= self.total)

    def next_request(self) -> Request:
        """Build the request of the next page."""
        return replace(self.request, params={**self.request.params, "page": self.page, "per_page": PER_PAGE})

    def read(self, body: Any) -> list[dict[str, Any]]:
        """
        Take a page's body, move to the next page, and return its items.

        A bare list (published for the members of a group) is accepted for a collection under its own name, or under
        ``data`` (inferred), or as the only list beside a ``current_page`` (inferred).

        :param body: the answer's JSON.
        :raises SendosoServerError: if the body holds no such collection.
        """
        items = _items(body, self.collection)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise SendosoServerError(200, f"{self.request} answered without a list of {self.collection!r}.")
        # A server without paging repeats its answer, so the same page twice is the end of the list.
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
    Walks through a collection that may change meanwhile, without I/O: returns every row once, and skips none silently.

    A list is read page by page. If a row is added meanwhile, the last row of a page appears again on the next page. If
    a row is removed, another row slips to a page that was already read, and is missed. A walk is complete if it has a
    single page, or if the totals show that nothing was removed and everything was read. Any other walk is repeated,
    returning only new rows, until it holds every row of the walk before.

    Rows are identified by ``id``, rows without an id by their content. One change cannot be detected: a row is missed
    if one before it is removed and another one is added between the same two pages.

    :param request: the request of the whole collection.
    :param collection: the name under which an answer holds its items, like ``touches``.
    """

    def __init__(self, request: Request, collection: str) -> None:
        self.request = request
        self.collection = collection
        self.total: int | None = None
        """Sendoso's count of rows in the last page; ``None`` before the first page, or if Sendoso does not say."""
        self.done = False
        self._walk = _Walk(Pages(request, collection))
        self._walks = 0
        self._before: set[str] | None = None
        self._seen = set[str]()
        self._error: SendosoServerError | None = None

    def next_request(self) -> Request:
        """
        Build the request of the next page.

        :raises SendosoServerError: if the list cannot be read whole; all rows that could be read were returned before.
        """
        if self._error is not None:
            raise self._error
        return self._walk.pages.next_request()

    def read(self, body: Any) -> list[dict[str, Any]]:
        """
        Take a page's body, move to the next page, and return the rows that were on no page before.

        :param body: the answer's JSON.
        :raises SendosoServerError: if the body holds no such collection.
        """
        walk = self._walk
        first = walk.pages.page == 1
        items = walk.pages.read(body)
        before, self.total = self.total, _total(body, self.collection)
        if first:
            walk.first_total = self.total
            # A server that returns the whole list for any page does not know paging.
            walk.unpaged = isinstance(body, list) or len(items) > PER_PAGE
        elif before is not None and self.total is not None:
            walk.shrank |= self.total < before
        rows = {key: item for key, item in _keyed(items).items() if key not in walk.keys}
        fresh = [item for key, item in rows.items() if key not in self._seen]
        walk.keys.update(rows)
        walk.stale = 0 if rows else walk.stale + 1
        # A short page is not the last one if the total says that there are more rows.
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
        """Decide whether another walk is needed."""
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
    """One walk through a list from its first page: the rows it has read, and the irregularities it met."""

    pages: Pages
    keys: set[str] = field(default_factory=set)
    received: int = 0
    """Number of rows received, repeated ones included."""
    first_total: int | None = None
    unpaged: bool = False
    shrank: bool = False
    stale: int = 0

    @property
    def in_circles(self) -> bool:
        return (self.pages.repeated or self.stale == _MOST_STALE) and not self.unpaged


def _keyed(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key the rows of a page by id, or by content if they have none; equal rows on one page get different keys."""
    keyed: dict[str, dict[str, Any]] = {}
    equal = Counter[str]()
    for item in items:
        if item.get("id") is not None:
            keyed.setdefault(f"id {item['id']}", item)
        else:
            text = json.dumps(item, sort_keys=True)
            keyed[f"{equal[text]} {text}"] = item
            equal[text] += 1
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
    """Read the total: ``total_posts`` for touches, otherwise often named after the collection (published)."""
    if not isinstance(body, Mapping):
        return None
    for name in ("total_count", "total_posts", f"total_{collection.replace('-', '_')}", "total_users", "total"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _page_size(body: Any) -> int:
    """Return the size of a full page, which the body states if it is smaller than requested."""
    size = body.get("per_page") if isinstance(body, Mapping) else None
    return min(size, PER_PAGE) if isinstance(size, int) and size > 0 else PER_PAGE
