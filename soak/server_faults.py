"""The faults and outages of the server during a soak: a short fault at a time, and now and then an outage."""

from __future__ import annotations

import random
import time
from typing import Any

from airflow_provider_sendoso.sandbox import Sandbox
from soak.settings import POSTS, TIMEOUT

_LONGEST_OUTAGE = 60.0
_OUTAGE = 6.0
_BETWEEN_OUTAGES = 30.0
"""Seconds, on average; from the end of one to the beginning of the next."""
_BETWEEN_FAULTS = 0.4
"""Seconds, on average."""
_LONGEST_FAULT = 0.15

_REVOCATIONS = 0.01
"""The share of faults that make the token invalid instead."""

_FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("drop_before", {}),
    ("drop_after", {}),
    ("error_after", {"status": 500}),
    ("error_after", {"status": 502}),
    ("error_before", {"status": 500}),
    ("error_before", {"status": 503}),
    ("garbage", {"accept": True}),
    ("garbage", {"accept": False}),
    ("truncate", {}),
    ("redirect", {}),
    ("throttle", {"retry_after": None}),
    ("throttle", {"retry_after": 0}),
    ("throttle", {"retry_after": 1}),
    # Delays are in time-outs. The latest of these accepts a send long after the client has hung up.
    ("slow", {"delay": 0.4}),
    ("slow", {"delay": 1.5, "accept_first": True}),
    ("slow", {"delay": 1.5, "accept_first": False}),
    ("status", {"status": 409}),
    ("status", {"status": 422}),
]


class ServerFaults:
    """
    Sets faults and outages at the server.

    :param sandbox: the server.
    :param chance: decides when and how.
    :param seconds: for how long; no outage lasts longer than an eighth of it.
    :param timeout: seconds that one request may take.
    :param between: seconds from one fault to the next, on average.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        chance: random.Random,
        seconds: float,
        timeout: float = TIMEOUT,
        between: float = _BETWEEN_FAULTS,
    ) -> None:
        self._sandbox = sandbox
        self._timeout = timeout
        self._between = between
        self._chance = chance
        self._longest = min(_LONGEST_OUTAGE, seconds / 8)
        now = time.monotonic()
        self._next_fault = now
        self._next_outage = now + chance.expovariate(3 / _BETWEEN_OUTAGES)
        self._up_again: float | None = None
        self.faults = 0
        self.revocations = 0
        self.outages = 0

    def step(self) -> None:
        """Begin and end what is due; called many times a second."""
        now = time.monotonic()
        if self._up_again is not None:
            if now >= self._up_again:
                self._sandbox.start()
                self._up_again = None
            return
        if now >= self._next_fault:
            self._next_fault = now + self._chance.expovariate(1 / self._between)
            self._fault()
        if now >= self._next_outage:
            self._next_outage = now + self._outage(now) + self._chance.expovariate(1 / _BETWEEN_OUTAGES)

    def clear(self) -> None:
        """End all faults and outages."""
        if self._up_again is not None:
            self._sandbox.start()
            self._up_again = None
        self._sandbox.clear_faults()

    def _fault(self) -> None:
        self.faults += 1
        if self._chance.random() < _REVOCATIONS:
            self.revocations += 1
            self._sandbox.revoke_tokens()
            return
        name, options = self._chance.choice(_FAULTS)
        if "delay" in options:
            options = options | {"delay": options["delay"] * self._timeout}
        # Mostly sends, which matter most; sometimes any request: tokens, probes, the list of sends.
        hurts = [{"method": "POST", "path": path} for path in POSTS.values()]
        # For a moment, not for a number of requests: where few come, those would pile up until nothing gets through.
        seconds = self._chance.uniform(0.01, _LONGEST_FAULT)
        for where in hurts if self._chance.random() < 0.8 else [{}]:
            self._sandbox.fault(name, seconds=seconds, **where, **options)

    def _outage(self, now: float) -> float:
        """Begin an outage, and return how long it lasts."""
        self.outages += 1
        lasts = min(self._longest, 0.5 + self._chance.expovariate(1 / _OUTAGE))
        if self._chance.random() < 0.5:
            self._sandbox.fault("error_before", seconds=lasts, status=503)
        else:
            self._sandbox.stop()
            self._up_again = now + lasts
        return lasts
