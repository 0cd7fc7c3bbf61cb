"""The results of scanning one of Sendoso's lists for sends of unknown outcome; each kind has its own scanner."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import Send

LONGEST_SCAN = 300.0
"""Seconds after which a walk through a list ends; sends that were not found by then are held."""


@dataclass
class Scan:
    """
    The result of one walk through a list, by send key.

    :param found: by id, the rows of the list that may be the send.
    :param absent: the keys that the list does not hold, provided that it is complete and holds sends of this ledger.
    """

    found: dict[str, dict[str, Send]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def proves_absent(self, send_key: str) -> bool:
        """
        Return whether the list proves that it does not hold a send; two such lists prove that it was not sent.

        :param send_key: of the send.
        """
        return send_key in self.absent


class Scanner(Protocol):
    """Looks for one kind of sends."""

    known_by: str
    """How sends are recognised in the list, for the ledger's record."""

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool, stop: Callable[[], bool]) -> Scan:
        """
        Walk through the list for the sends with these keys.

        :param unresolved: the sends, by their keys.
        :param whole: whether to walk to the end of the list, because absence is to be proven.
        :param stop: called after each page; returns whether to end the walk.
        """


def for_so_long(seconds: float, keep: Callable[[], object] = lambda: None) -> Callable[[], bool]:
    """
    Return a function that returns whether so many seconds are over.

    :param seconds: the seconds.
    :param keep: called each time as well.
    """
    until = time.monotonic() + seconds

    def over() -> bool:
        keep()
        return time.monotonic() > until

    return over
