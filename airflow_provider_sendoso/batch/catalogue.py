"""The catalogue of a batch: read lazily, once, and only as far as the gift that is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from airflow_provider_sendoso.exceptions import SendosoError, SendosoNotFoundError
from airflow_provider_sendoso.models import Gift, Variant
from airflow_provider_sendoso.near_names import meant

_G = TypeVar("_G", bound=Gift | Variant)

_OFFERED = 50
"""Missing gifts for which similar ones are looked up: each takes some milliseconds, and every row may have its own."""


class Catalogue(Generic[_G]):
    """
    Finds gifts, or variants of the marketplace, by their ids.

    :param load: begins to read the catalogue, like ``SendosoHook.list_gifts``; called once, at the first look-up.
    :param name: the catalogue's, for messages.
    """

    def __init__(self, load: Callable[[], Iterable[_G]], name: str = "catalogue") -> None:
        self._load = load
        self._name = name
        self._unread: Iterator[_G] | None = None
        self._gifts: dict[str, _G] = {}
        self._error: SendosoError | None = None
        self._ended = False
        self._missing = 0

    def find(self, gift_id: str) -> _G | None:
        """
        Look a gift up, reading the catalogue until it is found.

        :param gift_id: the gift's id, as in a send.
        :return: the gift; ``None`` if the catalogue does not hold it.
        :raises SendosoError: if the catalogue could not be read that far; every later look-up that needs more raises it
            again.
        """
        while gift_id not in self._gifts and not self._ended:
            self._read_one()
        return self._gifts.get(gift_id)

    def missing(self, gift_id: str) -> str | None:
        """
        Say that the whole catalogue does not hold a gift, and which ones have a similar id or name.

        :param gift_id: the gift's id, as in a send.
        :return: ``None`` if it is there, or if the catalogue is empty.
        :raises SendosoError: if the catalogue could not be read.
        """
        if self.find(gift_id) is not None or not self.complete:
            return None
        self._missing += 1
        similar = self._gifts.values() if self._missing <= _OFFERED else ()
        known = {word: gift.id for gift in similar for word in (gift.name, gift.id) if word}
        return f"is not in the {self._name}{meant(gift_id, known)}"

    def missing_variant(self, gift_id: str, variant_id: str) -> str | None:
        """
        Say that a gift does not come in a variant, and which ones have a similar id.

        :param gift_id: the gift's id.
        :param variant_id: the variant's.
        :return: ``None`` if it does, or if the catalogue does not say in which ones it comes.
        :raises SendosoError: if the catalogue could not be read.
        """
        gift = self.find(gift_id)
        known = gift.variant_ids if isinstance(gift, Gift) else []
        if not known or variant_id in known:
            return None
        return f"is no variant of {gift_id!r}{meant(variant_id, known)}"

    @property
    def complete(self) -> bool:
        """Whether the catalogue was read to its end and is not empty; an empty one does not prove a gift's absence."""
        return self._ended and bool(self._gifts)

    def _read_one(self) -> None:
        if self._error is not None:
            raise self._error
        try:
            if self._unread is None:
                self._unread = iter(self._load())
            gift = next(self._unread, None)
        except SendosoError as error:
            # A generator that has raised is exhausted; without this, the catalogue would count as read to its end.
            self._error = error
            raise
        if gift is None:
            self._ended = True
        else:
            self._gifts.setdefault(gift.id, gift)


def named(error: SendosoError, gift_id: str, catalogue: Catalogue[Gift]) -> SendosoError:
    """
    Say of a gift that Sendoso does not know whether the catalogue has it, and what may have been meant.

    :param error: of a send; returned as it is unless it is a 404.
    :param gift_id: of the gift that was to be sent.
    :param catalogue: the account's catalogue.
    """
    if not isinstance(error, SendosoNotFoundError):
        return error
    try:
        missing = catalogue.missing(gift_id)
    except SendosoError:
        return error
    if missing is None:
        return error
    return SendosoNotFoundError(error.status_code, f"{error.message}: {gift_id!r} {missing}.", error.request_id)
