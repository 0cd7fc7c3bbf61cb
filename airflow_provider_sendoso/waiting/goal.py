"""The goal of a wait, and when it is reached. Pure rules: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_sendoso.arguments.values import got
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import STATUS_WORDS, SendStatus, StatusReport, known_word
from airflow_provider_sendoso.near_names import meant

_STOPS_AT_PROCESSING = ("staging.sendo.so",)
"""The vendor's sandbox, where statuses never pass "processing" (published)."""

Target = SendStatus | str
"""A status, or a word of Sendoso's own as :func:`~airflow_provider_sendoso.models.known_word` returns it."""


@dataclass(frozen=True)
class Goal:
    """
    The goal of a wait.

    :param targets: a send at or beyond one of them has reached the goal.
    :param failed: statuses and words that count as failures; empty: every terminal status is a success, for branching.
    """

    targets: tuple[Target, ...]
    failed: tuple[Target, ...]

    @classmethod
    def parse(cls, targets: Iterable[str], failed: Iterable[str]) -> Goal:
        """
        Parse and validate a goal.

        :param targets: statuses, or words of Sendoso's own.
        :param failed: statuses, or words of Sendoso's own.
        :raises SendosoConfigError: if a word is neither, or if there is no target.
        """
        goal = cls(_targets("target_statuses", targets), _targets("failed_statuses", failed))
        if not goal.targets:
            raise SendosoConfigError("target_statuses is empty: name the statuses to wait for.")
        return goal

    def reached(self, report: StatusReport) -> bool:
        """Return whether a send has reached one of the targets."""
        return any(report.reached(target) for target in self.targets)

    def settled(self, report: StatusReport | None) -> bool:
        """Return whether a send's status can no longer change the result."""
        if report is None:
            return False
        if self.reached(report) or any(report.is_at(failure) for failure in self.failed):
            return True
        return report.status.terminal and not self._may_get_another_word(report.status)

    def missed(self, report: StatusReport | None) -> bool:
        """Return whether a send is settled and has failed, as it has with every final status that is no target."""
        return bool(self.failed) and report is not None and self.settled(report) and not self.reached(report)

    def check_host(self, base_url: str) -> None:
        """
        Refuse to wait for statuses that the host never reports.

        :param base_url: the connection's base URL.
        :raises SendosoConfigError: on the vendor's sandbox, if all targets are beyond ``processing``.
        """
        never = not any(SendStatus.PROCESSING.reached((_status_of(target),)) for target in self.targets)
        if (urlsplit(base_url).hostname or "").endswith(_STOPS_AT_PROCESSING) and never:
            raise SendosoConfigError(
                f"On {base_url} statuses never pass 'processing' (published by Sendoso), so this wait would never end. "
                "Wait for target_statuses=('processing',) there."
            )

    def _may_get_another_word(self, status: SendStatus) -> bool:
        """Return whether a word is waited for that comes within a final status, as ``redeemed`` does."""
        return any(not isinstance(target, SendStatus) and _status_of(target) is status for target in self.targets)


def status_line(report: Mapping[str, Any]) -> str:
    """
    Say how far the sends of a wait are: ``97 shipped, 3 pending``.

    :param report: the result of :meth:`Watch.report`; one of an earlier release does not say what is on hold.
    """
    on_hold = report.get("on_hold", 0)
    held = f", {on_hold} of them on hold at Sendoso" if on_hold else ""
    counts = ", ".join(f"{sends} {status}" for status, sends in report["counts"].items())
    return f"{counts or 'no sends'}{held}"


def good_enough(report: Mapping[str, Any], min_delivered: float | None) -> bool:
    """
    Return whether enough sends of a finished wait have reached a target.

    :param report: the result of :meth:`Watch.report`.
    :param min_delivered: share of all sends, from 0 to 1; ``None``: no send may have failed.
    """
    if min_delivered is None:
        return not report["failed"]
    return bool(report["sends"] == 0 or report["reached"] / report["sends"] >= min_delivered)


def _status_of(target: Target) -> SendStatus:
    return target if isinstance(target, SendStatus) else SendStatus.from_word(target) or SendStatus.PROCESSING


def _targets(name: str, words: Iterable[str]) -> tuple[Target, ...]:
    return tuple(_target(name, word) for word in ((words,) if isinstance(words, str) else words))


def _target(name: str, word: Any) -> Target:
    known = known_word(word) if isinstance(word, str) else None
    if known is not None:
        return SendStatus(known) if known in list(SendStatus) else known
    known_words = [spelled for words in STATUS_WORDS.values() for spelled in words]
    near = meant(word, known_words) if isinstance(word, str) else ""
    raise SendosoConfigError(
        f"{name} has {got(word)}{near}, which is neither a status ({', '.join(SendStatus)}) nor a word of Sendoso's "
        "for one, like 'redeemed'."
    )
