"""Reads Sendoso's objects by name: their models, their place in an answer, and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Self, TypeVar

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.marketplace import CursorListing
from airflow_provider_sendoso.client.pages import Listing
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoServerError
from airflow_provider_sendoso.models import Gift, Group, ReturnAddress, Send, SendosoObject, Touch, User

T = TypeVar("T", bound=SendosoObject)

AnyListing = Listing | CursorListing
"""A list that is paged by numbers, or by a cursor."""

MODELS: Mapping[str, type[SendosoObject]] = {
    "gifts": Gift,
    "groups": Group,
    "me": User,
    "members": User,
    "return-addresses": ReturnAddress,
    "send": Send,
    "sends": Send,
    "touches": Touch,
    "users": User,
}
"""The model by the object's or child's name; any other object is a :class:`SendosoObject`."""

_COLLECTIONS = {"send": "sends"}
"""The name under which an answer holds its items, where it differs from the path's (published)."""

_BY_CURSOR = ("marketplace/products",)
"""Lists that are not paged by ``page`` (published); read as if they were, the first page would count as the whole
list."""


def model_of(name: str) -> type[SendosoObject]:
    """
    Return the model of an object.

    :param name: its own, or a child's, like ``members``.
    """
    return MODELS.get(name, SendosoObject)


class Listed(Iterator[T], Generic[T]):
    """
    A lazy iterator over one of Sendoso's lists, which reads page by page and can be used once.

    Each row is returned once, even if the list changes while it is read; if a row may be missing, the iterator raises.

    :param listing: the state of the list.
    :param walk: yields the list's rows.
    :param model: the model of a row.
    """

    def __init__(
        self, listing: AnyListing, walk: Callable[[AnyListing], Iterator[dict[str, Any]]], model: type[T]
    ) -> None:
        self._listing = listing
        self._rows = walk(listing)
        self._model = model

    @property
    def total(self) -> int | None:
        """Sendoso's count of rows in the last page; ``None`` before the first page, or if Sendoso does not say."""
        return self._listing.total

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        item = _parsed(self._model, next(self._rows))
        if item is None:
            raise SendosoServerError(200, f"{self._listing.request} has a row without an id.")
        return item


def listing_of(name: str, request: Request) -> Listing:
    """
    Return the state of a list.

    :param name: of its object or child.
    :param request: the request for the whole list.
    :raises SendosoConfigError: if the list is paged by a cursor.
    """
    if name in _BY_CURSOR:
        raise SendosoConfigError(
            f"The list {name!r} is paged by a cursor and cannot be walked through by its path. Nothing was read. Use "
            "list_marketplace_products(…)."
        )
    name = name.rpartition("/")[2]
    return Listing(request, _COLLECTIONS.get(name, name))


def read_object(request: Request, model: type[T], body: Any) -> T:
    """
    Read one object, at the top level or inside a name of its own, as a touch is inside ``touch`` (published).

    :param request: the request, which the error names.
    :param model: the object's model.
    :param body: the answer's JSON.
    :raises SendosoServerError: if the answer holds no such object.
    """
    item = _parsed(model, _object_in(body))
    if item is None:
        raise SendosoServerError(200, f"{request} answered without such an object.")
    return item


def _object_in(body: Any) -> Any:
    if not isinstance(body, Mapping) or body.get("success") is False:
        return None
    inner = [value for value in body.values() if isinstance(value, Mapping)]
    if "id" in body or len(inner) != 1:
        return body
    return inner[0] if "id" in inner[0] or len(body.keys() - {"success", "message"}) == 1 else body


def _parsed(model: type[T], fields: Any) -> T | None:
    if issubclass(model, Send):
        return read_send(fields)  # type: ignore[return-value]  # a Send, which T is here
    try:
        return model.model_validate(fields)
    except ValueError:  # a ValidationError, or an error over half of a surrogate pair in a name
        return None
