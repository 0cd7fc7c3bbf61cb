"""The operator that sends a whole batch: rows from a warehouse, validated, priced, sent, and accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

from airflow_provider_sendoso.batch.catalogue import Catalogue
from airflow_provider_sendoso.batch.cursor import columns_of, read_query, rows_of
from airflow_provider_sendoso.batch.limits import Limits
from airflow_provider_sendoso.batch.pricing import FULFILMENT, Cost, estimate, price_of
from airflow_provider_sendoso.batch.results import ResultsTable, write_results
from airflow_provider_sendoso.batch.rows import Layout, Row, RowReader, flatten
from airflow_provider_sendoso.batch.spool import Spool, Spooled
from airflow_provider_sendoso.batch.summary import Summary, too_many_invalid
from airflow_provider_sendoso.batch.validation import check_gifts
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoError,
    SendosoLimitError,
    SendosoRowsError,
)
from airflow_provider_sendoso.hooks.warehouse import warehouse_hook
from airflow_provider_sendoso.ledger.sends import Batch
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.operators.arguments import (
    amount,
    count,
    given,
    one_of,
    refuse,
    share_or_count,
    truth,
    width,
)
from airflow_provider_sendoso.operators.base import WHAT_TO_DO, Progress, SendOperator, moment, short_key
from airflow_provider_sendoso.sending import Result, Sender
from airflow_provider_sendoso.sending.preview import Preview, preview
from airflow_provider_sendoso.sending.replacing import why_not_replaceable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.common.sql.hooks.sql import DbApiHook

_NAMED = 20
"""Rows that a log or an error names before it only counts."""


class BatchSendOperator(SendOperator):
    """
    Send each row of a query, or of a list, a gift; each recipient once within ``dedupe_scope``.

    :param sql: the query, or a ``.sql`` file (templated).
    :param conn_id: connection of any ``DbApiHook`` (templated).
    :param parameters: of the query (templated).
    :param hook_params: keyword arguments of the connection's hook (templated).
    :param recipients: a list of dicts instead of a query; ``address`` and ``metadata`` may be nested (templated).
    :param gift_id: of the catalogue (templated); set, it beats a column of the same name. So do the next four.
    :param touch_id: a campaign; not supported yet.
    :param message: the note, with ``{column}`` for values of the row (templated).
    :param variant_id: size or colour of a swag item (templated).
    :param team_id: the team that pays (templated).
    :param metadata: own keys and values, added to the row's ``metadata_*`` columns (templated).
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

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, validate and send the rows; log and push the summary before anything is raised."""
        max_invalid = self._check_arguments()
        dry_run = truth("dry_run", self.dry_run)
        batch = self._batch(context, self.dedupe_scope, self.recipient_key)
        self._push_link(context)
        sender = self._sender(batch, given(self.gift_id) is not None, width(self.max_in_flight))
        limits = self._limits()
        self._check_ledger(context)
        self.hook.ledger.sends.check_scope(batch)
        results = self._prepare_results(batch)
        with Spool() as spool:
            self._fill(spool)
            self._check_replacements(batch, spool)
            if self._refuse_invalid(spool, max_invalid) is None:
                self._check_gifts(spool)
            self._log_invalid(spool)
            failure: SendosoError | None = self._refuse_invalid(spool, max_invalid)
            if dry_run:
                summary, failure = self._dry_run(batch, spool, limits, results, failure)
            else:
                self.hook.ledger.sends.open_batch(batch)
                summary, failure = self._send(context, batch, spool, sender, limits, results, failure)
        if failure is not None:
            self._push(context, summary)
            raise failure
        return summary.as_json()

    def _dry_run(
        self,
        batch: Batch,
        spool: Spool,
        limits: Limits,
        results: ResultsTable | None,
        failure: SendosoError | None,
    ) -> tuple[Summary, SendosoError | None]:
        """Say what would be sent and what it would cost; the ledger is only read."""
        seen, cost = self._preview(batch, spool, spool.record)
        balance = self.hook.get_balance()
        if cost is not None and cost.amount is not None and balance is not None and cost.amount > balance:
            self.log.warning("That is more than the balance of %s.", balance)
        summary = Summary(
            batch.batch_id, batch.dedupe_scope, spool.counts(), cost, seen.fingerprint, balance, dry_run=True
        )
        self.log.info("%s", summary.as_text())
        unwritten = self._write_results(results, batch, spool, would_send=True)
        return summary, failure or self._why_refused(limits, seen, cost) or unwritten

    def _send(
        self,
        context: Context,
        batch: Batch,
        spool: Spool,
        sender: Sender,
        limits: Limits,
        results: ResultsTable | None,
        failure: SendosoError | None,
    ) -> tuple[Summary, SendosoError | None]:
        """Send what may be sent; whatever happens, say how far it got."""
        fingerprint = None
        if failure is None and limits.any:
            seen, cost = self._preview(batch, spool, price=limits.max_cost is not None)
            fingerprint = seen.fingerprint
            failure = self._why_refused(limits, seen, cost)
        if failure is None:
            try:
                sender.send(spool.jobs(), spool.record, Progress(self.log, spool))
            except SendosoError as error:
                failure = error
            except BaseException:
                # A time-out of Airflow's is no Exception; a sensor can still follow what did go.
                self._push(context, self._summary(batch, spool, fingerprint))
                self._write_results(results, batch, spool)
                raise
        held = self._log_rows(spool)
        summary = self._summary(batch, spool, fingerprint, self._cost_of_sent(spool))
        if results is not None:
            self._push(context, summary)  # the task may be killed while it writes
        unwritten = self._write_results(results, batch, spool)
        if held and failure is None and not summary.count(RowOutcome.NOT_REACHED):
            self._push(context, summary)
            self._defer_until_settled(sender)
        return summary, failure or self._judge(summary, held, spool) or unwritten

    def _summary(self, batch: Batch, spool: Spool, fingerprint: str | None, cost: Cost | None = None) -> Summary:
        summary = Summary(batch.batch_id, batch.dedupe_scope, spool.counts(), cost, fingerprint)
        self.log.info("%s", summary.as_text())
        return summary

    def _push(self, context: Context, summary: Summary) -> None:
        if self.do_xcom_push:
            context["ti"].xcom_push(key=XCOM_RETURN_KEY, value=summary.as_json())

    # -- before the first send -----------------------------------------------------------------------------------

    def _check_arguments(self) -> float | None:
        refuse({"touch_id": self.touch_id})
        one_of("on_invalid", self.on_invalid, ("skip", "fail"))
        one_of("on_held", self.on_held, ("fail", "continue"))
        if given(self.metadata) is not None and not isinstance(self.metadata, Mapping):
            raise SendosoConfigError("metadata must be a dict; nothing was sent.")
        if (self.recipients is None) == (self.sql is None):
            raise SendosoConfigError("Give either sql and conn_id, or recipients; nothing was sent.")
        if self.sql is not None and not self.conn_id:
            raise SendosoConfigError("sql needs conn_id, the connection of the warehouse; nothing was sent.")
        if given(self.results_table) is not None and not self.conn_id:
            raise SendosoConfigError("results_table needs conn_id, the connection of its database; nothing was sent.")
        return share_or_count("max_invalid", self.max_invalid)

    def _limits(self) -> Limits:
        return Limits(
            max_sends=count("max_sends", self.max_sends),
            max_cost=amount("max_cost", self.max_cost),
            max_sends_per_batch=self.hook.config.max_sends_per_batch,
            approved_fingerprint=given(self.approved_fingerprint),
        )

    def _why_refused(self, limits: Limits, seen: Preview, cost: Cost | None) -> SendosoError | None:
        refusal = limits.why_refused(seen.to_send + seen.mine, cost, seen.fingerprint)
        return SendosoLimitError(f"{refusal} Nothing was sent by this try.") if refusal else None

    def _preview(
        self, batch: Batch, spool: Spool, record: Callable[[Result], None] = lambda result: None, *, price: bool = True
    ) -> tuple[Preview, Cost | None]:
        """Look at what would be sent and, where somebody wants to know, at what it would cost."""
        gifts: Counter[str] = Counter()
        seen = preview(self.hook.ledger, batch, spool.jobs(), record, lambda job: gifts.update([job.gift_send.gift_id]))
        if not price:
            return seen, None
        cost = estimate(gifts, self._catalogue.find, amount("shipping_estimate", self.shipping_estimate))
        if cost.amount is None:
            self.log.info("What it would cost is not known: %s.", "; ".join(cost.unknown[:_NAMED]))
        else:
            self.log.info(
                "Estimated cost: %s %s (catalogue prices and, for physical gifts, %s USD fulfilment and shipping).",
                cost.amount,
                cost.currency,
                FULFILMENT,
            )
        return seen, cost

    def _cost_of_sent(self, spool: Spool) -> Cost | None:
        """Estimate what this batch's gifts have cost; never a reason to fail, for they are out."""
        gifts = spool.gifts(RowOutcome.SENT)
        try:
            return estimate(gifts, self._catalogue.find, amount("shipping_estimate", self.shipping_estimate))
        except SendosoError as error:
            self.log.warning("The catalogue could not be read, so the cost is not estimated: %s", error)
            return None

    def _price_of(self, gift_id: str) -> tuple[Decimal, str] | None:
        try:
            gift = self._catalogue.find(gift_id)
        except SendosoError:
            return None
        price = price_of(gift_id, gift, amount("shipping_estimate", self.shipping_estimate))
        return None if isinstance(price, str) else (price.amount, price.currency)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(self.hook.list_gifts)

    def _fill(self, spool: Spool) -> None:
        if self.recipients is not None:
            columns, rows = flatten(self.recipients)
            if rows:
                spool.fill(self._read(columns, rows))
            return
        hook = self._warehouse()

        def read(cursor: Any) -> None:
            spool.fill(self._read(columns_of(cursor), rows_of(cursor)))

        read_query(hook, str(self.sql), self.parameters or None, read)

    def _read(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[Row]:
        arguments = {
            "gift_id": given(self.gift_id),
            "message": given(self.message),
            "variant_id": given(self.variant_id),
            "team_id": given(self.team_id),
        }
        layout = Layout(
            arguments,
            given(self.metadata) or {},
            self.column_map or {},
            self.recipient_key,
            self.row_ref or None,
            truth("strict_email", self.strict_email),
        )
        reader = RowReader(columns, layout)
        self.log.info("Fields: %s.", ", ".join(f"{name} from {source}" for name, source in reader.sources.items()))
        return (reader.read(number, cells) for number, cells in enumerate(rows, 1))

    def _warehouse(self) -> DbApiHook:
        hook = warehouse_hook(str(self.conn_id), self.hook_params)
        self.log.info("Reading recipients through %s with a %s.", self.conn_id, type(hook).__name__)
        return hook

    def _check_gifts(self, spool: Spool) -> None:
        """Look for incomplete addresses of gifts that go by post; Sendoso does, where the catalogue cannot be read."""
        catalogue = self._catalogue
        try:
            check_gifts(spool, catalogue, own_gift=given(self.gift_id) is not None)
        except SendosoError as error:
            self.log.warning("Addresses are left to Sendoso to check: its catalogue could not be read (%s)", error)

    def _refuse_invalid(self, spool: Spool, max_invalid: float | None) -> SendosoRowsError | None:
        counts = spool.counts()  # once: each is a walk through all rows
        invalid, rows = counts[RowOutcome.INVALID], counts.total()
        if invalid and self.on_invalid == "fail":
            return SendosoRowsError(f'{invalid} rows are invalid and on_invalid="fail". {_reasons(spool)}')
        if too_many_invalid(invalid, rows, max_invalid):
            return SendosoRowsError(
                f"{invalid} of {rows} rows are invalid, more than max_invalid={max_invalid}. {_reasons(spool)}"
            )
        return None

    def _prepare_results(self, batch: Batch) -> ResultsTable | None:
        """Prove before the first send that the results can be written after the last."""
        if given(self.results_table) is None:
            return None
        results = ResultsTable(warehouse_hook(str(self.conn_id), self.hook_params), str(self.results_table).strip())
        results.prepare(batch)
        return results

    def _check_replacements(self, batch: Batch, spool: Spool) -> None:
        for number, resend_of in spool.replacements():
            problem = why_not_replaceable(self.hook.session, self.hook.ledger, batch.account, resend_of)
            if problem is not None:
                spool.record(Result(number, RowOutcome.INVALID, problem))

    # -- afterwards ----------------------------------------------------------------------------------------------

    def _log_invalid(self, spool: Spool) -> None:
        for row in spool.rows(RowOutcome.INVALID, _NAMED):
            self.log.warning("Invalid %s: %s.", row.name, row.reason)
        for reason, rows in spool.reasons(RowOutcome.INVALID):
            self.log.info("Invalid because %s: %d.", reason, rows)

    def _log_rows(self, spool: Spool) -> list[Spooled]:
        for row in spool.rows(RowOutcome.REFUSED, _NAMED):
            self.log.warning("Refused %s: %s.", row.name, row.reason)
        held = spool.rows(RowOutcome.HELD, _NAMED)
        for row in held:
            self.log.warning("Held %s: %s.", row.name, _posted(row))
        return held

    def _write_results(
        self, results: ResultsTable | None, batch: Batch, spool: Spool, *, would_send: bool = False
    ) -> SendosoError | None:
        """Rewrite the results, and return why that could not be done: it must not hide how the sends went."""
        if results is None:
            return None
        try:
            write_results(results, batch, spool, self.hook.ledger, price_of=self._price_of, would_send=would_send)
        except SendosoError as error:
            self.log.error("%s", error)
            return error
        self.log.info("Results of %d rows are in %s.", spool.counts().total(), results.name)
        return None

    def _judge(self, summary: Summary, held: Sequence[Spooled], spool: Spool) -> SendosoError | None:
        """Decide between success and failure; the order says which matters more."""
        if not_reached := summary.count(RowOutcome.NOT_REACHED):
            return SendosoError(
                f"{not_reached} rows were not reached, and no gift went out for them. {summary.as_text()} "
                "Retry the task: who was sent a gift is not sent another."
            )
        if held and self.on_held == "fail":
            names = "; ".join(f"{row.name}, {_posted(row)}" for row in held)
            more = summary.count(RowOutcome.HELD) - len(held)
            return SendHeldError(
                f"{summary.count(RowOutcome.HELD)} sends are held: {names}{f'; and {more} more' if more else ''}. "
                f'{WHAT_TO_DO} Everybody else is done. With on_held="continue" this does not fail the task.'
            )
        if summary.nobody_was_sent():
            return SendosoRowsError(f"Nobody was sent a gift. {summary.as_text()} {_reasons(spool)}")
        return None


def _reasons(spool: Spool) -> str:
    texts = [
        f"{reason} ({rows})"
        for outcome in (RowOutcome.INVALID, RowOutcome.REFUSED)
        for reason, rows in spool.reasons(outcome)[:5]
    ]
    return f"Reasons: {'; '.join(texts)}." if texts else ""


def _posted(row: Spooled) -> str:
    return f"posted at {moment(row.posted_at)}, {row.reason}, key {short_key(row.send_key)}"
