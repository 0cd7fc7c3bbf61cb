"""What becomes of rows, counted through Airflow's own metrics, wherever those go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.observability import harmless
from airflow_provider_sendoso.sending import Result

_AT_ONCE = (RowOutcome.SENT, RowOutcome.REFUSED)
"""Counted when they happen, by the try that posted them: over all tries and kills the sum is that of the gifts."""


@dataclass(frozen=True)
class SendMetrics:
    """
    Counters ``sendoso.sends.<outcome>``.

    :param conn_id: the connection to Sendoso.
    :param operator_name: the class that sends.
    :param batch: whose sends they are.
    """

    conn_id: str
    operator_name: str
    batch: Batch

    def watch(self, record: Callable[[Result], None]) -> Callable[[Result], None]:
        """
        Count what a try posts, at the moment it is recorded.

        :param record: takes what became of a row.
        """

        def watched(result: Result) -> None:
            record(result)
            if result.posted and result.outcome in _AT_ONCE:
                self._count(result.outcome, 1)

        return watched

    def end(self, counts: Mapping[RowOutcome, int]) -> None:
        """
        Count at the end of a try what it has not posted.

        :param counts: rows by outcome.
        """
        for outcome, rows in counts.items():
            if rows and outcome not in _AT_ONCE:
                self._count(outcome, rows)

    @harmless
    def _count(self, outcome: RowOutcome, rows: int) -> None:
        tags = {
            "conn_id": self.conn_id,
            "operator_name": self.operator_name,
            "dag_id": self.batch.dag_id,
            "task_id": self.batch.task_id,
        }
        Stats.incr(f"sendoso.sends.{outcome.value}", rows, tags={name: value for name, value in tags.items() if value})
