"""The goal of a wait, and when it is reached. Pure rules: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_sendoso.exceptions import (
    SendosoConfigError,
)
from airflow_provider_sendoso.models import SendStatus

_STOPS_AT_PROCESSING = ("staging.sendo.so",)
"""The vendor's sandbox, where statuses never pass "processing" (published)."""


@dataclass(frozen=True)
class Goal:
    """
    The goal of a wait.

    :param targets: a status at or beyond one of them counts as reached.
    :param failed: statuses that count as failures; empty: every terminal status is a success, for branching.
    """

    targets: tuple[SendStatus, ...]
    failed: tuple[SendStatus, ...]

    @classmethod
    def parse(cls, targets: Iterable[str], failed: Iterable[str]) -> Goal:
        """
        Parse and validate a goal.

        :param targets: statuses.
        :param failed: statuses.
        :raises SendosoConfigError: if a word is not a status, or if there is no target.
        """
        goal = cls(_statuses("target_statuses", targets), _statuses("failed_statuses", failed))
        if not goal.targets:
            raise SendosoConfigError("target_statuses is empty: name the statuses to wait for.")
        return goal

    def settled(self, status: SendStatus | None) -> bool:
        """Return whether a send's status can no longer change the result."""
        return status is not None and (status.reached(self.targets) or status in self.failed or status.terminal)

    def missed(self, status: SendStatus) -> bool:
        """Return whether a settled status is a failure, as is every terminal status that does not reach a target."""
        return bool(self.failed) and not status.reached(self.targets)

    def ends(self) -> frozenset[SendStatus]:
        """Return the statuses that settle a send."""
        return frozenset(status for status in SendStatus if self.settled(status))

    def misses(self) -> frozenset[SendStatus]:
        """Return the statuses that settle a send and are failures."""
        return frozenset(status for status in self.ends() if self.missed(status))

    def check_host(self, base_url: str) -> None:
        """
        Refuse to wait for statuses that the host never reports.

        :param base_url: the connection's base URL.
        :raises SendosoConfigError: on the vendor's sandbox, if all targets are beyond ``processing``.
        """
        never = not any(SendStatus.PROCESSING.reached((target,)) for target in self.targets)
        if (urlsplit(base_url).hostname or "").endswith(_STOPS_AT_PROCESSING) and never:
            raise SendosoConfigError(
                f"On {base_url} statuses never pass 'processing' (published by Sendoso), so this wait would never end. "
                "Wait for target_statuses=('processing',) there."
            )


def good_enough(report: Mapping[str, Any], min_delivered: float | None) -> bool:
    """
    Return whether enough sends of a finished wait have reached a target.

    :param report: the result of :meth:`Watch.report`.
    :param min_delivered: share of all sends, from 0 to 1; ``None``: no send may have failed.
    """
    if min_delivered is None:
        return not report["failed"]
    return bool(report["sends"] == 0 or report["reached"] / report["sends"] >= min_delivered)


def _statuses(name: str, words: Iterable[str]) -> tuple[SendStatus, ...]:
    words = (words,) if isinstance(words, str) else tuple(words)
    try:
        return tuple(SendStatus(word) for word in words)
    except ValueError:
        raise SendosoConfigError(f"{name} has a word that is no status; use some of {', '.join(SendStatus)}.") from None
