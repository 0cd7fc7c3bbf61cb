"""Counts requests in a sliding second: for the published limit, and for the highest rate that was reached."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable


class Pace:
    """
    Decides whether a client is within its rate.

    Refused requests count, too: the published limit is one of requests, and this is its stricter reading.

    :param rate: requests a client may make in any sliding window (published: 10 a second); 0 for no limit
    :param window: the length of the window in seconds
    """

    def __init__(self, rate: int, window: float = 1.0) -> None:
        self.rate = rate
        self.window = window
        self._recent: defaultdict[str | None, deque[float]] = defaultdict(deque)

    def admits(self, client_id: str | None, now: float) -> bool:
        """
        Count a request, and return whether it is within the rate.

        :param client_id: the client; all unknown clients share one count
        :param now: monotonic seconds
        """
        recent = self._recent[client_id]
        recent.append(now)
        while recent[0] <= now - self.window:
            recent.popleft()
        return not self.rate or len(recent) <= self.rate

    def resets_in(self, client_id: str | None, now: float) -> float:
        """
        Return the seconds until the oldest request of the window no longer counts.

        :param client_id: the client
        :param now: monotonic seconds
        """
        recent = self._recent[client_id]
        return recent[0] + self.window - now if recent else 0.0

    def clear(self) -> None:
        """Delete every request."""
        self._recent.clear()


def peak(times: Iterable[float]) -> int:
    """
    Return the most requests that came within one sliding second.

    :param times: the times of the requests in seconds, in order
    """
    most = 0
    recent: deque[float] = deque()
    for time in times:
        recent.append(time)
        while recent[0] <= time - 1.0:
            recent.popleft()
        most = max(most, len(recent))
    return most
