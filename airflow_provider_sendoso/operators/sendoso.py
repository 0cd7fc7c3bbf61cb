"""Operators that send gifts, each recipient once, whatever happens to their tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperatorLink

from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoError,
    SendosoRowsError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import gift_send
from airflow_provider_sendoso.ledger.sends import Batch
from airflow_provider_sendoso.links.sendoso import SendosoLink, TrackingLink
from airflow_provider_sendoso.models import RowOutcome, normalise_key
from airflow_provider_sendoso.operators.arguments import given, refuse
from airflow_provider_sendoso.operators.base import WHAT_TO_DO, Progress, SendOperator, moment, short_key
from airflow_provider_sendoso.operators.batch import BatchSendOperator
from airflow_provider_sendoso.sending import Job, Result
from airflow_provider_sendoso.sending.replacing import why_not_replaceable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["BatchSendOperator", "SendGiftOperator"]


class SendGiftOperator(SendOperator):
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
    operator_extra_links: Sequence[BaseOperatorLink] = (SendosoLink(), TrackingLink())
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
        refuse({"touch_id": self.touch_id})
        send = gift_send(
            gift_id=given(self.gift_id),
            recipient=self.recipient,
            message=given(self.message),
            variant_id=given(self.variant_id),
            team_id=given(self.team_id),
            metadata=given(self.metadata),
        )
        batch = self._batch(context, self.dedupe_scope, "email")
        self._push_link(context)
        sender = self._sender(batch, own_gift=True)
        self._check_ledger(context)
        resend_of = given(self.resend_of)
        if resend_of is not None:
            problem = why_not_replaceable(self.hook.session, self.hook.ledger, batch.account, str(resend_of))
            if problem is not None:
                raise SendosoConfigError(f"{problem}. Nothing was sent.")
        self.hook.ledger.sends.open_batch(batch)
        job = Job(1, normalise_key(send.recipient.email) or "", send, resend_of=resend_of and str(resend_of))
        results = [Result(1, RowOutcome.NOT_REACHED, "stopped")]
        sender.send([job], results.append, Progress(self.log))
        if results[-1].outcome is RowOutcome.HELD:
            self._defer_until_settled(sender)
        if results[-1].tracking_url is not None:
            TrackingLink().push(context, results[-1].tracking_url)
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
                when = moment(result.posted_at)
                what = (
                    f"The send {short_key(result.send_key)}, posted at {when} in scope {batch.dedupe_scope!r}, has no "
                    "known outcome"
                )
                error = SendOutcomeUnknownError if result.posted else SendHeldError
                raise error(f"{what} ({result.reason}). {WHAT_TO_DO}")
            case _:
                raise SendosoError(f"The send was not posted ({result.reason}); no gift went out. Retry the task.")
