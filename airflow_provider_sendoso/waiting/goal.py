"""What a wait is for, and when it has come true. Pure rules: no I/O."""

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
    What a wait is for.

    :param targets: at or beyond one of them counts as reached.
    :param failed: statuses that are failures; empty: any terminal status ends the wait well, for branching.
    """

    targets: tuple[SendStatus, ...]
    failed: tuple[SendStatus, ...]

    @classmethod
    def parse(cls, targets: Iterable[str], failed: Iterable[str]) -> Goal:
        """
        Read a goal from its words.

        :param targets: statuses.
        :param failed: statuses.
        :raises SendosoConfigError: for a word that is no status, or for no target.
        """
        goal = cls(_statuses("target_statuses", targets), _statuses("failed_statuses", failed))
        if not goal.targets:
            raise SendosoConfigError("target_statuses is empty: name the statuses to wait for.")
        return goal

    def settled(self, status: SendStatus | None) -> bool:
        """Say whether a send's status cannot change the answer any more."""
        return status is not None and (status.reached(self.targets) or status in self.failed or status.terminal)

    def missed(self, status: SendStatus) -> bool:
        """Say whether a settled status is a failure: one that is neither a target nor declared failed is one too."""
        return bool(self.failed) and not status.reached(self.targets)

    def ends(self) -> frozenset[SendStatus]:
        """Return the statuses that settle a send."""
        return frozenset(status for status in SendStatus if self.settled(status))

    def misses(self) -> frozenset[SendStatus]:
        """Return those of them that are failures."""
        return frozenset(status for status in self.ends() if self.missed(status))

    def check_host(self, base_url: str) -> None:
        """
        Refuse to wait for what never comes.

        :param base_url: the connection's.
        :raises SendosoConfigError: on the vendor's sandbox, for a target beyond ``processing``.
        """
        never = not any(SendStatus.PROCESSING.reached((target,)) for target in self.targets)
        if (urlsplit(base_url).hostname or "").endswith(_STOPS_AT_PROCESSING) and never:
            raise SendosoConfigError(
                f"On {base_url} statuses never pass 'processing' (published by Sendoso), so this wait would never end. "
                "Wait for target_statuses=('processing',) there."
            )


def good_enough(report: Mapping[str, Any], min_delivered: float | None) -> bool:
    """
    Say whether enough sends of a finished wait reached their target.

    :param report: of :meth:`Watch.report`.
    :param min_delivered: share of all sends, from 0 to 1; ``None``: none may have failed.
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
