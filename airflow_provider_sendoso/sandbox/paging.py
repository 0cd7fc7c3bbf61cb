"""Lists in pages: ``page`` from 1, ``per_page`` up to 100 (published)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from aiohttp import web

from airflow_provider_sendoso.sandbox.refusal import Refusal

_MAX_PER_PAGE = 100  # published
_DEFAULT_PER_PAGE = 25  # inferred

_T = TypeVar("_T")


def page_of(
    name: str,
    items: Sequence[_T],
    query: Mapping[str, str],
    show: Callable[[_T], dict[str, Any]],
    *,
    total: str = "total_count",
) -> web.Response:
    """
    Return one page of a list, as the answer to a request.

    :param name: the field of the answer that holds the list
    :param items: the whole list, of which only a slice is read
    :param query: the query of the request
    :param show: turns an item into JSON
    :param total: the field of the answer that holds the total
    :raises Refusal: 400 if the page cannot be read from the query
    """
    page = _read_count(query, "page", 1)
    per_page = min(_read_count(query, "per_page", _DEFAULT_PER_PAGE), _MAX_PER_PAGE)
    first = (page - 1) * per_page
    return web.json_response(
        {
            name: [show(item) for item in items[first : first + per_page]],
            "current_page": page,
            "per_page": per_page,
            total: len(items),
        }
    )


def _read_count(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise Refusal(400, f"{name} is invalid")
    return int(text)
