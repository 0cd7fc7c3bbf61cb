"""The operator that sends a whole batch: its arguments. What it does with them is in ``runs.batch``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_sendoso.arguments.values import (
    amount,
    asking,
    count,
    given,
    name_of_table,
    one_of,
    share_or_count,
    truth,
    width,
)
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.operators.base import SendOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_sendoso.ledger.records import Batch
    from airflow_provider_sendoso.runs.batch import BatchRun


class BatchSendOperator(SendOperator):
    """
    Send each row of a query, or of a list, a gift; each recipient once within ``dedupe_scope``.

    :param sql: the query, or a ``.sql`` file (templated).
    :param conn_id: connection of any ``DbApiHook`` (templated).
    :param parameters: of the query (templated).
    :param hook_params: keyword arguments of the connection's hook (templated).
    :param recipients: a list of dicts instead of a query; ``address`` and ``metadata`` may be nested (templated).
    :param gift_id: of the catalogue (templated); set, it beats a column of the same name. So do the next five.
    :param touch_id: a campaign instead, made in Sendoso (published; templated).
    :param message: the note, with ``{column}`` for values of the row (templated).
    :param variant_id: size or colour of a swag item (templated).
    :param team_id: the team that pays (templated).
    :param metadata: own keys and values, added to the row's ``metadata_*`` columns (templated).
    :param address_confirmation: ask a recipient without an address for it, by ``"email"`` or by a ``"link"``; for
        campaigns whose gifts go by post (published; templated). So are the next three.
    :param expire_after_days: days that the recipient has to answer, from 2 to 7, by default 7 (published; templated).
    :param hide_product_info: whether to ask without saying what for (templated).
    :param address_confirmation_message: what the recipient reads when asked (templated).
    :param column_map: field to column, for those that differ; columns match without case (templated).
    :param recipient_key: the field or column that identifies a recipient within the scope (templated).
    :param row_ref: a column that you declare not personal; logs and errors show it (templated).
    :param dedupe_scope: within which a recipient gets at most one gift, across runs (templated).
    :param on_invalid: ``"skip"`` invalid rows, or ``"fail"`` and send nothing if one is (templated).
    :param max_invalid: fail before the first send with more invalid rows than this: an ``int`` is a count, a
        ``float`` a share from 0 to 1 (templated).
    :param strict_email: also refuse e-mail addresses that have the right shape and cannot exist, such as one with two
        dots in a row; needs the extra ``[email]`` (templated).
    :param on_held: ``"fail"`` when a send's outcome is not known, or ``"continue"`` (templated).
    :param on_absent: ``"hold"`` a send of unknown outcome that Sendoso does not list, or ``"resend"`` it once two
        complete lists after ``settle_time`` are without it; the task is deferred until then (templated).
    :param dry_run: validate, price and count, send nothing and leave no trace in the ledger (templated).
    :param approved_fingerprint: what a dry run returned: refuse to send anything else (templated).
    :param max_sends: refuse before the first send when this batch, its earlier tries included, would make more
        (templated).
    :param max_cost: refuse likewise when it would cost more, estimated, in the catalogue's currency; a price that is
        not known refuses, too (templated).
    :param shipping_estimate: what shipping one physical gift is estimated at, in the catalogue's currency; the API
        does not say (templated). Without it what physical gifts cost is not known.
    :param max_in_flight: POSTs at once, from 1 to 16 (templated); by default what rate and latency need. Each is
        what a kill or an outage may leave unknown.
    :param lease: seconds or timedelta that a claim lasts without being renewed.
    :param settle_time: seconds or timedelta after a POST's deadline until its absence can be proven.
    :param results_table: a table that holds one row per input row after every try, written through ``conn_id``, also
        for ``recipients``; created where it is missing (templated).
    :param claim_timeout: seconds or timedelta to wait, without progress, for rows that another run is on.
    :param sendoso_conn_id: the connection (templated).
    :return: the summary: ``batch_id``, ``dedupe_scope``, ``rows``, the seven counts, ``estimated_cost`` and
        ``currency`` of what was sent, and ``fingerprint``; of a dry run also ``would_send`` and ``balance``. No
        personal data.
    :raises SendosoConfigError: for wrong arguments, columns or connections; nothing was sent.
    :raises SendosoRowsError: for too many invalid rows, or if nobody could be sent a gift.
    :raises SendosoLimitError: if it would send more, cost more or be another batch than was allowed; nothing was sent.
    :raises SendHeldError: if sends are held; not retried by Airflow.
    :raises SendosoError: for what a retry may finish; rows that were sent are not sent again.
    """

    template_fields: Sequence[str] = (
        "sql",
        "conn_id",
        "parameters",
        "hook_params",
        "recipients",
        "gift_id",
        "touch_id",
        "message",
        "variant_id",
        "team_id",
        "metadata",
        "address_confirmation",
        "expire_after_days",
        "hide_product_info",
        "address_confirmation_message",
        "column_map",
        "recipient_key",
        "row_ref",
        "dedupe_scope",
        "on_invalid",
        "max_invalid",
        "strict_email",
        "on_held",
        "on_absent",
        "dry_run",
        "approved_fingerprint",
        "max_sends",
        "max_cost",
        "shipping_estimate",
        "max_in_flight",
        "results_table",
        "sendoso_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "sql": "sql",
        "parameters": "json",
        "hook_params": "json",
        "recipients": "json",
        "metadata": "json",
        "column_map": "json",
    }
    ui_color = "#fde8d7"

    def __init__(
        self,
        *,
        sql: str | None = None,
        conn_id: str | None = None,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        hook_params: Mapping[str, Any] | None = None,
        recipients: Iterable[Mapping[str, Any]] | None = None,
        gift_id: str | None = None,
        touch_id: int | str | None = None,
        message: str | None = None,
        variant_id: str | None = None,
        team_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        column_map: Mapping[str, str] | None = None,
        recipient_key: str = "email",
        row_ref: str | None = None,
        dedupe_scope: str,
        on_invalid: str = "skip",
        max_invalid: float | str | None = None,
        strict_email: bool | str = False,
        on_held: str = "fail",
        dry_run: bool | str = False,
        approved_fingerprint: str | None = None,
        max_sends: int | str | None = None,
        max_cost: float | str | None = None,
        shipping_estimate: float | str | None = None,
        max_in_flight: int | str | None = None,
        results_table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.conn_id = conn_id
        self.parameters = parameters
        self.hook_params = hook_params
        self.recipients = recipients
        self.gift_id = gift_id
        self.touch_id = touch_id
        self.message = message
        self.variant_id = variant_id
        self.team_id = team_id
        self.metadata = metadata
        self.column_map = column_map
        self.recipient_key = recipient_key
        self.row_ref = row_ref
        self.dedupe_scope = dedupe_scope
        self.on_invalid = on_invalid
        self.max_invalid = max_invalid
        self.strict_email = strict_email
        self.on_held = on_held
        # Takes the place of Airflow's method of that name, which only renders the templates.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.approved_fingerprint = approved_fingerprint
        self.max_sends = max_sends
        self.max_cost = max_cost
        self.shipping_estimate = shipping_estimate
        self.max_in_flight = max_in_flight
        self.results_table = results_table
        self.sent: tuple[Batch, int] | None = None
        """What the last run in this process has sent, for OpenLineage."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, validate and send the rows; log and push the summary before anything is raised."""
        from airflow_provider_sendoso.runs.batch import BatchRun
        from airflow_provider_sendoso.runs.batch_plan import BatchPlan

        return self._run(BatchRun(BatchPlan(**self._arguments()), self._task(context)))

    def _run(self, run: BatchRun) -> dict[str, Any]:
        try:
            return run.execute()
        finally:
            self.sent = run.sent

    def _arguments(self, *, links: bool = False) -> dict[str, Any]:
        """Parse the rendered arguments into those of the plan."""
        from airflow_provider_sendoso.arguments.sends import refuse_with_campaign, refuse_without_campaign
        from airflow_provider_sendoso.batch.limits import Limits
        from airflow_provider_sendoso.batch.row_reader import Layout

        names = ("gift_id", "touch_id", "message", "variant_id", "team_id")
        gift, metadata, how = {name: given(getattr(self, name)) for name in names}, given(self.metadata), asking(self)
        if gift["touch_id"] is not None:
            of_gifts = {name: gift[name] for name in ("gift_id", "variant_id", "team_id")} | {"metadata": metadata}
            refuse_with_campaign([name for name, value in of_gifts.items() if value is not None])
        if gift["gift_id"] is not None:
            refuse_without_campaign(how)
        one_of("on_invalid", self.on_invalid, ("skip", "fail"))
        one_of("on_held", self.on_held, ("fail", "continue"))
        if metadata is not None and not isinstance(metadata, Mapping):
            raise SendosoConfigError("metadata must be a dict; nothing was sent.")
        layout = Layout(
            gift,
            metadata or {},
            self.column_map or {},
            self.recipient_key,
            self.row_ref or None,
            truth("strict_email", self.strict_email),
            how,
            links,
        )
        limits = Limits(
            max_sends=count("max_sends", self.max_sends),
            max_cost=amount("max_cost", self.max_cost),
            approved_fingerprint=given(self.approved_fingerprint),
        )
        return {
            "dedupe_scope": self.dedupe_scope,
            "layout": layout,
            "sql": self.sql,
            "recipients": self.recipients,
            "conn_id": self.conn_id,
            "parameters": self.parameters,
            "hook_params": self.hook_params,
            "fail_on_invalid": self.on_invalid == "fail",
            "max_invalid": share_or_count("max_invalid", self.max_invalid),
            "fail_on_held": self.on_held == "fail",
            "dry_run": truth("dry_run", self.dry_run),
            "limits": limits,
            "shipping_estimate": amount("shipping_estimate", self.shipping_estimate),
            "max_in_flight": width(self.max_in_flight),
            "results_table": name_of_table(self.results_table),
            **self._protection(),
        }

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """
        Say for OpenLineage which tables were read and where the gifts went; called after each try, failed ones too.

        :param task_instance: not looked at.
        :return: ``None`` for a try that did not come to sending.
        """
        from airflow_provider_sendoso.observability.lineage import Query, openlineage_of

        if self.sent is None:
            return None
        batch, sent = self.sent
        query = None if self.sql is None else Query(self.sql, str(self.conn_id), self.hook_params)
        return openlineage_of(query, batch.account, batch.dedupe_scope, sent)
