"""The results of scanning one of Sendoso's lists for sends of unknown outcome; each kind has its own scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import Send

LONGEST_SCAN = 300.0
"""Seconds for one walk through a list; what was not found by then is held."""


@dataclass
class Scan:
    """
    What one walk has found, by send key.

    :param found: the sends of Sendoso's that each may be, by their ids.
    :param absent: the keys that the list is without, where it was whole and shows sends of ours.
    """

    found: dict[str, dict[str, Send]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def proves_absent(self, send_key: str) -> bool:
        """
        Return whether the list does not hold a send; two such lists prove that it was not sent.

        :param send_key: of the send.
        """
        return send_key in self.absent


class Scanner(Protocol):
    """Looks for one kind of sends."""

    known_by: str
    """How they are known again, for the ledger's record."""

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool) -> Scan:
        """Walk through the list, for the sends of these keys; to its end, if something is to be proven."""
