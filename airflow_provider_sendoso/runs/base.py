"""The base of all runs that send: the batch's identity, the check that the ledger is the same, and deferral."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

from airflow_provider_sendoso.arguments.values import text
from airflow_provider_sendoso.batch.pricing import Prices
from airflow_provider_sendoso.batch.report import resolve_command
from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.recorded import ids_of, task_hash
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.links.sendoso import SendosoLink
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.models.identity import name_problem, same_name
from airflow_provider_sendoso.models.spending import NO_LIMITS, SpendingLimits
from airflow_provider_sendoso.runs.limits import RunLimits
from airflow_provider_sendoso.runs.slots import longest_sit
from airflow_provider_sendoso.runs.task import Task
from airflow_provider_sendoso.sending import Sender
from airflow_provider_sendoso.task_state import first_try, has_store, note, noted

_PROGRESS = 5.0
"""Seconds between two progress lines."""

_SHORTEST_LEASE = 10.0

MAY_HAVE_GONE_OUT = (
    "A gift may have gone out; it will not be sent again on a guess. The next run looks for it in Sendoso once more. "
    "To decide it yourself, look for the recipient in Sendoso"
)

_LEDGER_UUID = "sendoso_ledger_uuid"
"""Key in Airflow's task state store: the ledger that an earlier try of this task has used."""


@dataclass(frozen=True, kw_only=True)
class SendPlan:
    """
    The settings that all runs that send have in common.

    :param dedupe_scope: the scope within which a recipient gets at most one gift.
    :param lease: seconds that a claim lasts without being renewed.
    :param claim_timeout: seconds to wait, without progress, for rows that another run has claimed.
    :param settle_time: seconds after a POST's deadline from which the send's absence can be proven.
    :param resend_absent: whether a send of unknown outcome whose absence is proven is sent again.
    :param spending: the limits of the scope that the ledger keeps, and the days between two gifts.
    :param shipping_estimate: estimated cost of shipping one physical gift, in the catalogue's currency.
    :raises SendosoConfigError: if arguments contradict each other; nothing was sent.
    """

    dedupe_scope: Any
    lease: float = 60.0
    claim_timeout: float = 600.0
    settle_time: float = 900.0
    resend_absent: bool = False
    spending: SpendingLimits = NO_LIMITS
    shipping_estimate: Decimal | None = None

    def __post_init__(self) -> None:
        if self.lease < _SHORTEST_LEASE:
            raise SendosoConfigError(f"lease is {self.lease:g} s; give it at least {_SHORTEST_LEASE:g} s.")


class Run:
    """
    One try of a task that sends.

    It takes a plan and not an operator, because Airflow imports operators whenever it parses a DAG file, so they import
    nothing that only a run needs.

    :param plan: the parsed arguments.
    :param task: the task of this try.
    """

    plan: SendPlan

    def __init__(self, plan: SendPlan, task: Task) -> None:
        self.plan = plan
        self.task = task
        self.context = task.context
        self.hook = task.hook
        self.log = task.log
        self.limits = RunLimits(task.hook, plan.spending, task.log)

    def _defer_until_settled(self, sender: Sender) -> None:
        """Defer the task until the absence of the held sends can be proven; at most once per try."""
        if not self.plan.resend_absent or self.task.defer is None or sender.settles_in is None:
            return
        wait = timedelta(seconds=max(0.0, sender.settles_in) + 1)
        self.log.info("Held sends are looked for once more in %s, and sent again if they are not there.", wait)
        self.task.defer(TimeDeltaTrigger(wait))

    def _check_ledger(self) -> None:
        """Refuse a ledger other than that of an earlier try of this task: it does not know what that try sent."""
        if not has_store(self.context):
            return
        here = self.hook.ledger.identity.ledger_uuid
        before = noted(self.context, _LEDGER_UUID)
        if before is None:
            # This is the first try, or an earlier one ended before this point, or the task's state was deleted. Whether
            # the ledger has changed is then unknown, and refusing it would stop tasks whose ledger is the same.
            note(self.context, _LEDGER_UUID, here)
            if getattr(self.context["ti"], "try_number", 1) > first_try(self.context):
                self.log.warning(
                    "No earlier try of this task has noted its ledger, or the note was deleted: that this one, %s, is "
                    "the same is not checked.",
                    here,
                )
        elif before != here:
            raise SendosoConfigError(
                f"An earlier try of this task used the ledger {before}; the connection "
                f"{self.hook.config.ledger_conn_id!r} now leads to {here}. Is it a local file on another machine, or "
                "was it lost or restored? It does not know who was sent a gift; nothing was sent by this try."
            )

    def _push_link(self) -> None:
        """Push the link to Sendoso before anything is sent, because a batch may take hours."""
        SendosoLink().push(self.context, self.hook.config.base_url)

    def _batch(self, recipient_key: str) -> Batch:
        return make_batch(self.hook.config, self.plan.dedupe_scope, recipient_key, *ids_of(self.context["ti"]))

    def _sender(self, batch: Batch, own_gift: bool, prices: Prices, max_in_flight: int | None = None) -> Sender:
        return Sender(
            self.hook.session,
            self.hook.ledger,
            batch,
            own_gift=own_gift,
            lease=self.plan.lease,
            claim_timeout=longest_sit(self.context, self.plan.claim_timeout),
            this_try=self.task.this_try,
            max_in_flight=max_in_flight,
            settle_time=self.plan.settle_time,
            resend_absent=self.plan.resend_absent,
            stopped=self.task.stopped,
            conn_id=self.hook.sendoso_conn_id,
            limits=self.limits,
            price_of=prices.of,
        )


def make_batch(
    config: ClientConfig,
    dedupe_scope: Any,
    recipient_key: str,
    dag_id: str,
    task_id: str,
    run_id: str,
    map_index: int = -1,
    *more: str,
) -> Batch:
    """
    Return the batch of a task instance, whose id is the same for all its tries.

    :param config: the connection, which has the account and the deployment.
    :param dedupe_scope: the scope, rendered.
    :param recipient_key: the field or column that identifies a recipient within the scope.
    :param map_index: -1 for a task that is not mapped.
    :param more: further parts of the id, for several batches of one task instance.
    :raises SendosoConfigError: if the scope is empty.
    """
    scope = same_name(text("dedupe_scope", dedupe_scope) or "")
    if not scope:
        raise SendosoConfigError(
            "dedupe_scope is empty (perhaps a template without a value). It says within what a recipient gets at "
            "most one gift; nothing was sent."
        )
    problem = name_problem(scope)
    if problem is not None:
        raise SendosoConfigError(f"dedupe_scope {problem}. It would be another scope than it looks; nothing was sent.")
    batch_id = task_hash(config, dag_id, task_id, run_id, map_index, *more)
    return Batch(batch_id, config.account, scope, recipient_key, dag_id, task_id, run_id, map_index)


class ProgressLog:
    """
    Logs a batch's progress every few seconds, even if nothing has changed.

    If the task's supervisor has died, the log line raises; so an orphaned task detects this and stops.

    :param logger: the task's logger.
    :param spool: the spool whose rows are counted.
    """

    def __init__(self, logger: Any, spool: BatchSpool | None = None) -> None:
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
            self._log.info("Still waiting for the outcome of the gift.")
            return
        done, of, refused = self._spool.recorded, self._of, self._spool.refused
        rate = done / (now - self._started)
        left = timedelta(seconds=round((of - done) / rate)) if rate and done < of else "unknown" if done < of else 0
        self._log.info("%d of %d rows done, %.1f a second, %d refused, time left: %s.", done, of, rate, refused, left)


def how_to_decide(what: str, key: str, conn_id: str) -> str:
    """
    Say what to do about a held send.

    :param what: what may have happened, and where to look, as the beginning of a sentence.
    :param key: the first digits of the send's key.
    :param conn_id: the Sendoso connection.
    """
    return (
        f"{what}, and write down what you found: `{resolve_command(key, conn_id, '--sent')}`, with --not-sent instead "
        "if it is not there; or, without a shell, by a ResolveHeldOperator."
    )


def short_key(send_key: str | None) -> str:
    """Return the first digits of a send key, enough for a person to name the send."""
    return send_key[:12] if send_key else "unknown"


def moment(epoch: float | None) -> str:
    """Format a time for people, in UTC; ``None`` is an unknown time."""
    return "an unknown time" if epoch is None else datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")
