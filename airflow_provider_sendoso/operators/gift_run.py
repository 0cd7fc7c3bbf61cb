"""One try of a single gift: it is sent, or found to have been sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoError,
    SendosoRowsError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import gift_send
from airflow_provider_sendoso.ledger.sends import Batch
from airflow_provider_sendoso.links.sendoso import TrackingLink
from airflow_provider_sendoso.models import RowOutcome, normalise_key
from airflow_provider_sendoso.operators.arguments import given, refuse
from airflow_provider_sendoso.operators.run import WHAT_TO_DO, Progress, Run, moment, short_key
from airflow_provider_sendoso.sending import Job, Result
from airflow_provider_sendoso.sending.replacing import why_not_replaceable

if TYPE_CHECKING:
    from airflow_provider_sendoso.operators.sendoso import SendGiftOperator


class GiftRun(Run):
    """
    What :class:`~airflow_provider_sendoso.operators.sendoso.SendGiftOperator` does in a try.

    :param operator: with its templates rendered.
    :param context: of the task.
    """

    operator: SendGiftOperator

    def execute(self) -> str | None:
        """Send the gift, or find that it was sent."""
        refuse({"touch_id": self.operator.touch_id})
        send = gift_send(
            gift_id=given(self.operator.gift_id),
            recipient=self.operator.recipient,
            message=given(self.operator.message),
            variant_id=given(self.operator.variant_id),
            team_id=given(self.operator.team_id),
            metadata=given(self.operator.metadata),
        )
        batch = self._batch(self.operator.dedupe_scope, "email")
        self._push_link()
        sender = self._sender(batch, own_gift=True)
        self._check_ledger()
        resend_of = given(self.operator.resend_of)
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
            TrackingLink().push(self.context, results[-1].tracking_url)
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
