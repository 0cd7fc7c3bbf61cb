"""Keeps the statuses in a results table up to date while a sensor or a trigger waits, and when the wait ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sendoso.batch.results_table import StatusUpdate, refresh_statuses
from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook

log = logging.getLogger(__name__)

_EVERY = 3600.0
"""Seconds between two refreshes on the way: for many sends, each reads the ledger and writes thousands of rows."""


@dataclass
class ResultsRefresh:
    """
    The results table of a wait; its methods block.

    :param hook: the connection to Sendoso, with its ledger.
    :param table: the table's name.
    :param conn_id: the connection of the table's database.
    :param batch_id: the batch whose rows are updated; ``None``: rows of all batches.
    :param dedupe_scope: the scope whose rows are updated; ``None``: rows of all scopes.
    """

    hook: SendosoHook
    table: str
    conn_id: str
    batch_id: str | None = None
    dedupe_scope: str | None = None
    _written_at: float = field(default_factory=lambda: time.monotonic() - _EVERY)
    _written: int = 0

    def write(self, report: Mapping[str, Any]) -> None:
        """
        Write the sends' statuses into the table: those of the report, or else the ledger's.

        :param report: of the wait; see :meth:`~airflow_provider_sendoso.waiting.watch.Watch.report`.
        :raises SendosoError: if the table could not be written, or the ledger could not be read.
        """
        names = {"batch_id": self.batch_id, "dedupe_scope": self.dedupe_scope}
        where = {name: value for name, value in names.items() if value is not None}
        statuses: Iterable[StatusUpdate]
        if report["statuses"] is not None:
            now, words = time.time(), report.get("status_words") or {}
            statuses = (
                StatusUpdate(send_id, status, now, words.get(send_id)) for send_id, status in report["statuses"].items()
            )
        else:
            records = self.hook.ledger.sends.records(State.SENT, account=self.hook.config.account, **where)
            statuses = (
                StatusUpdate(record.send_id, record.status, record.status_at, record.status_word)
                for record in records
                if record.send_id is not None and record.status is not None
            )
        refresh_statuses(warehouse_hook(self.conn_id), self.table, where, statuses)
        log.info("Statuses in %s are up to date.", self.table)

    def write_on_the_way(self, report: Mapping[str, Any], changes: int) -> None:
        """
        Write the statuses if some have changed, at most once an hour; an error is logged, and the wait goes on.

        :param report: of the wait.
        :param changes: number of changes that the wait has seen so far in this process.
        """
        if changes == self._written or time.monotonic() - self._written_at < _EVERY:
            return
        self._written, self._written_at = changes, time.monotonic()
        try:
            self.write(report)
        except SendosoError as error:
            log.warning("The results table is not up to date; the wait goes on, and writes it again later: %s", error)
