"""Counting requests in a sliding second: the limit that Sendoso publishes, and the peak that was reached."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

_WINDOW = 1.0


class Pace:
    """
    Tell whether a client is within its rate.

    Every request counts, the refused ones too: the published limit speaks of requests, and it is the
    stricter reading.

    :param rate: requests a client may make in any sliding second (published: 10); 0 for no limit
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._recent: defaultdict[str | None, deque[float]] = defaultdict(deque)

    def admits(self, client_id: str | None, now: float) -> bool:
        """
        Count a request and tell whether it is within the rate.

        :param client_id: who asks; all that are unknown share one count
        :param now: monotonic seconds
        """
        recent = self._recent[client_id]
        recent.append(now)
        while recent[0] <= now - _WINDOW:
            recent.popleft()
        return not self.rate or len(recent) <= self.rate

    def clear(self) -> None:
        """Forget every request."""
        self._recent.clear()


def peak(times: Iterable[float]) -> int:
    """
    Find the most requests that fell into any sliding second.

    :param times: when they came, in seconds, in order
    """
    most = 0
    recent: deque[float] = deque()
    for time in times:
        recent.append(time)
        while recent[0] <= time - _WINDOW:
            recent.popleft()
        most = max(most, len(recent))
    return most
