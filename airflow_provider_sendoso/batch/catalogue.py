"""The catalogue as a batch needs it: read once, no further than to the gift that is looked for, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.models import Gift


class Catalogue:
    """
    Finds gifts by their ids.

    :param load: begins to read the catalogue, like ``SendosoHook.list_gifts``; called at the first look, and not again.
    """

    def __init__(self, load: Callable[[], Iterable[Gift]]) -> None:
        self._load = load
        self._unread: Iterator[Gift] | None = None
        self._gifts: dict[str, Gift] = {}
        self._error: SendosoError | None = None
        self._ended = False

    def find(self, gift_id: str) -> Gift | None:
        """
        Look a gift up, reading on until it is there.

        :param gift_id: as a send names it.
        :return: ``None`` for a gift that the catalogue does not hold.
        :raises SendosoError: if the catalogue could not be read that far; every later look that needs more raises it.
        """
        while gift_id not in self._gifts and not self._ended:
            self._read_one()
        return self._gifts.get(gift_id)

    @property
    def complete(self) -> bool:
        """Whether it was read to its end; one that holds nothing at all proves nothing, and is not complete."""
        return self._ended and bool(self._gifts)

    def _read_one(self) -> None:
        if self._error is not None:
            raise self._error
        try:
            if self._unread is None:
                self._unread = iter(self._load())
            gift = next(self._unread, None)
        except SendosoError as error:
            # A generator that has raised is at its end: asked again, it would pass for a catalogue that was read.
            self._error = error
            raise
        if gift is None:
            self._ended = True
        else:
            self._gifts.setdefault(gift.id, gift)
