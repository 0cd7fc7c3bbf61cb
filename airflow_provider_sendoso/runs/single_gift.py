"""Sends one gift through the ledger and reports its outcome; shared by the operator and the notifier."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from airflow_provider_sendoso.arguments.gifts import GiftArguments
from airflow_provider_sendoso.arguments.sends import make_send
from airflow_provider_sendoso.arguments.values import text
from airflow_provider_sendoso.batch.catalogue import Catalogue, named
from airflow_provider_sendoso.batch.pricing import Prices
from airflow_provider_sendoso.batch.products import marketplace
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoError,
    SendosoNotReachedError,
    SendosoRowsError,
    SendosoSupersededError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, State
from airflow_provider_sendoso.models import AnySend, RowOutcome, normalise_key
from airflow_provider_sendoso.models.spending import NO_LIMITS, SpendingLimits
from airflow_provider_sendoso.observability.lineage import report_output
from airflow_provider_sendoso.observability.metrics import SendMetrics
from airflow_provider_sendoso.observability.spans import span
from airflow_provider_sendoso.runs.base import MAY_HAVE_GONE_OUT, ProgressLog, how_to_decide, moment, short_key
from airflow_provider_sendoso.sending import Job, Result, Sender
from airflow_provider_sendoso.sending.ceiling import check_ceiling
from airflow_provider_sendoso.sending.jobs import send_key
from airflow_provider_sendoso.sending.kinds import kind_of
from airflow_provider_sendoso.sending.preview import preview
from airflow_provider_sendoso.sending.replacements import check_replaceable
from airflow_provider_sendoso.sending.scopes import check_scopes

RECIPIENT_KEY = "email"
"""The field that identifies the recipient of a single gift within its scope."""


_SO_FAR = {
    RowOutcome.SENT: "The gift went out before; it is not sent again.",
    RowOutcome.ALREADY_SENT: "The gift went out before; it is not sent again.",
    RowOutcome.HELD: "The gift may have gone out; it is held and not sent again on a guess.",
}
"""What an error that ends the task says besides, by the outcome that was recorded before it."""


@dataclass(frozen=True)
class OneGift:
    """
    A single gift to one recipient.

    :param send: the send.
    :param resend_of: the id of the send that this one replaces.
    """

    send: AnySend = field(repr=False)
    resend_of: str | None = None

    @classmethod
    def of(cls, source: Any) -> OneGift:
        """
        Read a gift from an operator or a notifier, with its templates rendered.

        :param source: an object with a ``recipient``, a ``resend_of``, and the arguments of
            :class:`~airflow_provider_sendoso.arguments.gifts.GiftArguments`.
        :raises SendosoConfigError: if a field is missing or wrong; names the fields and none of their values.
        """
        replaced = text("resend_of", source.resend_of)
        return cls(make_send(GiftArguments.of(source), source.recipient), replaced)

    def prices(self, hook: SendosoHook, shipping: Decimal | None) -> Prices:
        """
        Return the prices of the gift, which are read only if they are asked for.

        :param hook: the hook.
        :param shipping: what shipping a physical gift is estimated at.
        """
        return Prices(
            Catalogue(hook.list_gifts).find, hook.find_touch, shipping, marketplace(hook.list_marketplace_products).find
        )

    def go(
        self, hook: SendosoHook, sender: Sender, metrics: SendMetrics, log: Any, limits: SpendingLimits = NO_LIMITS
    ) -> Result:
        """
        Send the gift, unless it was sent before.

        :param hook: the hook.
        :param sender: the sender of the batch whose only send this is.
        :param metrics: the metrics of that batch.
        :param log: the task's logger.
        :param limits: the limits that the ledger keeps.
        :raises SendosoError: if an error does not concern the recipient; no gift went out.
        """
        batch = metrics.batch
        job = Job(1, normalise_key(kind_of(self.send).email(self.send)) or "", self.send, resend_of=self.resend_of)
        if job.resend_of is not None:
            replaced = check_replaceable(hook.session, hook.ledger, batch.account, [job.resend_of])[job.resend_of]
            problem = replaced.problem_for(hook.ledger, batch, job)
            job = replace(job, resend_of=replaced.name)
            # What has become of the old send since does not matter to a retry that finds its replacement sent.
            if problem is not None and not (replaced.problem and _is_sent(job, hook.ledger, batch)):
                raise SendosoConfigError(f"{problem}. Nothing was sent.")
        hook.ledger.sends.check_scope(batch)
        job = _shaped(job, hook, batch)
        if job.send.left_out is not None:
            log.info("Sent without what only a parcel needs: %s.", job.send.left_out)
        left_out = _within_ceiling(job, hook, batch, limits, resend_absent=sender.resend_absent)
        hook.ledger.sends.open_batch(batch)
        results = [Result(1, RowOutcome.NOT_REACHED, "stopped")]
        with span("gift", {"batch_id": batch.batch_id, "conn_id": hook.sendoso_conn_id}) as describe:
            try:
                sender.send([job], metrics.watch(results.append), ProgressLog(log), left_out)
            except SendosoSupersededError:
                raise
            except BaseException as error:
                metrics.end({results[-1].outcome: 1})
                if not isinstance(error, SendosoError):
                    raise
                gift_id = self.send.item.gift_id
                failure = named(error, gift_id, Catalogue(hook.list_gifts)) if gift_id is not None else error
                failure.so_far = _SO_FAR.get(results[-1].outcome, "No gift went out.")
                raise failure from None
            describe({"outcome": results[-1].outcome.value})
        if results[-1].outcome is RowOutcome.SENT:
            report_output(hook, batch.account)
        return results[-1]

    def conclude(self, result: Result, metrics: SendMetrics, log: Any) -> str | None:
        """
        Return the send's id, or raise the error that its result means; ``None`` if the recipient is capped.

        :param result: the result of :meth:`go`.
        :param metrics: the metrics of the batch whose only send this is.
        :param log: the logger to which the id is logged.
        """
        batch = metrics.batch
        metrics.end({result.outcome: 1})
        match result.outcome:
            case RowOutcome.SENT | RowOutcome.ALREADY_SENT:
                if result.item != self.send.item:
                    raise SendosoConfigError(
                        f"In the scope {batch.dedupe_scope!r} this recipient was already sent the {result.item} "
                        f"(send {result.send_id}), not the {self.send.item}. Nothing more was sent; for another gift "
                        "use another dedupe_scope."
                    )
                verb = "Already sent" if result.outcome is RowOutcome.ALREADY_SENT else "Sent"
                verb += "" if result.posted or result.outcome is RowOutcome.ALREADY_SENT else " earlier"
                # There is no id if a person has resolved the send as sent without one.
                log.info("%s: %s, in scope %s.", verb, result.send_id or "id unknown", batch.dedupe_scope)
                return result.bound_id or result.send_id
            case RowOutcome.REFUSED:
                raise result.error or SendosoRowsError(
                    f"Sendoso refused this send before ({result.reason}) and its content is the same, so it was not "
                    "posted again. No gift went out; correct the recipient, the gift or the message."
                )
            case RowOutcome.HELD:
                key = short_key(result.send_key)
                error = SendOutcomeUnknownError if result.posted else SendHeldError
                raise error(
                    f"The send {key}, posted at {moment(result.posted_at)} in scope {batch.dedupe_scope!r}, has no "
                    f"known outcome ({result.reason}). {how_to_decide(MAY_HAVE_GONE_OUT, key, metrics.conn_id)}"
                )
            case RowOutcome.CAPPED:
                log.info("No gift was sent in scope %s: %s.", batch.dedupe_scope, result.words)
                return None
            case _:
                raise SendosoNotReachedError(
                    f"The send was not posted ({result.reason}); no gift went out. Retry the task."
                )


def _is_sent(job: Job, ledger: Ledger, batch: Batch) -> bool:
    """Return whether the ledger knows the send as accepted."""
    key = send_key(ledger, batch, job)
    record = ledger.sends.read([key]).get(key)
    return record is not None and record.state is State.SENT


def _shaped(job: Job, hook: SendosoHook, batch: Batch) -> Job:
    """Return the row in the form in which it is posted; its campaign is read only if the gift was not sent before."""
    if _is_sent(job, hook.ledger, batch):
        return job
    check_scopes(hook.session, [job.send.kind])
    return replace(job, send=kind_of(job.send).shaped(job.send, hook))


def _within_ceiling(
    job: Job, hook: SendosoHook, batch: Batch, limits: SpendingLimits, *, resend_absent: bool
) -> set[int]:
    """Refuse a send above the connection's ceiling; return the preview's result if the send is not to be posted."""
    if hook.config.max_sends_per_batch is None:
        return set()
    seen = preview(hook.ledger, batch, [job], lambda result: None, resend_absent=resend_absent, limits=limits)
    check_ceiling(hook.config, seen.sends if seen.posts else 0)
    return seen.left_out
