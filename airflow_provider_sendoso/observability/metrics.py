"""Counts the outcomes of rows through Airflow's own metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.observability import harmless
from airflow_provider_sendoso.sending import Result

_AT_ONCE = (RowOutcome.SENT, RowOutcome.REFUSED)
"""Outcomes counted at once, by the try that posted the send, so that their sum over all tries counts gifts."""


@dataclass(frozen=True)
class SendMetrics:
    """
    Counters ``sendoso.sends.<outcome>``.

    :param conn_id: the connection to Sendoso.
    :param operator_name: the name of the operator's class.
    :param batch: the batch of the sends.
    """

    conn_id: str
    operator_name: str
    batch: Batch

    def watch(self, record: Callable[[Result], None]) -> Callable[[Result], None]:
        """
        Count the sends that a try posts, when they are recorded.

        :param record: records the result of a row.
        """

        def watched(result: Result) -> None:
            record(result)
            if result.posted and result.outcome in _AT_ONCE:
                self._count(result.outcome, 1)

        return watched

    def end(self, counts: Mapping[RowOutcome, int]) -> None:
        """
        Count the other outcomes at the end of a try.

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
