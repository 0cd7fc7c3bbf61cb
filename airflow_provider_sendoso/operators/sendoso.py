"""Operators that send gifts, each recipient once, whatever happens to their tasks."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY, BaseOperator
from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

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
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook, gift_send
from airflow_provider_sendoso.hooks.warehouse import warehouse_hook
from airflow_provider_sendoso.ledger.sends import Batch
from airflow_provider_sendoso.models import RowOutcome, normalise_key
from airflow_provider_sendoso.sending import Job, Result, Sender
from airflow_provider_sendoso.sending.preview import Preview, preview
from airflow_provider_sendoso.sending.replacing import why_not_replaceable
from airflow_provider_sendoso.sending.width import MOST

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.common.sql.hooks.sql import DbApiHook

_NAMED = 20
"""Rows that a log or an error names before it only counts."""

_PROGRESS = 5.0
"""Seconds between two progress lines."""

_SHORTEST_LEASE = 10.0

_WHAT_TO_DO = (
    "A gift may have gone out; it will not be sent again on a guess. The next run looks for it in Sendoso once more. "
    "To decide it yourself, look for the recipient in Sendoso, and write down what you found with "
    "`airflow sendoso ledger resolve` or a ResolveHeldOperator."
)

_LEDGER_UUID = "sendoso_ledger_uuid"
"""Key in Airflow's task state store: the ledger that an earlier try of this task has used."""


class _SendOperator(BaseOperator):
    """What both operators share: the hook, the batch's identity, and stopping when the task is killed."""

    def __init__(
        self,
        *,
        sendoso_conn_id: str = SendosoHook.default_conn_name,
        on_absent: str = "hold",
        settle_time: float | timedelta = 900,
        lease: float | timedelta = 60,
        claim_timeout: float | timedelta = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sendoso_conn_id = sendoso_conn_id
        self.on_absent = on_absent
        self.settle_time = settle_time
        self.lease = lease
        self.claim_timeout = claim_timeout
        self._stopped = False
        self._settled = False

    @cached_property
    def hook(self) -> SendosoHook:
        """The hook, built at the first use."""
        return SendosoHook(self.sendoso_conn_id)

    def on_kill(self) -> None:
        """Claim nothing more; what is being posted at this moment is finished and recorded."""
        # A flag and no lock: this runs in a signal handler.
        self._stopped = True

    def execute_after_settling(self, context: Context, event: Any = None) -> Any:
        """Go on after the settle time: what is still absent then is sent again, and what is there is found."""
        self._settled = True
        return self.execute(context)

    def _defer_until_settled(self, sender: Sender) -> None:
        """Wait, without a worker, until the absence of what is held can be proven; once in a try."""
        if self.on_absent == "hold" or self._settled or sender.settles_in is None:
            return
        wait = timedelta(seconds=max(0.0, sender.settles_in) + 1)
        self.log.info("Held sends are looked for once more in %s, and sent again if they are not there.", wait)
        self.defer(trigger=TimeDeltaTrigger(wait), method_name="execute_after_settling")

    def _check_ledger(self, context: Context) -> None:
        """Refuse another ledger than an earlier try of this task has used: it knows nothing of what that one sent."""
        store: Any = context.get("task_state_store")  # Airflow 3.3 and newer
        if store is None:
            return
        here = self.hook.ledger.identity.ledger_uuid
        before = store.get(_LEDGER_UUID)
        if before is None:
            store.set(_LEDGER_UUID, here)
        elif before != here:
            raise SendosoConfigError(
                f"An earlier try of this task used the ledger {before}; the connection "
                f"{self.hook.config.ledger_conn_id!r} now leads to {here}. Is it a local file on another machine, or "
                "was it lost or restored? It does not know who was sent a gift; nothing was sent by this try."
            )

    def _batch(self, context: Context, dedupe_scope: Any, recipient_key: str) -> Batch:
        scope = str(dedupe_scope).strip() if dedupe_scope is not None else ""
        if scope in ("", "None"):
            raise SendosoConfigError(
                "dedupe_scope is empty (perhaps a template without a value). It says within what a recipient gets at "
                "most one gift; nothing was sent."
            )
        ti = context["ti"]
        map_index = ti.map_index if isinstance(ti.map_index, int) else -1  # -1: not mapped
        ids = (ti.dag_id, ti.task_id, ti.run_id, str(map_index))
        batch_id = hashlib.sha256("\0".join(ids).encode()).hexdigest()[:32]
        account = self.hook.config.account
        return Batch(batch_id, account, scope, recipient_key, ti.dag_id, ti.task_id, ti.run_id, map_index)

    def _sender(self, batch: Batch, own_gift: bool, max_in_flight: int | None = None) -> Sender:
        _one_of("on_absent", self.on_absent, ("hold", "resend"))
        lease = _seconds("lease", self.lease)
        if lease < _SHORTEST_LEASE:
            raise SendosoConfigError(f"lease is {lease:g} s; give it at least {_SHORTEST_LEASE:g} s.")
        return Sender(
            self.hook.session,
            self.hook.ledger,
            batch,
            own_gift=own_gift,
            lease=lease,
            claim_timeout=_seconds("claim_timeout", self.claim_timeout),
            max_in_flight=max_in_flight,
            settle_time=_seconds("settle_time", self.settle_time),
            resend_absent=self.on_absent == "resend",
            stopped=lambda: self._stopped,
        )


class SendGiftOperator(_SendOperator):
    """
    Send one gift to one recipient, once within ``dedupe_scope``.

    :param gift_id: of the catalogue (templated).
    :param touch_id: a campaign; not supported yet.
    :param recipient: ``first_name``, ``last_name``, ``email``, optionally ``company``, ``title`` and ``address``
        (``line1``, ``line2``, ``city``, ``state``, ``postal_code``, ``country``), which physical gifts need (seed;
        templated).
    :param message: the note that goes with it (templated).
    :param variant_id: size or colour of a swag item (templated).
    :param team_id: the team that pays (templated).
    :param metadata: own keys and values, for attribution (templated).
    :param dedupe_scope: within which the recipient's e-mail gets at most one gift (templated); by default this task
        in this run, so that retries and clears do not send again.
    :param resend_of: the id of an earlier send that failed or came back, which this one replaces (templated); there
        is at most one replacement of a send, in whatever scope.
    :param on_absent: ``"hold"`` a send of unknown outcome that Sendoso does not list, or ``"resend"`` it once two
        complete lists after ``settle_time`` are without it; the task is deferred until then (templated).
    :param settle_time: seconds or timedelta after a POST's deadline until its absence can be proven.
    :param lease: seconds or timedelta that a claim lasts without being renewed.
    :param claim_timeout: seconds or timedelta to wait while another run is on the same send.
    :param sendoso_conn_id: the connection (templated).
    :return: the send's id (``str``); for one that was sent before, the recorded id; ``None`` where a person has
        resolved it as sent without one.
    :raises SendosoConfigError: for wrong arguments, or no ledger; nothing was sent.
    :raises SendosoApiError: if Sendoso refused it; nothing was sent.
    :raises SendOutcomeUnknownError: if the gift may have gone out.
    :raises SendHeldError: if that was so in an earlier try.
    """

    template_fields: Sequence[str] = (
        "gift_id",
        "touch_id",
        "recipient",
        "message",
        "variant_id",
        "team_id",
        "metadata",
        "dedupe_scope",
        "resend_of",
        "on_absent",
        "sendoso_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"recipient": "json", "metadata": "json"}
    ui_color = "#fde8d7"

    def __init__(
        self,
        *,
        gift_id: str | None = None,
        touch_id: int | str | None = None,
        recipient: Mapping[str, Any],
        message: str | None = None,
        variant_id: str | None = None,
        team_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        dedupe_scope: str = "{{ dag.dag_id }}/{{ task.task_id }}/{{ run_id }}",
        resend_of: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gift_id = gift_id
        self.touch_id = touch_id
        self.recipient = recipient
        self.message = message
        self.variant_id = variant_id
        self.team_id = team_id
        self.metadata = metadata
        self.dedupe_scope = dedupe_scope
        self.resend_of = resend_of

    def execute(self, context: Context) -> str | None:
        """Send the gift, or find that it was sent."""
        _refuse({"touch_id": self.touch_id})
        send = gift_send(
            gift_id=_set(self.gift_id),
            recipient=self.recipient,
            message=_set(self.message),
            variant_id=_set(self.variant_id),
            team_id=_set(self.team_id),
            metadata=_set(self.metadata),
        )
        batch = self._batch(context, self.dedupe_scope, "email")
        sender = self._sender(batch, own_gift=True)
        self._check_ledger(context)
        resend_of = _set(self.resend_of)
        if resend_of is not None:
            problem = why_not_replaceable(self.hook.session, self.hook.ledger, batch.account, str(resend_of))
            if problem is not None:
                raise SendosoConfigError(f"{problem}. Nothing was sent.")
        self.hook.ledger.sends.open_batch(batch)
        job = Job(1, normalise_key(send.recipient.email) or "", send, resend_of=resend_of and str(resend_of))
        results = [Result(1, RowOutcome.NOT_REACHED, "stopped")]
        sender.send([job], results.append, _Progress(self.log))
        if results[-1].outcome is RowOutcome.HELD:
            self._defer_until_settled(sender)
        return self._judge(batch, send.gift_id, results[-1])

    def _judge(self, batch: Batch, gift_id: str, result: Result) -> str | None:
        match result.outcome:
            case RowOutcome.SENT | RowOutcome.ALREADY_SENT:
                if result.gift_id != gift_id:
                    raise SendosoConfigError(
                        f"In the scope {batch.dedupe_scope!r} this recipient was already sent {result.gift_id!r} "
                        f"(send {result.send_id}), not {gift_id!r}. Nothing more was sent; for another gift use "
                        "another dedupe_scope."
                    )
                verb = "Sent" if result.outcome is RowOutcome.SENT else "Already sent"
                # Without an id where a person has found the gift and did not write it down.
                self.log.info("%s: %s, in scope %s.", verb, result.send_id or "id unknown", batch.dedupe_scope)
                return result.send_id
            case RowOutcome.REFUSED:
                raise result.error or SendosoRowsError(
                    f"Sendoso refused this send before ({result.reason}) and its content is the same, so it was not "
                    "posted again. No gift went out; correct the recipient, the gift or the message."
                )
            case RowOutcome.HELD:
                when = _moment(result.posted_at)
                what = (
                    f"The send {_short(result.send_key)}, posted at {when} in scope {batch.dedupe_scope!r}, has no "
                    "known outcome"
                )
                error = SendOutcomeUnknownError if result.posted else SendHeldError
                raise error(f"{what} ({result.reason}). {_WHAT_TO_DO}")
            case _:
                raise SendosoError(f"The send was not posted ({result.reason}); no gift went out. Retry the task.")


class BatchSendOperator(_SendOperator):
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
        dry_run = _truth("dry_run", self.dry_run)
        batch = self._batch(context, self.dedupe_scope, self.recipient_key)
        sender = self._sender(batch, _set(self.gift_id) is not None, _width(self.max_in_flight))
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
                sender.send(spool.jobs(), spool.record, _Progress(self.log, spool))
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
        _refuse({"touch_id": self.touch_id})
        _one_of("on_invalid", self.on_invalid, ("skip", "fail"))
        _one_of("on_held", self.on_held, ("fail", "continue"))
        if _set(self.metadata) is not None and not isinstance(self.metadata, Mapping):
            raise SendosoConfigError("metadata must be a dict; nothing was sent.")
        if (self.recipients is None) == (self.sql is None):
            raise SendosoConfigError("Give either sql and conn_id, or recipients; nothing was sent.")
        if self.sql is not None and not self.conn_id:
            raise SendosoConfigError("sql needs conn_id, the connection of the warehouse; nothing was sent.")
        if _set(self.results_table) is not None and not self.conn_id:
            raise SendosoConfigError("results_table needs conn_id, the connection of its database; nothing was sent.")
        return _share_or_count("max_invalid", self.max_invalid)

    def _limits(self) -> Limits:
        return Limits(
            max_sends=_count("max_sends", self.max_sends),
            max_cost=_amount("max_cost", self.max_cost),
            max_sends_per_batch=self.hook.config.max_sends_per_batch,
            approved_fingerprint=_set(self.approved_fingerprint),
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
        cost = estimate(gifts, self._catalogue.find, _amount("shipping_estimate", self.shipping_estimate))
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
            return estimate(gifts, self._catalogue.find, _amount("shipping_estimate", self.shipping_estimate))
        except SendosoError as error:
            self.log.warning("The catalogue could not be read, so the cost is not estimated: %s", error)
            return None

    def _price_of(self, gift_id: str) -> tuple[Decimal, str] | None:
        try:
            gift = self._catalogue.find(gift_id)
        except SendosoError:
            return None
        price = price_of(gift_id, gift, _amount("shipping_estimate", self.shipping_estimate))
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
            "gift_id": _set(self.gift_id),
            "message": _set(self.message),
            "variant_id": _set(self.variant_id),
            "team_id": _set(self.team_id),
        }
        layout = Layout(
            arguments,
            _set(self.metadata) or {},
            self.column_map or {},
            self.recipient_key,
            self.row_ref or None,
            _truth("strict_email", self.strict_email),
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
            check_gifts(spool, catalogue, own_gift=_set(self.gift_id) is not None)
        except SendosoError as error:
            self.log.warning("Addresses are left to Sendoso to check: its catalogue could not be read (%s)", error)

    def _refuse_invalid(self, spool: Spool, max_invalid: float | None) -> SendosoRowsError | None:
        invalid, rows = spool.counts()[RowOutcome.INVALID], spool.counts().total()
        if invalid and self.on_invalid == "fail":
            return SendosoRowsError(f'{invalid} rows are invalid and on_invalid="fail". {_reasons(spool)}')
        if too_many_invalid(invalid, rows, max_invalid):
            return SendosoRowsError(
                f"{invalid} of {rows} rows are invalid, more than max_invalid={max_invalid}. {_reasons(spool)}"
            )
        return None

    def _prepare_results(self, batch: Batch) -> ResultsTable | None:
        """Prove before the first send that the results can be written after the last."""
        if _set(self.results_table) is None:
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
        for reason, count in spool.reasons(RowOutcome.INVALID):
            self.log.info("Invalid because %s: %d.", reason, count)

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
                f'{_WHAT_TO_DO} Everybody else is done. With on_held="continue" this does not fail the task.'
            )
        if summary.nobody_was_sent():
            return SendosoRowsError(f"Nobody was sent a gift. {summary.as_text()} {_reasons(spool)}")
        return None


class _Progress:
    """
    Logs how far a batch is, every few seconds, also while nothing happens.

    In a task whose supervisor has died the log line raises: that is how an orphan notices, and stops.

    :param logger: the task's.
    :param spool: whose rows are counted.
    """

    def __init__(self, logger: Any, spool: Spool | None = None) -> None:
        self._log = logger
        self._spool = spool
        self._of = spool.counts()[RowOutcome.NOT_REACHED] if spool else 0
        self._started = self._said = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._said < _PROGRESS:
            return
        self._said = now
        if self._spool is None:
            self._log.info("Still on it.")
            return
        done, of, refused = self._spool.recorded, self._of, self._spool.refused
        rate = done / (now - self._started)
        left = timedelta(seconds=round((of - done) / rate)) if rate and done < of else "unknown" if done < of else 0
        self._log.info("%d of %d rows done, %.1f a second, %d refused, time left: %s.", done, of, rate, refused, left)


def _reasons(spool: Spool) -> str:
    texts = [
        f"{reason} ({count})"
        for outcome in (RowOutcome.INVALID, RowOutcome.REFUSED)
        for reason, count in spool.reasons(outcome)[:5]
    ]
    return f"Reasons: {'; '.join(texts)}." if texts else ""


def _refuse(arguments: Mapping[str, Any]) -> None:
    # Not by truth: a limit of 0 is a limit.
    given = [name for name, value in arguments.items() if _set(value) is not None and value is not False]
    if given:
        raise SendosoConfigError(
            f"{', '.join(given)}: not supported by this version of airflow-provider-sendoso yet; nothing was sent."
        )


def _set(value: Any) -> Any:
    """Return an argument, or ``None`` for one that a template has rendered to nothing."""
    return None if isinstance(value, str) and value.strip() in ("", "None") else value


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise SendosoConfigError(f"{name} is {value!r}; use one of {', '.join(map(repr, allowed))}. Nothing was sent.")


def _seconds(name: str, value: float | timedelta) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise SendosoConfigError(f"{name} must be a timedelta or a number of seconds; nothing was sent.")
    return float(value)


def _truth(name: str, value: Any) -> bool:
    # A template that renders to nothing is neither: to send for real on a guess would be wrong.
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    truth = words.get(str(value).strip().lower())
    if truth is None:
        raise SendosoConfigError(f"{name} is {value!r}, neither true nor false; nothing was sent.")
    return truth


def _count(name: str, value: Any) -> int | None:
    if _set(value) is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal():
        raise SendosoConfigError(f"{name} is {value!r}; use a whole number from 0. Nothing was sent.")
    return int(text)


def _amount(name: str, value: Any) -> Decimal | None:
    if _set(value) is None:
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        amount = Decimal(-1)
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise SendosoConfigError(f"{name} is {value!r}; use an amount from 0, like 2500 or 19.90. Nothing was sent.")
    return amount


def _width(value: Any) -> int | None:
    if _set(value) is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise SendosoConfigError(f"max_in_flight is {value!r}; use a number from 1 to {MOST}. Nothing was sent.")
    return int(text)


def _share_or_count(name: str, value: Any) -> float | None:
    if _set(value) is None:
        return None
    text = str(value).strip()
    try:
        number: float = int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        number = -1
    if not number >= 0 or (isinstance(number, float) and number > 1):
        raise SendosoConfigError(f"{name} is {value!r}; use a count like 10 or a share like 0.1. Nothing was sent.")
    return number


def _posted(row: Spooled) -> str:
    return f"posted at {_moment(row.posted_at)}, {row.reason}, key {_short(row.send_key)}"


def _short(send_key: str | None) -> str:
    """The beginning of a send key, as much of it as a person types."""
    return send_key[:12] if send_key else "unknown"


def _moment(epoch: float | None) -> str:
    return "an unknown time" if epoch is None else datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")
