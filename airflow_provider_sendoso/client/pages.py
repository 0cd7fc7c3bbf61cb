"""Paging as pure state: ``page`` from 1, ``per_page`` up to 100, until a short page (published)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.exceptions import SendosoServerError

PER_PAGE = 100


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
    _last: list[Any] = field(default_factory=list)

    def next_request(self) -> Request:
        """Build the request of the next page."""
        return replace(self.request, params={**self.request.params, "page": self.page, "per_page": PER_PAGE})

    def read(self, body: Any) -> list[dict[str, Any]]:
        """
        Take a page's body, move on, and return its items.

        A bare list is accepted for a collection under its own name, or under ``data`` (inferred).

        :param body: the answer's JSON.
        :raises SendosoServerError: where the body holds no such collection.
        """
        items = body
        if isinstance(body, Mapping):
            items = body.get(self.collection, body.get("data"))
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise SendosoServerError(200, f"{self.request} answered without a list of {self.collection!r}.")
        # A server that does not know paging repeats itself: the same page twice is the end, not a loop.
        self.repeated = bool(items) and items == self._last
        self.done = self.repeated or len(items) < (1 if self.until_empty else _page_size(body))
        self.page += 1
        self._last = items
        return [] if self.repeated else items


def _page_size(body: Any) -> int:
    """A server may give smaller pages than it was asked for, and says so; then those are the full ones."""
    size = body.get("per_page") if isinstance(body, Mapping) else None
    return min(size, PER_PAGE) if isinstance(size, int) and size > 0 else PER_PAGE
