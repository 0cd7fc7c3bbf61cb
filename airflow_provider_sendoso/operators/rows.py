"""The base class of the operators for many rows: the arguments for the rows' source, their limits and the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_sendoso.arguments.limits import LIMIT_ARGUMENTS, warn_of_unset
from airflow_provider_sendoso.arguments.values import (
    amount,
    count,
    listing,
    mapping,
    one_of,
    query,
    share_or_count,
    text,
    truth,
    width,
)
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.operators.base import SendOperator
from airflow_provider_sendoso.personal import PersonalArgument

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_sendoso.ledger.records import Batch
    from airflow_provider_sendoso.runs.batch import BatchRun


class RowsOperator(SendOperator):
    """Base of the operators for batches of gifts and of eGift links, which document the arguments themselves."""

    template_fields: Sequence[str] = (
        "sql",
        "conn_id",
        "parameters",
        "hook_params",
        "recipients",
        "touch_id",
        "column_map",
        "recipient_key",
        "row_ref",
        "dedupe_scope",
        "on_invalid",
        "max_invalid",
        "strict_email",
        "on_held",
        "dry_run",
        "approved_fingerprint",
        "max_sends",
        "max_cost",
        *LIMIT_ARGUMENTS,
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
        "column_map": "json",
    }
    ui_color = "#fde8d7"
    parameters = PersonalArgument()
    hook_params = PersonalArgument(rendered=True)
    recipients = PersonalArgument()

    def __init__(
        self,
        *,
        sql: str | None = None,
        conn_id: str | None = None,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        hook_params: Mapping[str, Any] | None = None,
        recipients: Iterable[Mapping[str, Any]] | None = None,
        touch_id: int | str | None = None,
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
        self.touch_id = touch_id
        self.column_map = column_map
        self.recipient_key = recipient_key
        self.row_ref = row_ref
        self.dedupe_scope = dedupe_scope
        self.on_invalid = on_invalid
        self.max_invalid = max_invalid
        self.strict_email = strict_email
        self.on_held = on_held
        # Replaces Airflow's method of that name, which only renders the templates.
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.approved_fingerprint = approved_fingerprint
        self.max_sends = max_sends
        self.max_cost = max_cost
        self.max_in_flight = max_in_flight
        self.results_table = results_table
        self.sent: tuple[Batch, int] | None = None
        """The batch of the last run in this process and how many gifts it sent, for OpenLineage."""

    def _run(self, run: BatchRun) -> dict[str, Any]:
        self._say_scope()
        try:
            return run.execute()
        finally:
            self.sent = run.sent

    def _layout(self) -> dict[str, Any]:
        """Parse the arguments that map columns to fields."""
        return {
            "column_map": mapping("column_map", self.column_map) or {},
            "recipient_key": text("recipient_key", self.recipient_key) or "",
            "row_ref": text("row_ref", self.row_ref),
            "strict_email": truth("strict_email", self.strict_email),
        }

    def _rows(self) -> dict[str, Any]:
        """Parse the other arguments of a plan."""
        from airflow_provider_sendoso.batch.limits import Limits

        one_of("on_invalid", self.on_invalid, ("skip", "fail"))
        one_of("on_held", self.on_held, ("fail", "continue"))
        limits = Limits(
            max_sends=count("max_sends", self.max_sends),
            max_cost=amount("max_cost", self.max_cost),
            approved_fingerprint=text("approved_fingerprint", self.approved_fingerprint),
        )
        if self.approved_fingerprint is not None and limits.approved_fingerprint is None:
            raise SendosoConfigError(
                "approved_fingerprint has rendered to nothing, so nothing is approved. Does it name the task of the "
                "dry run? Nothing was sent."
            )
        warn_of_unset(self, limits, ("max_sends", "max_cost"))
        return {
            "dedupe_scope": self.dedupe_scope,
            "sql": query(self.sql),
            "recipients": listing("recipients", self.recipients),
            "conn_id": text("conn_id", self.conn_id),
            "parameters": self.parameters,
            "hook_params": mapping("hook_params", self.hook_params),
            "fail_on_invalid": self.on_invalid == "fail",
            "max_invalid": share_or_count("max_invalid", self.max_invalid),
            "fail_on_held": self.on_held == "fail",
            "dry_run": truth("dry_run", self.dry_run),
            "limits": limits,
            "max_in_flight": width(self.max_in_flight),
            "results_table": text("results_table", self.results_table),
            **self._common(),
        }

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:
        """
        Report to OpenLineage the tables read and the scope written; called after every try.

        :param task_instance: not used.
        :return: ``None`` if the try ended before it sent anything.
        """
        from airflow_provider_sendoso.observability.lineage import Query, openlineage_of

        if self.sent is None:
            return None
        batch, sent = self.sent
        query = None if self.sql is None else Query(self.sql, str(self.conn_id), self.hook_params)
        return openlineage_of(query, batch.account, batch.dedupe_scope, sent)
