"""One try of a batch of eGift links: like any batch, but at its end all known links are written into a table."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_sendoso.batch.links_table import LinksTable, some, why_unreadable, write_links
from airflow_provider_sendoso.batch.results_table import ResultsTable
from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.runs.batch import BatchRun
from airflow_provider_sendoso.runs.batch_plan import BatchPlan
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook


@dataclass(frozen=True, kw_only=True)
class LinksPlan(BatchPlan):
    """
    The plan of a batch of links: an eGift link for each row.

    :param links_table: the table into which the links are written, through ``conn_id``.
    """

    links_table: str | None

    def __post_init__(self) -> None:
        if self.links_table is None or not self.conn_id:
            raise SendosoConfigError(
                "Give links_table, and conn_id, the connection of its database: links are written nowhere else. "
                "Nothing was sent."
            )
        super().__post_init__()


class EgiftLinksRun(BatchRun):
    """
    One try of :class:`~airflow_provider_sendoso.operators.sendoso.EgiftLinksOperator`.

    :param plan: the parsed arguments.
    :param task: the task of this try.
    """

    plan: LinksPlan

    links = True
    may_have = (
        "A link may have been made; no second one is made on a guess, and no run can look for it, because Sendoso's "
        "list shows no links. Look for the recipient in Sendoso: a link that is there can be handed on from there"
    )
    _table: LinksTable

    def _prepare_results(self, batch: Batch) -> ResultsTable | None:
        """Test before the first link is created that links can be written after the last one."""
        hook = warehouse_hook(str(self.plan.conn_id), self.plan.hook_params)
        self._table = LinksTable(hook, str(self.plan.links_table))
        self._table.prepare(batch)
        return super()._prepare_results(batch)

    def _write_results(
        self, results: ResultsTable | None, batch: Batch, spool: BatchSpool, *, would_send: bool = False
    ) -> SendosoError | None:
        """Rewrite both tables; a dry run creates no links and leaves the links table as it is."""
        unwritten = super()._write_results(results, batch, spool, would_send=would_send)
        if would_send:
            return unwritten
        return self._write_links(batch, spool) or unwritten

    def _write_links(self, batch: Batch, spool: BatchSpool) -> SendosoError | None:
        cipher = self.hook.ledger.links(self.hook.config.client_secret.get_secret_value())
        try:
            links = write_links(self._table, batch, spool, self.hook.ledger, cipher)
        except SendosoError as error:
            self.log.error("%s", error)
            return error
        if links.without:
            self.log.warning(
                "%d recipients were sent something without a link in this scope before, or a person has resolved it as "
                "sent; they are not in the links table: %s.",
                len(links.without),
                some(links.without),
            )
        unreadable = why_unreadable(links, self.hook.sendoso_conn_id)
        if unreadable is not None:
            self.log.error("%s", unreadable)
            return unreadable
        self.log.info("%d eGift links are in %s.", links.written, self._table.name)
        return None
