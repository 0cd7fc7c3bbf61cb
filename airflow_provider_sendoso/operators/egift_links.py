"""The arguments of the operator that creates eGift links; its logic is in ``runs.egift_links``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso.arguments.values import one, text
from airflow_provider_sendoso.last_words import with_last_words
from airflow_provider_sendoso.operators.rows import RowsOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class EgiftLinksOperator(RowsOperator):
    """
    Create an eGift link of a campaign for each row of a query or list, and write the links into a table.

    Each recipient gets at most one gift within ``dedupe_scope``, whether it is a link or a sent gift. Sendoso sends the
    recipients nothing, and anyone who has a link can redeem it. The links are stored in that table and, encrypted, in
    the ledger; they are never in a log, an XCom or an error.

    :param links_table: a table that holds one row for each recipient with a link after every try; it is written through
        ``conn_id``, also for ``recipients``, and created if it is missing (templated).
    :param sql: the query, or a ``.sql`` file (templated).
    :param conn_id: connection of any ``DbApiHook`` (templated).
    :param parameters: parameters of the query (templated).
    :param hook_params: keyword arguments of the connection's hook (templated).
    :param recipients: a list of dicts instead of a query, each with an ``email`` (templated).
    :param touch_id: a campaign whose gifts are eGifts (published; templated). If set, it overrides the column of the
        same name.
    :param column_map: column by field, for columns whose name differs from the field's; case is ignored (templated).
    :param recipient_key: the field or column that identifies a recipient within the scope (templated).
    :param row_ref: a column that you declare not personal; logs and errors show its values (templated).
    :param dedupe_scope: a recipient gets at most one gift within this scope, across runs (templated).
    :param on_invalid: ``"skip"`` invalid rows, or ``"fail"`` and create no link if a row is invalid (templated).
    :param max_invalid: fail before the first link if more rows than this are invalid: an ``int`` is a count, a
        ``float`` a share from 0 to 1 (templated).
    :param strict_email: also refuse e-mail addresses that have the right shape and cannot exist; needs the extra
        ``[email]`` (templated).
    :param on_held: ``"fail"`` if it is not known whether a link was created, or ``"continue"`` (templated).
    :param dry_run: validate, price and count; create no link and write to neither ledger nor links table (templated).
    :param approved_fingerprint: the fingerprint that a dry run returned; refuse to create anything else (templated).
    :param max_sends: refuse before the first link if this batch, its earlier tries included, would create more links
        (templated).
    :param max_cost: refuse before the first link if the batch's estimated cost would be higher, or if a price is not
        known (templated).
    :param scope_max_sends: the most sends of the scope, by all tasks and runs together; what fits is sent (templated).
    :param scope_max_cost: the highest estimated cost of the scope, likewise; a send of unknown price is refused
        (templated).
    :param min_days_between_gifts: leave out a recipient who was sent anything of this account, in any scope, within so
        many days; such a row is ``capped`` (templated). By default the connection's.
    :param max_in_flight: concurrent POSTs, from 1 to 16 (templated); by default as many as rate and latency need.
    :param lease: seconds or timedelta until a claim expires unless it is renewed.
    :param results_table: a table that holds one row per input row after every try, without the links; it is written
        through ``conn_id`` and created if it is missing (templated).
    :param claim_timeout: seconds or timedelta to wait, without progress, for rows that another run has claimed.
    :param sendoso_conn_id: the connection (templated).
    :return: the summary, as ``BatchSendOperator`` returns it. No personal data, and no link.
    :raises SendosoConfigError: if an argument, a column or a connection is wrong, or if the campaign has no eGifts; no
        link was created. Also if links in the ledger cannot be decrypted, because the client secret has changed.
    :raises SendosoRowsError: if too many rows are invalid, or if nobody could be given a link.
    :raises SendosoLimitError: if the batch exceeds a limit or differs from the approved one; no link was created, or,
        at a limit of the scope or of the account, those that fit in it.
    :raises SendosoResultsError: if the links table cannot be written; the links are in the ledger, and a retry writes
        them.
    :raises SendHeldError: if it is not known whether some links were created; Airflow does not retry this error.
    :raises SendosoError: if a retry may finish the batch; no recipient's link is created twice.
    """

    template_fields: Sequence[str] = (*RowsOperator.template_fields, "links_table")

    def __init__(self, *, links_table: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.links_table = links_table

    @with_last_words
    def execute(self, context: Context) -> dict[str, Any]:
        """Create the links and write them to the table; log and push the summary before anything is raised."""
        from airflow_provider_sendoso.batch.row_reader import Layout
        from airflow_provider_sendoso.models import Kind
        from airflow_provider_sendoso.runs.egift_links import EgiftLinksRun, LinksPlan

        plan = LinksPlan(
            links_table=text("links_table", self.links_table),
            layout=Layout({"touch_id": one("touch_id", self.touch_id)}, kind=Kind.LINK, **self._layout()),
            **self._rows(),
        )
        return self._run(EgiftLinksRun(plan, self._task(context)))
