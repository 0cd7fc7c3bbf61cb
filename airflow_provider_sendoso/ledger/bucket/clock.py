"""The store's clock, which decides what has lapsed: no process trusts the clock of its own machine."""

from __future__ import annotations

import math

from airflow_provider_sendoso.ledger.bucket.objects import Modified
from airflow_provider_sendoso.ledger.clocks import since_boot

_KEEPS = 600.0
"""Seconds after which the store's clock is measured again, because two clocks drift apart."""


class StoreClock:
    """
    Tells the time by the store, from what it said about objects that this process has just created.

    A store tells whole seconds only, so a measurement leaves up to a second open. Processes that follow one log agree
    more closely: each entry has its writer's time, and who reads the entry knows that it is at least as late.
    """

    def __init__(self) -> None:
        self._ahead = 0.0  # the store's clock minus that of this machine, in seconds
        self._highest = math.inf
        self._measured_at = -math.inf

    def now(self) -> float:
        """Return the epoch seconds by the store's clock."""
        return since_boot() + self._ahead

    @property
    def must_be_measured(self) -> bool:
        """Whether the clock was not measured yet, or too long ago."""
        return since_boot() - self._measured_at > _KEEPS

    def measure(self, modified: Modified, sent_at: float) -> None:
        """
        Set the clock by an object that this process has created.

        :param modified: what the store says, read now.
        :param sent_at: seconds since this machine's boot when the object was sent.
        """
        now, first = since_boot(), self._measured_at == -math.inf
        lowest, highest = modified.at - now, modified.at + modified.within - sent_at
        self._highest, self._measured_at = highest, now
        self._ahead = min(max(self._ahead, (lowest + highest) / 2 if first else lowest), highest)

    def is_at_least(self, moment: float) -> None:
        """
        Note that it is at least as late as another process has said in an entry of the log.

        :param moment: epoch seconds by the store's clock.
        """
        self._ahead = min(max(self._ahead, moment - since_boot()), max(self._highest, self._ahead))
