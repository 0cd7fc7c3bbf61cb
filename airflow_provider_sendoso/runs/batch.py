"""One try of a batch: reads, validates, prices and sends its rows, and reports their outcomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso.batch.campaigns import Campaigns, check_campaigns
from airflow_provider_sendoso.batch.catalogue import Catalogue, named
from airflow_provider_sendoso.batch.pricing import FULFILMENT, Cost, Prices, estimate
from airflow_provider_sendoso.batch.products import check_products, marketplace
from airflow_provider_sendoso.batch.report import MOST, HeldSend, Report
from airflow_provider_sendoso.batch.results_table import ResultsTable, write_results
from airflow_provider_sendoso.batch.row import BatchRow
from airflow_provider_sendoso.batch.row_reader import BatchRowReader, flatten
from airflow_provider_sendoso.batch.spool import BatchSpool, Spooled
from airflow_provider_sendoso.batch.summary import Summary, too_many_invalid
from airflow_provider_sendoso.batch.validation import check_gifts
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoError,
    SendosoLimitError,
    SendosoNotReachedError,
    SendosoRowsError,
    SendosoSupersededError,
)
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import Gift, Item, RowOutcome, Variant
from airflow_provider_sendoso.models.spending import Price
from airflow_provider_sendoso.observability.lineage import note_asset_events, report_output, report_query
from airflow_provider_sendoso.observability.metrics import SendMetrics
from airflow_provider_sendoso.observability.spans import span
from airflow_provider_sendoso.runs.base import MAY_HAVE_GONE_OUT, ProgressLog, Run, how_to_decide, moment, short_key
from airflow_provider_sendoso.runs.batch_plan import BatchPlan
from airflow_provider_sendoso.runs.slots import reschedule_until_free
from airflow_provider_sendoso.runs.stops import stopped_by
from airflow_provider_sendoso.sending import Result, Sender
from airflow_provider_sendoso.sending.ceiling import limit_error, over_ceiling
from airflow_provider_sendoso.sending.jobs import chunks, send_key
from airflow_provider_sendoso.sending.preview import Preview, preview, say_differences
from airflow_provider_sendoso.sending.replacements import check_replaceable
from airflow_provider_sendoso.sending.scopes import check_scopes
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook
from airflow_provider_sendoso.warehouse.queries import columns_of, read_query, rows_of

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

_NAMED = 20
"""The most unknown prices, unused columns and held sends that a log line or an error names; it counts the others."""


_NEVER_POSTED = (RowOutcome.INVALID, RowOutcome.DUPLICATE)


class BatchRun(Run):
    """
    One try of :class:`~airflow_provider_sendoso.operators.sendoso.BatchSendOperator`.

    :param plan: the parsed arguments.
    :param task: the task of this try.
    """

    plan: BatchPlan
    sent: tuple[Batch, int] | None = None
    """The batch and its number of sends, for OpenLineage; ``None`` if the try ended before it sent anything."""

    links = False
    """Whether each row is to become an eGift link."""
    _started = 0.0
    _approval_differs = False
    _previewed: Counter[Item] | None = None
    """What a dry run has found of other gifts in the scope."""
    may_have = MAY_HAVE_GONE_OUT
    """What the error says of held sends."""

    def execute(self) -> dict[str, Any]:
        """Read, validate and send the rows; log and push the summary before anything is raised."""
        self._started = time.monotonic()
        batch = self._batch(self.plan.layout.recipient_key)
        self._push_link()
        try:
            return self._execute(batch)
        except SendosoSupersededError:
            raise
        except SendosoError as error:
            error.so_far = error.so_far or self._sent_before(batch)
            raise

    def _sent_before(self, batch: Batch) -> str:
        """Say what earlier tries have sent, for an error that ends this one before it has counted its rows."""
        try:
            sent = self.hook.ledger.sends.perhaps_sent(batch).total()
        except SendosoError:
            return ""  # the ledger itself is what has failed
        return f"Earlier tries of this task have posted {sent} sends, which are not made again." if sent else ""

    def _execute(self, batch: Batch) -> dict[str, Any]:
        sender = self._sender(batch, self.plan.own_item is not None, self._prices, self.plan.max_in_flight)
        self._check_ledger()
        self.hook.ledger.sends.check_scope(batch)
        results = self._prepare_results(batch)
        about = {"batch_id": batch.batch_id, "conn_id": self.hook.sendoso_conn_id}
        with span("batch", about) as describe, BatchSpool() as spool:
            with span("read"):
                self._fill(spool)
            self._check_replacements(batch, spool)
            self._take_back(batch, spool)
            failure: SendosoError | None = None
            if self._refuse_invalid(spool) is None:
                failure = (
                    self._check_gifts(batch, spool)
                    or self._check_campaigns(batch, spool)
                    or self._check_products(batch, spool)
                )
                self._take_back(batch, spool)
            self._log_invalid(spool)
            failure = failure or self._refuse_invalid(spool)
            if failure is None:
                check_scopes(self.hook.session, spool.kinds())
            if self.plan.dry_run:
                summary, failure = self._dry_run(batch, spool, results, failure)
            else:
                self.hook.ledger.sends.open_batch(batch)
                self.hook.begin_try(self.task.this_try, self.context["ti"])
                self._note_plan(batch, spool)
                summary, failure = self._send(batch, spool, sender, results, failure)
            describe({"rows": summary.rows, **{outcome.value: summary.count(outcome) for outcome in RowOutcome}})
            self._report(batch, summary)
            report = self._lines(summary, spool, failure, sender.on_hold, self._previewed or sender.of_another)
        if failure is not None:
            self.task.push(summary.as_json())
            failure.so_far, failure.report = summary.as_text(), report
            raise failure
        self._log_lines(report)
        return summary.as_json()

    def _dry_run(
        self,
        batch: Batch,
        spool: BatchSpool,
        results: ResultsTable | None,
        failure: SendosoError | None,
    ) -> tuple[Summary, SendosoError | None]:
        """Report what would be sent and what it would cost; the ledger is only read."""
        seen, cost = self._preview(batch, spool, spool.record)
        self._previewed = seen.of_another
        self._say_room(batch, seen)
        balance = self.hook.get_balance()
        if cost is not None and cost.amount is not None and balance is not None and cost.amount > balance:
            self.log.warning("That is more than the balance of %s.", balance)
        summary = Summary(
            batch.batch_id, batch.dedupe_scope, spool.counts(), cost, seen.fingerprint, balance, dry_run=True
        )
        self.log.info("%s", summary.as_text())
        unwritten = self._write_results(results, batch, spool, would_send=True)
        return summary, failure or self._why_refused(batch, spool, seen, cost) or unwritten

    def _send(
        self,
        batch: Batch,
        spool: BatchSpool,
        sender: Sender,
        results: ResultsTable | None,
        failure: SendosoError | None,
    ) -> tuple[Summary, SendosoError | None]:
        """Send the rows that may be sent; log and push the summary however it ends."""
        metrics = SendMetrics(self.hook.sendoso_conn_id, self.task.operator, batch)
        fingerprint, left_out = None, set[int]()
        on_cost, ceiling = self.limits().on_cost, self.hook.config.max_sends_per_batch
        if failure is None and (self.plan.limits.any or on_cost or ceiling is not None):
            seen, cost = self._preview(batch, spool, price=self.plan.limits.max_cost is not None)
            fingerprint, left_out = seen.fingerprint, seen.left_out
            failure = self._why_refused(batch, spool, seen, cost)
            if failure is not None:
                self._preview(batch, spool, spool.record, price=False)  # gifts sent earlier are counted as such
        if failure is None:
            try:
                self.limits.price_earlier(batch, self._prices)
                with span("send"):
                    sender.send(spool.jobs(), metrics.watch(spool.record), ProgressLog(self.log, spool), left_out)
            except SendosoSupersededError:
                raise
            except SendosoError as error:
                own_gift = next(spool.gift_ids(), None) if self.plan.owns("gift_id") else None
                failure = error if own_gift is None else named(error, own_gift, self._catalogue)
            except BaseException:
                if self.task.this_try.superseded():
                    raise
                # BaseException, because Airflow's time-out is no Exception: a sensor can then follow what was sent.
                summary = self._summary(batch, spool, fingerprint)
                self.task.push(summary.as_json())
                self._write_results(results, batch, spool)
                metrics.end(summary.counts)
                self._log_lines(self._lines(summary, spool, None, sender.on_hold, sender.of_another))
                raise
        self.task.this_try.check()
        if failure is None:
            not_reached = spool.counts()[RowOutcome.NOT_REACHED]
            reschedule_until_free(self.task, sender, not_reached, self.plan.claim_timeout)
        if isinstance(failure, SendosoLimitError) and failure.limit is not None:
            spool.explain_not_reached(f"{failure.limit}: {failure}")
        held = spool.rows(RowOutcome.HELD, _NAMED)
        summary = self._summary(batch, spool, fingerprint, self._cost_of_sent(spool))
        if results is not None or self.links:
            self.task.push(summary.as_json())  # before writing, because the task may be killed meanwhile
        unwritten = self._write_results(results, batch, spool)
        if held and failure is None and not summary.count(RowOutcome.NOT_REACHED):
            self.task.push(summary.as_json())
            self._defer_until_settled(sender)
        metrics.end(summary.counts)
        return summary, failure or self._judge(summary, held, spool) or unwritten

    def _summary(self, batch: Batch, spool: BatchSpool, fingerprint: str | None, cost: Cost | None = None) -> Summary:
        sent_now = spool.sent_now()
        summary = Summary(batch.batch_id, batch.dedupe_scope, spool.counts(), cost, fingerprint, sent_now=sent_now)
        self.log.info("%s", summary.as_text())
        return summary

    def _note_plan(self, batch: Batch, spool: BatchSpool) -> None:
        """Let the pages in Airflow's UI say how far this batch is."""
        counts = spool.counts()
        rows = counts.total() - sum(counts[outcome] for outcome in _NEVER_POSTED)
        self.hook.ledger.overview.note_plan(batch.batch_id, rows, self.plan.results_table)

    def _report(self, batch: Batch, summary: Summary) -> None:
        """Report the batch to assets and lineage; the report of a dry run says that nothing was sent."""
        sent = 0 if summary.dry_run else summary.count(RowOutcome.SENT)
        self.sent = batch, sent
        if sent:
            report_output(self.hook, batch.account, batch.dedupe_scope)
        extra = summary.as_json() | {"dry_run": summary.dry_run}
        note_asset_events(self.context, self.task.outlets, batch.account, batch.dedupe_scope, extra)

    # -- before the first send -----------------------------------------------------------------------------------

    def _why_refused(self, batch: Batch, spool: BatchSpool, seen: Preview, cost: Cost | None) -> SendosoError | None:
        limits = self.plan.limits
        refusal = limits.why_refused(seen.sends, cost, seen.fingerprint) or self._why_unpriced(seen)
        if limits.differs(seen.fingerprint):
            self._approval_differs = True
            approved = str(limits.approved_fingerprint)
            refusal = f"{refusal} {say_differences(approved, seen, self.hook.ledger, batch, spool.jobs())}"
        return limit_error(refusal) if refusal else over_ceiling(self.hook.config, seen.sends if seen.posts else 0)

    def _why_unpriced(self, seen: Preview) -> str | None:
        """Say that a limit on cost cannot be kept, because what would be sent has no price."""
        limited = [limit.name for limit in self.limits() if limit.is_cost]
        cost = estimate(seen.to_send, self._prices) if limited else None
        if cost is None or cost.amount is not None:
            return None
        names = " and ".join(limited)
        return f"What it would cost is not known, so {names} cannot be kept: {'; '.join(cost.unknown[:5])}."

    def _say_room(self, batch: Batch, seen: Preview) -> None:
        """Warn of the limits that a run would reach before its last row."""
        cost = estimate(seen.to_send, self._prices) if self.limits().on_cost else None
        amount = Price(cost.amount, cost.currency or "") if cost is not None and cost.amount is not None else None
        for limit, of, used in self.hook.ledger.budget.of_limits(batch.account, batch.dedupe_scope, self.limits()):
            if limit.is_cost and amount is None:
                continue  # why is said by the dry run's error
            currency, more = (
                (amount.currency, amount.millionths) if limit.is_cost and amount else ("", seen.to_send.total())
            )
            if used.total(limit, currency) + more > limit.most:
                self.log.warning(
                    "A run would stop when it reaches %s of %s: %s.", limit, of, used.said(limit, currency)
                )

    def _preview(
        self,
        batch: Batch,
        spool: BatchSpool,
        record: Callable[[Result], None] = lambda result: None,
        *,
        price: bool = True,
    ) -> tuple[Preview, Cost | None]:
        """Determine what would be sent and, if it is needed, what it would cost."""
        seen = preview(
            self.hook.ledger,
            batch,
            spool.jobs(),
            record,
            resend_absent=self.plan.resend_absent,
            limits=self.limits(),
        )
        if not price:
            return seen, None
        cost = estimate(seen.made + seen.to_send, self._prices)
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

    def _cost_of_sent(self, spool: BatchSpool) -> Cost | None:
        """Estimate the cost of this batch's gifts; never fails, because the gifts went out."""
        try:
            return estimate(spool.items(RowOutcome.SENT), self._prices)
        except SendosoError as error:
            self.log.warning("The catalogue could not be read, so the cost is not estimated: %s", error)
            return None

    def _price_of(self, item: Item) -> tuple[Decimal, str] | None:
        try:
            price = self._prices.of(item)
        except SendosoError:
            return None
        return None if isinstance(price, str) else (price.amount, price.currency)

    @cached_property
    def _prices(self) -> Prices:
        shipping = self.plan.shipping_estimate
        return Prices(self._catalogue.find, self._campaigns.find, shipping, self._marketplace.find)

    @cached_property
    def _campaigns(self) -> Campaigns:
        return Campaigns(self.hook)

    @cached_property
    def _catalogue(self) -> Catalogue[Gift]:
        return Catalogue(self.hook.list_gifts)

    @cached_property
    def _marketplace(self) -> Catalogue[Variant]:
        return marketplace(self.hook.list_marketplace_products)

    def _fill(self, spool: BatchSpool) -> None:
        if self.plan.recipients is not None:
            columns, rows = flatten(self.plan.recipients)
            if rows:
                spool.fill(self._read(columns, rows))
            return
        hook = self._warehouse()

        def read(cursor: Any) -> None:
            spool.fill(self._read(columns_of(cursor), rows_of(cursor)))

        read_query(hook, str(self.plan.sql), self.plan.parameters or None, read, report_query)

    def _read(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[BatchRow]:
        reader = BatchRowReader(columns, self.plan.layout)
        self.log.info("Fields: %s.", ", ".join(f"{name} from {source}" for name, source in reader.sources.items()))
        if unused := reader.unused:
            more = f" and {len(unused) - _NAMED} more" if len(unused) > _NAMED else ""
            self.log.info("Columns that are not used: %s%s.", ", ".join(unused[:_NAMED]), more)
        return (reader.read(number, cells) for number, cells in enumerate(rows, 1))

    def _warehouse(self) -> DbApiHook:
        hook = warehouse_hook(str(self.plan.conn_id), self.plan.hook_params)
        self.log.info("Reading recipients through %s with a %s.", self.plan.conn_id, type(hook).__name__)
        return hook

    def _check_gifts(self, batch: Batch, spool: BatchSpool) -> SendosoError | None:
        """Look gifts and incomplete addresses up."""
        own, everything = self.plan.owns("gift_id"), self.plan.dry_run or self.plan.limits.any
        return self._found(
            batch,
            spool,
            "Addresses are left to Sendoso to check: its catalogue",
            lambda: check_gifts(spool, self._catalogue, own_gift=own, all_gifts=everything),
        )

    def _check_campaigns(self, batch: Batch, spool: BatchSpool) -> SendosoError | None:
        """Find the rows whose campaign cannot be sent; the campaign also determines the shape of its sends."""
        problem = check_campaigns(spool, self._campaigns, own_touch=self.plan.owns("touch_id"), links=self.links)
        if problem is None:
            return None
        # An ended campaign does not fail a task whose recipients were all sent their gift.
        seen, _ = self._preview(batch, spool, price=False)
        if not seen.to_send:
            return None
        touch_id = self.plan.layout.arguments["touch_id"]
        return SendosoConfigError(f"{problem} ({touch_id}). Nothing was sent by this try.")

    def _check_products(self, batch: Batch, spool: BatchSpool) -> SendosoError | None:
        """Look variants up where all gifts are looked up; otherwise Sendoso's own answer decides."""
        if not (self.plan.dry_run or self.plan.limits.any) or not spool.marketplace_variants():
            return None
        return self._found(
            batch,
            spool,
            "Products are left to Sendoso to check: its marketplace",
            lambda: check_products(
                spool,
                self._marketplace,
                lambda countries: self.hook.list_marketplace_products(ship_to_country_codes=countries),
                own_variant=self.plan.owns("marketplace_variant_id"),
            ),
        )

    def _found(
        self, batch: Batch, spool: BatchSpool, left: str, check: Callable[[], str | None]
    ) -> SendosoConfigError | None:
        """Look the rows up in a list; where it cannot be read, or gifts are sent, Sendoso's own answer decides."""
        try:
            problem = check()
        except SendosoError as error:
            self.log.warning("%s could not be read (%s)", left, error)
            return None
        # That a list is complete is inferred.
        if problem is None or not self.plan.dry_run or not self._preview(batch, spool, price=False)[0].to_send:
            return None
        return SendosoConfigError(f"{problem}. A run that sends would stop at its first row. Nothing was sent.")

    def _refuse_invalid(self, spool: BatchSpool) -> SendosoRowsError | None:
        counts = spool.counts()  # once, because counting reads all rows
        invalid, rows, most = counts[RowOutcome.INVALID], counts.total(), self.plan.max_invalid
        if invalid and self.plan.fail_on_invalid:
            return SendosoRowsError(f'{invalid} rows are invalid and on_invalid="fail". {_reasons(spool)}')
        if too_many_invalid(invalid, rows, most):
            return SendosoRowsError(
                f"{invalid} of {rows} rows are invalid, more than max_invalid={most}. {_reasons(spool)}"
            )
        return None

    def _prepare_results(self, batch: Batch) -> ResultsTable | None:
        """Test before the first send that the results can be written after the last one."""
        if self.plan.results_table is None:
            return None
        hook = warehouse_hook(str(self.plan.conn_id), self.plan.hook_params)
        results = ResultsTable(hook, self.plan.results_table)
        results.prepare(batch)
        return results

    def _check_replacements(self, batch: Batch, spool: BatchSpool) -> None:
        renamed = False
        ids = [str(job.resend_of) for job in spool.replacements()]
        replaced = check_replaceable(self.hook.session, self.hook.ledger, batch.account, ids)
        for job in spool.replacements():
            old = replaced[str(job.resend_of)]
            problem = old.problem_for(self.hook.ledger, batch, job)
            if problem is not None:
                spool.record(Result(job.number, RowOutcome.INVALID, problem))
            elif old.name != job.resend_of:
                renamed = True
                spool.rename_replaced(job.number, old.name)
        if renamed:
            spool.mark_duplicates()

    def _take_back(self, batch: Batch, spool: BatchSpool) -> None:
        """
        Undo the rejection of rows that an earlier try or run has posted.

        A campaign that has ended since, or a gift that has left the catalogue, does not change the outcome of a posted
        row.
        """
        ledger = self.hook.ledger
        if not ledger.sends.scope_exists(batch.account, batch.dedupe_scope):
            return
        posted = list[int]()
        for chunk in chunks(spool.rejected()):
            keys = {job.number: send_key(ledger, batch, job) for job in chunk}
            records = ledger.sends.read(list(keys.values()))
            posted += [
                number
                for number, key in keys.items()
                if key in records and records[key].outcome_for(batch.batch_id) is not RowOutcome.NOT_REACHED
            ]
        if posted:
            spool.take_back(posted)

    # -- afterwards ----------------------------------------------------------------------------------------------

    def _log_invalid(self, spool: BatchSpool) -> None:
        counts = ", ".join(f"{outcome} {rows}" for outcome, rows in spool.counts().items() if outcome in _NEVER_POSTED)
        self.log.info("%d rows read%s.", spool.counts().total(), f": {counts}" if counts else "")
        for group in spool.groups(RowOutcome.INVALID)[:MOST]:
            self.log.warning("Invalid %s.", group)
        for reason, rows in spool.left_out():
            self.log.info("Sent without what only a parcel needs, because %s: %d.", reason, rows)

    def _lines(
        self,
        summary: Summary,
        spool: BatchSpool,
        failure: SendosoError | None,
        on_hold: int,
        of_another: Counter[Item],
    ) -> tuple[str, ...]:
        """Make the report; it says nothing of the rows that a dry run would send."""
        outcomes = [
            RowOutcome.INVALID,
            RowOutcome.DUPLICATE,
            RowOutcome.REFUSED,
            RowOutcome.CAPPED,
            *([] if summary.dry_run else [RowOutcome.NOT_REACHED]),
        ]
        report = Report(
            summary=summary,
            conn_id=self.hook.sendoso_conn_id,
            asked=self.plan.in_words,
            took=f"took {timedelta(seconds=round(time.monotonic() - self._started))}",
            groups={outcome: spool.groups(outcome) for outcome in outcomes},
            held=[
                HeldSend(row.name, moment(row.posted_at), row.reason or "", short_key(row.send_key))
                for row in spool.rows(RowOutcome.HELD, MOST)
            ],
            on_hold=on_hold,
            failure=failure,
            of_another={str(item): rows for item, rows in of_another.most_common()},
            approved=self.plan.limits.approved_fingerprint is not None,
            approval_differs=self._approval_differs,
            links=self.links,
        )
        return tuple(report.lines())

    def _log_lines(self, lines: Iterable[str]) -> None:
        # A record for each line, and all of one level: only so do columns stay aligned in every view of a log.
        for line in lines:
            self.log.info("%s", line)

    def _write_results(
        self, results: ResultsTable | None, batch: Batch, spool: BatchSpool, *, would_send: bool = False
    ) -> SendosoError | None:
        """Rewrite the results; return an error instead of raising it, so that it does not hide the sends' outcome."""
        if results is None:
            return None
        try:
            write_results(results, batch, spool, self.hook.ledger, price_of=self._price_of, would_send=would_send)
        except SendosoError as error:
            self.log.error("%s", error)
            return error
        self.log.info("Results of %d rows are in %s.", spool.counts().total(), results.name)
        return None

    def _judge(self, summary: Summary, held: Sequence[Spooled], spool: BatchSpool) -> SendosoError | None:
        """Decide between success and failure; the most important check comes first."""
        if not_reached := summary.count(RowOutcome.NOT_REACHED):
            stopped = f"The task was told to stop: {stopped_by(self.context)}. " if self.task.stopped() else ""
            return SendosoNotReachedError(
                f"{stopped}{not_reached} rows were not reached, and no gift went out for them. Retry the task: who was "
                "sent a gift is not sent another."
            )
        if held and self.plan.fail_on_held:
            names = "; ".join(f"{row.name}, {_posted(row)}" for row in held)
            more = summary.count(RowOutcome.HELD) - len(held)
            decide = how_to_decide(self.may_have, short_key(held[0].send_key), self.hook.sendoso_conn_id)
            return SendHeldError(
                f"{summary.count(RowOutcome.HELD)} sends are held: {names}{f'; and {more} more' if more else ''}. "
                f'{decide} Everybody else is done. With on_held="continue" this does not fail the task.'
            )
        if summary.nobody_was_sent():
            return SendosoRowsError(f"Nobody was sent a gift. {_reasons(spool)}")
        return None


def _reasons(spool: BatchSpool) -> str:
    texts = [
        f"{reason} ({rows})"
        for outcome in (RowOutcome.INVALID, RowOutcome.REFUSED)
        for reason, rows in spool.reasons(outcome)[:5]
    ]
    return f"Reasons: {'; '.join(texts)}." if texts else ""


def _posted(row: Spooled) -> str:
    return f"posted at {moment(row.posted_at)}, {row.reason}, key {short_key(row.send_key)}"
