"""Equal refusals in a row: the rows are not at fault, so they may be tried again."""

from __future__ import annotations

from airflow_provider_sendoso.ledger.records import Claim
from airflow_provider_sendoso.sending.jobs import Job, Result

_MOST = 20


class EqualRefusals:
    """Counts the refusals of a batch that have the same reason and words, and come one after the other."""

    def __init__(self) -> None:
        self._refused: list[tuple[Job, Claim]] = []
        self._alike = ""
        self._undone: str | None = None

    def add(self, job: Job, claim: Claim, result: Result) -> list[tuple[Job, Claim]]:
        """
        Count a result.

        :param job: the row.
        :param claim: the claim with which it was posted.
        :param result: what became of it.
        :return: the refused rows that are to be undone: at the twentieth equal refusal all of them, and later each that
            is equal, because its POST was in flight then; otherwise none.
        """
        refusal = f"{result.reason} {result.words}"
        if result.error is None or refusal != self._alike:
            self._refused.clear()
        if result.error is None:
            return []
        self._alike = refusal
        self._refused.append((job, claim))
        if len(self._refused) < _MOST and refusal != self._undone:
            return []
        self._undone = refusal
        undone, self._refused = self._refused, []
        return undone
