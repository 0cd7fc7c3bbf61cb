"""The number of concurrent POSTs: only as many as the rate needs, because an outage may leave each of them unknown."""

from __future__ import annotations

import math

MOST = 16

_FIRST_GUESS = 0.3
_WEIGHT = 0.2


class Concurrency:
    """
    Computes from the measured latency how many POSTs in flight use the account's whole rate.

    :param rate: requests per second.
    :param fixed: the author's own number, from 1 to 16; ``None`` follows the latency.
    """

    def __init__(self, rate: float, fixed: int | None = None) -> None:
        self._rate = rate
        self._fixed = fixed
        self._latency = _FIRST_GUESS

    @property
    def limit(self) -> int:
        """The most POSTs in flight: one more than the rate needs, because one of them is waiting for its slot."""
        if self._fixed is not None:
            return self._fixed
        return max(2, min(MOST, math.ceil(self._rate * self._latency) + 1))

    def saw(self, latency: float) -> None:
        """
        Record the duration of an answered POST; time-outs are not recorded, so that an outage does not raise the limit.

        :param latency: seconds from the commit before its slot until its outcome was recorded.
        """
        self._latency += _WEIGHT * (latency - self._latency)
