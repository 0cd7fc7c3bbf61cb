"""The operator that makes eGift links: its arguments. What it does with them is in ``runs.egift_links``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso.arguments.values import given, name_of_table
from airflow_provider_sendoso.operators.rows import RowsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class EgiftLinksOperator(RowsOperator):
    """
    Make an eGift link of a campaign for each row of a query, or of a list, and write them into a table; each recipient
    gets one gift within ``dedupe_scope``, links and gifts that are sent counted together.

    Sendoso sends nothing: whoever has a link can redeem it. The links are in that table, and encrypted in the ledger;
    in no log, no XCom and no error.

    :param links_table: a table that holds one row for each recipient with a link after every try, written through
        ``conn_id``, also for ``recipients``; created where it is missing (templated).
    :param sql: the query, or a ``.sql`` file (templated).
    :param conn_id: connection of any ``DbApiHook`` (templated).
    :param parameters: of the query (templated).
    :param hook_params: keyword arguments of the connection's hook (templated).
    :param recipients: a list of dicts instead of a query, each with an ``email`` (templated).
    :param touch_id: a campaign whose gifts are eGifts (published; templated); set, it beats a column of the same name.
    :param column_map: field to column, for those that differ; columns match without case (templated).
    :param recipient_key: the field or column that identifies a recipient within the scope (templated).
    :param row_ref: a column that you declare not personal; logs and errors show it (templated).
    :param dedupe_scope: within which a recipient gets at most one gift, across runs (templated).
    :param on_invalid: ``"skip"`` invalid rows, or ``"fail"`` and make no link if one is (templated).
    :param max_invalid: fail before the first link with more invalid rows than this: an ``int`` is a count, a
        ``float`` a share from 0 to 1 (templated).
    :param strict_email: also refuse e-mail addresses that have the right shape and cannot exist; needs the extra
        ``[email]`` (templated).
    :param on_held: ``"fail"`` when it is not known whether a link was made, or ``"continue"`` (templated).
    :param dry_run: validate, price and count, make no link and leave no trace in ledger and links table (templated).
    :param approved_fingerprint: what a dry run returned: refuse to make anything else (templated).
    :param max_sends: refuse before the first link when this batch, its earlier tries included, would make more
        (templated).
    :param max_cost: refuse likewise when it would cost more, estimated; a price that is not known refuses, too
        (templated).
    :param max_in_flight: POSTs at once, from 1 to 16 (templated); by default what rate and latency need.
    :param lease: seconds or timedelta that a claim lasts without being renewed.
    :param results_table: a table that holds one row per input row after every try, without the links, written through
        ``conn_id``; created where it is missing (templated).
    :param claim_timeout: seconds or timedelta to wait, without progress, for rows that another run is on.
    :param sendoso_conn_id: the connection (templated).
    :return: the summary of a ``BatchSendOperator``. No personal data, and no link.
    :raises SendosoConfigError: for wrong arguments, columns or connections, and a campaign that has no eGifts; nothing
        was made. Also for links that cannot be read any more, because the client secret has changed.
    :raises SendosoRowsError: for too many invalid rows, or if nobody could be given a link.
    :raises SendosoLimitError: if it would make more, cost more or be another batch than was allowed; nothing was made.
    :raises SendosoResultsError: if the links table cannot be written; what was made is in the ledger, and a retry
        writes it.
    :raises SendHeldError: if it is not known of some whether a link was made; not retried by Airflow.
    :raises SendosoError: for what a retry may finish; nobody's link is made twice.
    """

    template_fields: Sequence[str] = (*RowsOperator.template_fields, "links_table")

    def __init__(self, *, links_table: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.links_table = links_table

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the links and write them; log and push the summary before anything is raised."""
        from airflow_provider_sendoso.batch.row_reader import Layout
        from airflow_provider_sendoso.models import Kind
        from airflow_provider_sendoso.runs.egift_links import EgiftLinksRun, LinksPlan

        plan = LinksPlan(
            links_table=name_of_table(self.links_table),
            layout=Layout({"touch_id": given(self.touch_id)}, kind=Kind.LINK, **self._layout()),
            **self._rows(),
        )
        return self._run(EgiftLinksRun(plan, self._task(context)))
