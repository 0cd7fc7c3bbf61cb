"""The arguments of the operator that loads Sendoso's objects into a table; its logic is in ``runs.landing``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.values import given, mapping, one_of, text, truth
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.last_words import with_last_words
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.retries import for_this_airflow
from airflow_provider_sendoso.templates import RendersAuthorsTemplates

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sendoso.ledger.tries import ThisTry


class SendosoToSqlOperator(RendersAuthorsTemplates, BaseOperator):
    """
    Load one of Sendoso's lists into a table of any database, as an upsert by ``id``.

    The table is created if it is missing, and gets a column for each new field; columns are never dropped or retyped. A
    run makes all its changes in one transaction. Nothing is sent.

    :param object: ``"sends"`` (the gift sends), ``"campaign_sends"`` (the Send Tracker), ``"touches"``, ``"users"``,
        ``"groups"``, ``"gifts"``, ``"marketplace_products"`` (a row for each variant) or ``"return_addresses"``
        (templated).
    :param table: the table's name as that database's SQL writes it (templated).
    :param conn_id: connection of any ``DbApiHook`` (templated).
    :param hook_params: keyword arguments of the connection's hook (templated).
    :param columns: the columns to load, by default all, **including names and e-mails of recipients**; ``id`` is always
        loaded, for sends also ``status``, ``status_word`` and ``created_at`` (templated). A key of a gift send's
        metadata becomes a column only if it is named here, like ``metadata_customer_id``.
    :param status_table: for sends, a table of their status updates (templated).
    :param batch_id: load only the sends that the ledger knows of this batch (templated).
    :param full: read a list of sends to its end, even if the remaining pages are not expected to have changed
        (templated).
    :param sendoso_conn_id: the connection (templated).
    :return: ``object``; the counts ``rows`` (read), ``inserted``, ``updated`` and ``unchanged``; ``columns_added``;
        ``whole_list``, whether the list was read to its end; with a status table also ``status_updates``, with a batch
        ``missing``. No personal data.
    :raises SendosoConfigError: if an argument is wrong, or if the table was created for something else.
    :raises SendosoResultsError: if the database refused the change; the table is unchanged.
    :raises SendosoError: if the list could not be read; the table is unchanged.
    """

    template_fields: Sequence[str] = (
        "object",
        "table",
        "conn_id",
        "hook_params",
        "columns",
        "status_table",
        "batch_id",
        "full",
        "sendoso_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"hook_params": "json", "columns": "json"}
    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(),)
    ui_color = "#fde8d7"

    def __init__(
        self,
        *,
        object: str,
        table: str,
        conn_id: str,
        hook_params: Mapping[str, Any] | None = None,
        columns: Sequence[str] | str | None = None,
        status_table: str | None = None,
        batch_id: str | None = None,
        full: bool | str = False,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**for_this_airflow(kwargs))
        self.object = object
        self.table = table
        self.conn_id = conn_id
        self.hook_params = hook_params
        self.columns = columns
        self.status_table = status_table
        self.batch_id = batch_id
        self.full = full
        self.sendoso_conn_id = sendoso_conn_id
        self.stopped = False
        self.this_try: ThisTry | None = None

    @with_last_words
    def execute(self, context: Context) -> dict[str, Any]:
        """Read the rows that are new or may have changed, and write them."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook
        from airflow_provider_sendoso.landing.lists import LISTS
        from airflow_provider_sendoso.landing.rows import read_columns
        from airflow_provider_sendoso.ledger.tries import ThisTry
        from airflow_provider_sendoso.runs.landing import LandingPlan, LandingRun
        from airflow_provider_sendoso.runs.task import Task

        one_of("object", self.object, tuple(LISTS))
        names = {name: text(name, getattr(self, name)) for name in ("table", "conn_id", "status_table", "batch_id")}
        for name in ("table", "conn_id"):
            if names[name] is None:
                raise SendosoConfigError(f"{name} is empty (perhaps a template without a value). Nothing was read.")
        plan = LandingPlan(
            listed=LISTS[self.object],
            table=str(names["table"]),
            conn_id=str(names["conn_id"]),
            hook_params=mapping("hook_params", self.hook_params),
            columns=read_columns(given(self.columns)),
            status_table=names["status_table"],
            batch_id=names["batch_id"],
            full=truth("full", self.full),
        )
        hook = SendosoHook(self.sendoso_conn_id)
        self.this_try = ThisTry()
        task = Task(context, hook, self.log, type(self).__name__, stopped=lambda: self.stopped, this_try=self.this_try)
        return LandingRun(plan, task).execute()

    def on_kill(self) -> None:
        """Stop reading; nothing is written."""
        # A flag and not a lock, because this runs in a signal handler.
        self.stopped = True
