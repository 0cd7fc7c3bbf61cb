"""A statsd client that breaks on this provider's metrics, and on nothing else."""

from __future__ import annotations

from typing import Any

from statsd import StatsClient


class BrokenStatsClient(StatsClient):
    def incr(self, stat: str, *args: Any) -> None:
        if stat.startswith("sendoso."):
            raise ConnectionRefusedError(f"ada@example.com: {stat}")
        super().incr(stat, *args)
