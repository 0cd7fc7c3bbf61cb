"""When a wait is over, and how: one set of pure rules for the sensor's pokes and for the trigger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import SendStatus

TRANSIENT_FAILURES = 5
"""Consecutive rounds that may fail, each after the session's own retries, before a wait gives up."""

_NAMED = 100
"""Failed sends that a report names before it only counts."""

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


@dataclass
class Watch:
    """
    The sends of one wait and what is known of them.

    :param statuses: by send id; ``None`` before the first look.
    """

    statuses: dict[str, SendStatus | None] = field(default_factory=dict)

    def add(self, send_ids: Iterable[str]) -> None:
        """Watch these sends too, where they are not watched yet."""
        for send_id in send_ids:
            self.statuses.setdefault(send_id, None)

    def unsettled(self, goal: Goal) -> list[str]:
        """Return the sends whose status can still change the answer."""
        return [send_id for send_id, status in self.statuses.items() if not goal.settled(status)]

    def counts(self) -> dict[str, int]:
        """Count the sends by status; the ones not looked at yet are ``unknown``."""
        return dict(Counter(status.value if status else "unknown" for status in self.statuses.values()))

    def report(self, goal: Goal, *, named: bool) -> dict[str, Any]:
        """
        Say how the wait stands, in plain values for a trigger's event.

        :param goal: what is waited for.
        :param named: whether to give each send's status: for sends that were named one by one.
        """
        known = {send_id: status for send_id, status in self.statuses.items() if status is not None}
        missed = [send_id for send_id, status in known.items() if goal.settled(status) and goal.missed(status)]
        return {
            "sends": len(self.statuses),
            "reached": sum(status.reached(goal.targets) for status in known.values()),
            "counts": self.counts(),
            "failed": len(missed),
            "failed_ids": missed[:_NAMED],
            "statuses": {send_id: status.value for send_id, status in known.items()} if named else None,
        }


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
