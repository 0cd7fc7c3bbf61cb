"""The catalogue of a batch: read lazily, once, and only as far as the gift that is looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.models import Gift


class Catalogue:
    """
    Finds gifts by their ids.

    :param load: begins to read the catalogue, like ``SendosoHook.list_gifts``; called once, at the first look-up.
    """

    def __init__(self, load: Callable[[], Iterable[Gift]]) -> None:
        self._load = load
        self._unread: Iterator[Gift] | None = None
        self._gifts: dict[str, Gift] = {}
        self._error: SendosoError | None = None
        self._ended = False

    def find(self, gift_id: str) -> Gift | None:
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
