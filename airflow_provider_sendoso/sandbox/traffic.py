"""The requests that the sandbox has received, and the statuses of their answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_sendoso.sandbox.pace import peak


@dataclass
class Received:
    """
    One request.

    :param method: its method
    :param path: its path, without the query
    :param received_at: the time at which the headers were read, in monotonic seconds
    :param client_id: the client that made the request, if known
    :param status: the status of the answer; ``None`` if there is no answer yet, or the connection was dropped
    :param airflow_key: the mark in a send's metadata, if it has one
    """

    method: str
    path: str
    received_at: float
    client_id: str | None = None
    status: int | None = None
    airflow_key: str | None = None


class Traffic:
    """Stores requests in the order in which they came."""

    def __init__(self) -> None:
        self._requests: list[Received] = []

    def note(self, method: str, path: str, now: float) -> Received:
        """
        Store a request; its client and its answer are filled in as they become known.

        :param method: its method
        :param path: its path
        :param now: monotonic seconds
        """
        request = Received(method, path, now)
        self._requests.append(request)
        return request

    def requests(self) -> list[Received]:
        """Return a copy of every request, oldest first."""
        return [replace(request) for request in self._requests]

    def summary(self) -> dict[str, Any]:
        """Count requests, refusals (an answer from 400 on), throttlings, and the busiest sliding second."""
        statuses = [request.status for request in self._requests]
        return {
            "requests": len(statuses),
            "refused": sum(1 for status in statuses if status and status >= 400),
            "throttled": statuses.count(429),
            "unanswered": statuses.count(None),
            "peak_per_second": peak(request.received_at for request in self._requests),
        }

    def clear(self) -> None:
        """Delete every request."""
        self._requests.clear()
