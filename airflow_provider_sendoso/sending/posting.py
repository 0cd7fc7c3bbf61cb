"""One claimed send through the protocol, in a worker thread that no signal of Airflow's interrupts.

Between the commit of POSTING and the commit of the outcome nothing is logged and nothing of Airflow is called: in a
task whose supervisor has died any log line raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_provider_sendoso.client.answers import Exchange, api_error
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.outcomes import PostOutcome, Verdict, classify
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import SendosoConnectionError, SendosoError, SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Claim, State
from airflow_provider_sendoso.models import AnySend, RowOutcome
from airflow_provider_sendoso.sending.jobs import Job, Result
from airflow_provider_sendoso.sending.kinds import kind_of

_ATTEMPTS = 6
_LONGEST_PAUSE = 15.0
_NAP = 0.5
_MARGIN = 15.0
"""Seconds on top of connecting and of the request itself after which a POST's process counts as dead."""

# Suspension counts: a laptop's lid, or a virtual machine that was moved.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Halted(Exception):
    """The batch is being stopped; this send was not posted."""


class _ClaimLost(Exception):
    """Another run has taken the send; nothing was posted."""


@dataclass(frozen=True)
class Posted:
    """
    What one send came to.

    :param result: ``None`` if another run has taken the send; nothing was posted then.
    :param latency: seconds from its slot until its outcome was recorded, for a POST that was answered.
    :param stop: what is not this row's fault, and ends the batch.
    :param not_recorded: the outcome that the ledger could not be told, as key hash and send id.
    """

    result: Result | None
    latency: float | None = None
    stop: SendosoError | None = None
    not_recorded: str | None = None


class Poster:
    """
    Posts claimed sends, each until it is known what became of it, or known not to be.

    :param session: calls Sendoso.
    :param ledger: remembers.
    :param own_gift: whether the gift is the batch's own rather than a row's, so that a 404 concerns every row.
    :param lease: seconds that a claim lasts; a POST's lasts at least as long as the POST can take.
    :param halted: says whether nothing more may be posted; asked from worker threads.
    """

    def __init__(
        self, session: SendosoSession, ledger: Ledger, *, own_gift: bool, lease: float, halted: Callable[[], bool]
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._sends = ledger.sends
        self._own_gift = own_gift
        self._halted = halted
        self._links = ledger.links(session.config.client_secret.get_secret_value())
        self._timeout = session.config.timeout
        self._lease = max(lease, 2 * self._timeout + _MARGIN)

    def post(self, job: Job, claim: Claim) -> Posted:
        """
        Take one claimed send through the protocol.

        :param job: the row.
        :param claim: the right to post it.
        :raises Halted: if the batch is being stopped; the send was not posted.
        :raises SendosoError: if there is no token, no slot or no ledger; the send was not posted.
        """
        kind = kind_of(job.send)
        request = kind.request(
            job.send,
            airflow_key=self._ledger.airflow_key(claim.send_key),
            via_from=self._session.config.via_from,
        )
        read = partial(kind.read, job.send)
        token = self._session.token()
        renewed = False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                exchange, begun = self._post_once(request, token, claim)
            except _ClaimLost:
                return Posted(None)
            crash_point("posted")
            outcome = classify(request, exchange, renewed=renewed, own_gift=self._own_gift, read=read)
            match outcome.verdict:
                case Verdict.SENT | Verdict.REFUSED | Verdict.UNKNOWN:
                    return self._record(job, claim, request, exchange, outcome, begun)
                case Verdict.STOP:
                    self._sends.finish(claim, State.READY, reason=outcome.reason)
                    return self._stop(job, request, exchange, outcome)
            if not self._sends.post_again(claim, self._lease):
                # Late, but known: it was not sent. Whoever claims it next may post it.
                self._sends.finish(claim, State.READY, reason=outcome.reason)
                return Posted(None)
            crash_point("put-off")
            if outcome.verdict is Verdict.RENEW:
                token, renewed = self._session.renew(token), True
            elif exchange.answer is None and attempt < _ATTEMPTS:
                # After a 429 the wait is in the pace, for everyone of the account.
                self._sleep(min(2.0 ** (attempt - 1), _LONGEST_PAUSE))
        return self._stop(job, request, exchange, outcome)

    def _post_once(self, request: Request, token: str, claim: Claim) -> tuple[Exchange, float]:
        """POST behind a committed POSTING; return also when it began, in monotonic seconds."""
        posting = False
        lapses_at = 0.0

        def commit_posting(transaction: Any = None) -> None:
            nonlocal posting, lapses_at
            if self._halted():
                raise Halted
            crash_point("slot-taken")
            # From before the commit: however long that took, the lease is not believed to last longer than it does.
            lapses_at = time.clock_gettime(_CLOCK) + self._lease
            posting = True  # perhaps: a commit whose answer was lost has happened
            if not self._sends.begin_post(claim, self._lease, transaction):
                posting = False
                raise _ClaimLost

        try:
            # What is left of the lease has to cover the POST: a process that was frozen since the commit begins anew.
            while time.clock_gettime(_CLOCK) > lapses_at - self._timeout - _MARGIN / 3:
                # Where the slot is free at once, both are one transaction, and a send costs two instead of three.
                within = (commit_posting, claim.send_key)
                self._session.await_turn(before=commit_posting, within=within, sleep=self._sleep)
        except BaseException:
            if posting:
                self._sends.post_again(claim, self._lease)
            raise
        crash_point("posting-committed")
        begun = time.monotonic()
        return self._session.call(request, token), begun

    def _record(
        self, job: Job, claim: Claim, request: Request, exchange: Exchange, outcome: PostOutcome, begun: float
    ) -> Posted:
        state, row_outcome = {
            Verdict.SENT: (State.SENT, RowOutcome.SENT),
            Verdict.REFUSED: (State.REFUSED, RowOutcome.REFUSED),
            Verdict.UNKNOWN: (State.UNKNOWN, RowOutcome.HELD),
        }[outcome.verdict]
        stop: SendosoLedgerError | None = None
        try:
            recorded = self._sends.finish(
                claim,
                state,
                reason=outcome.reason,
                send_id=outcome.send_id,
                status=outcome.status,
                link=self._secret(job.send, claim, exchange) if state is State.SENT else None,
            )
        except SendosoLedgerError as failure:
            recorded, row_outcome = False, RowOutcome.HELD
            stop = SendosoLedgerError(
                f"{job.name} was posted and ended {state} (send id {outcome.send_id}), which could not be recorded: "
                f"{failure} A gift may have gone out for this row; it is held and will not be sent again."
            )
        crash_point("outcome-committed")
        result = Result(
            job.number,
            row_outcome,
            outcome.reason,
            outcome.words,
            outcome.send_id,
            job.send.item,
            time.time(),
            claim.send_key,
            True,
            api_error(request, exchange.answer) if state is State.REFUSED and exchange.answer else None,
            outcome.tracking_url,
        )
        latency = None if row_outcome is RowOutcome.HELD else time.monotonic() - begun
        lost = None if recorded else f"send key {claim.send_key} ended {state}, send id {outcome.send_id}"
        return Posted(result, latency, stop, lost)

    def _secret(self, send: AnySend, claim: Claim, exchange: Exchange) -> str | None:
        """Encrypt what only the ledger keeps of the answer; ``None`` for kinds that have no secret."""
        secret = None if exchange.answer is None else kind_of(send).secret(send, exchange.answer.json)
        return None if secret is None else self._links.encrypt(claim.send_key, secret)

    def _stop(self, job: Job, request: Request, exchange: Exchange, outcome: PostOutcome) -> Posted:
        not_reached = Result(job.number, RowOutcome.NOT_REACHED, outcome.reason, outcome.words)
        if exchange.answer is not None:
            return Posted(not_reached, stop=api_error(request, exchange.answer))
        return Posted(
            not_reached,
            stop=SendosoConnectionError(
                f"Sendoso ({self._session.config.base_url}) could not be reached for {job.name}: {outcome.words}. "
                "No gift went out for it; retry the task."
            ),
        )

    def _sleep(self, seconds: float) -> None:
        """Sleep in short naps, so that a batch that is stopped does not wait for a ``Retry-After``."""
        while seconds > 0:
            if self._halted():
                raise Halted
            self._session.sleep(min(_NAP, seconds))
            seconds -= _NAP
