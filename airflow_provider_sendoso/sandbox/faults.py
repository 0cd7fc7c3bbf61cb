"""Decides which fault applies to a request; ``fault_effects.py`` has the effects of the faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Every fault with its options and their defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "drop_before": {},
    "drop_after": {},
    "error_before": {"status": 500},
    "error_after": {"status": 500},
    "throttle": {"retry_after": 1, "reset": None},
    "garbage": {"accept": True},
    "truncate": {},
    "slow": {"delay": 1.0, "accept_first": True},
    "status": {"status": 400, "body": {"success": False, "message": "The sandbox was asked to refuse"}},
    "redirect": {"location": "/"},
}

# Those of the webhooks that the sandbox sends.
WEBHOOK_OPTIONS: dict[str, dict[str, Any]] = {
    "webhook_late": {"delay": 1.0},
    "webhook_lost": {},
    "webhook_out_of_order": {},
    "webhook_replay": {"delay": 1.0},
    "webhook_twice": {},
    "webhook_wrong_signature": {},
}


@dataclass
class Fault:
    """
    A fault, and the requests that it applies to.

    :param name: a key of ``OPTIONS``, or of ``WEBHOOK_OPTIONS``
    :param times: the number of requests to which the fault still applies; without meaning if ``until`` is set
    :param until: the moment at which the fault ends, in monotonic seconds; ``None`` if it does not end by time
    :param method: the only method to which the fault applies; ``None`` for all
    :param path: the only path, with those below it, to which the fault applies; ``None`` for all
    :param options: all options of the fault
    """

    name: str
    times: int
    until: float | None
    method: str | None
    path: str | None
    options: dict[str, Any] = field(default_factory=dict)

    def is_over(self, now: float) -> bool:
        """
        Return whether the fault has expired or was used up.

        :param now: monotonic seconds
        """
        return now >= self.until if self.until is not None else self.times <= 0

    def matches(self, method: str, path: str) -> bool:
        """
        Return whether the fault applies to a request.

        :param method: the method of the request
        :param path: the path of the request, without its query
        """
        return self.method in (None, method) and (
            self.path in (None, path) or path.startswith(f"{str(self.path).rstrip('/')}/")
        )

    def as_json(self, now: float) -> dict[str, Any]:
        """
        Return the fault as JSON, with the number of requests to which it still applies.

        :param now: monotonic seconds
        """
        return {
            "fault": self.name,
            "times": self.times if self.until is None else None,
            "seconds": None if self.until is None else round(self.until - now, 3),
            "method": self.method,
            "path": self.path,
            **self.options,
        }


class Faults:
    """
    The faults that are set; to a request applies the one that was set first.

    :param clock: returns the time in monotonic seconds
    :param known: every fault with its options and their defaults
    """

    def __init__(self, clock: Callable[[], float], known: dict[str, dict[str, Any]] = OPTIONS) -> None:
        self._clock = clock
        self._known = known
        self._faults: list[Fault] = []

    def add(
        self,
        name: str,
        times: int = 1,
        seconds: float | None = None,
        method: str | None = None,
        path: str | None = None,
        **options: Any,
    ) -> Fault:
        """
        Set a fault.

        :param name: a key of ``OPTIONS``
        :param times: the number of matching requests to which the fault applies
        :param seconds: seconds from now for which the fault applies, instead of a number of requests
        :param method: the only method to which the fault applies
        :param path: the only path, with those below it, to which the fault applies
        :param options: the options of the fault
        :raises ValueError: if the options are wrong
        """
        _check(self._known, name, times, seconds, method, path, options)
        fault = Fault(
            name=name,
            times=times,
            until=None if seconds is None else self._clock() + seconds,
            method=method and method.upper(),
            path=path,
            options=self._known[name] | options,
        )
        self._faults.append(fault)
        return fault

    def meet(self, method: str, path: str) -> Fault | None:
        """
        Return the fault that applies to a request, if any, and count the request.

        :param method: the method of the request
        :param path: the path of the request, without its query
        """
        fault = next((fault for fault in self.active() if fault.matches(method, path)), None)
        if fault:
            fault.times -= 1
        return fault

    def active(self) -> list[Fault]:
        """Return the faults that still apply."""
        now = self._clock()
        self._faults = [fault for fault in self._faults if not fault.is_over(now)]
        return list(self._faults)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the faults that still apply as JSON."""
        now = self._clock()
        return [fault.as_json(now) for fault in self.active()]

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()


def _check(
    known: dict[str, dict[str, Any]],
    name: object,
    times: object,
    seconds: object,
    method: object,
    path: object,
    options: dict[str, Any],
) -> None:
    """Refuse options that would otherwise fail later, during a request."""
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown fault {name!r}; there are {', '.join(known)}")
    if unknown := options.keys() - known[name].keys():
        raise ValueError(f"{name} has no option {', '.join(sorted(unknown))}")
    if not isinstance(times, int) or times < 1:
        raise ValueError("times must be a whole number from 1")
    if seconds is not None and not _is_duration(seconds):
        raise ValueError("seconds must be a number from 0")
    if not isinstance(method, str | None) or not isinstance(path, str | None):
        raise ValueError("method and path must be text")
    if "status" in options and options["status"] not in range(200, 600):
        raise ValueError("status must be an HTTP status from 200 to 599")
    if "delay" in options and not _is_duration(options["delay"]):
        raise ValueError("delay must be a number of seconds from 0")


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and value >= 0
