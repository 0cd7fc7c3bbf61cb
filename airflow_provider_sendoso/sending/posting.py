"""Takes one claimed send through the protocol, in a worker thread, which Airflow's signals do not interrupt.

The steps, each a method of :class:`_Attempt` in the order in which they happen: wait for a slot, commit POSTING, POST,
decide what the answer means, and commit the outcome. Between the two commits nothing is logged and nothing of Airflow
is called (see ``kept_logs.py``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airflow_provider_sendoso.client.answers import Exchange, api_error
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.outcomes import PostOutcome, Verdict, classify
from airflow_provider_sendoso.client.pace import SlotMissed, Turn
from airflow_provider_sendoso.client.session import MOST_SLOTS, SendosoSession
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import (
    SendosoApiError,
    SendosoConnectionError,
    SendosoError,
    SendosoLedgerError,
    SendosoLimitError,
)
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.clocks import since_boot
from airflow_provider_sendoso.ledger.records import Claim, State
from airflow_provider_sendoso.ledger.spending import UNLIMITED, Capped, Fit
from airflow_provider_sendoso.models import AnySend, RowOutcome
from airflow_provider_sendoso.sending import kept_logs
from airflow_provider_sendoso.sending.jobs import Job, Result, capped_result
from airflow_provider_sendoso.sending.kinds import kind_of

_ATTEMPTS = 6
_LONGEST_PAUSE = 15.0
_NAP = 0.5
_MARGIN = 15.0
"""Seconds on top of connecting and of the request itself after which a POST's process counts as dead."""

_RECORDED = {
    Verdict.SENT: (State.SENT, RowOutcome.SENT),
    Verdict.REFUSED: (State.REFUSED, RowOutcome.REFUSED),
    Verdict.NOT_SENT: (State.READY, RowOutcome.NOT_REACHED),
    Verdict.UNKNOWN: (State.UNKNOWN, RowOutcome.HELD),
}
"""The state in the ledger, and the outcome of the row, for each verdict that ends a send."""

_REFUSALS = (Verdict.REFUSED, Verdict.NOT_SENT)


def longest_post(timeout: float) -> float:
    """
    Return the seconds from the commit of POSTING by which its POST has ended: it begins soon, or is committed anew.

    :param timeout: seconds of a request.
    """
    return 2 * timeout + _MARGIN


class Halted(Exception):
    """The batch is being stopped; this send was not posted."""


class _ClaimLost(Exception):
    """Another run has taken the send; nothing was posted."""


@dataclass(frozen=True)
class Posted:
    """
    The result of one attempt to post a send.

    :param result: ``None`` if the ledger knows better: another run has taken the send, and nothing was posted; or
        what became of the POST was found before this process was answered.
    :param latency: seconds from its slot until its outcome was recorded, for a POST that was answered.
    :param stop: an error that is not this row's fault; it ends the batch.
    :param not_recorded: the outcome that the ledger did not accept, with send key and send id.
    :param on_hold: Sendoso's word for why it holds the send that it has accepted, if it does.
    :param log_records: the log records that were kept during the attempt, to be logged now.
    """

    result: Result | None
    latency: float | None = None
    stop: SendosoError | None = None
    not_recorded: str | None = None
    on_hold: str | None = None
    log_records: Sequence[logging.LogRecord] = ()


class Poster:
    """
    Posts claimed sends, each until it has a final outcome, which may be that its outcome is not known.

    :param session: calls Sendoso.
    :param ledger: records the outcomes.
    :param own_gift: whether the gift is the batch's own rather than a row's, so that a 404 concerns every row.
    :param lease: seconds that a claim lasts; a POST's lasts at least as long as the POST can take.
    :param halted: returns whether nothing more may be posted; called from worker threads.
    """

    def __init__(
        self, session: SendosoSession, ledger: Ledger, *, own_gift: bool, lease: float, halted: Callable[[], bool]
    ) -> None:
        self.session = session
        self.ledger = ledger
        self.own_gift = own_gift
        self.halted = halted
        self.longest_post = longest_post(session.config.timeout)
        self.lease = max(lease, self.longest_post)
        self._links = ledger.links(session.config.client_secret.get_secret_value())
        kept_logs.prepare()

    def post(self, job: Job, claim: Claim, fit: Fit = UNLIMITED, begun: Callable[[], None] = lambda: None) -> Posted:
        """
        Take one claimed send through the protocol.

        :param job: the row.
        :param claim: the right to post it.
        :param fit: the limits in which it has to fit, and its price.
        :param begun: called once POSTING is committed.
        :raises Halted: if the batch is being stopped; the send was not posted.
        :raises SendosoError: if there is no token, no slot or no ledger; the send was not posted.
        """
        with kept_logs.kept() as records:
            posted = self._post(job, claim, fit, begun)
        return replace(posted, log_records=records)

    def _post(self, job: Job, claim: Claim, fit: Fit, begun: Callable[[], None]) -> Posted:
        """Attempt the POST until its outcome is final; repeat only what is known not to have been sent."""
        kind = kind_of(job.send)
        request = kind.request(
            job.send,
            airflow_key=self.ledger.airflow_key(claim.send_key),
            via_from=self.session.config.via_from,
        )
        token, renewed, tries = self.session.token(), False, 0
        late: _Attempt | None = None
        while True:
            attempt = late or _Attempt(self, claim, request, fit)
            try:
                turn = self._begin(attempt, claim, fit)
            except _ClaimLost:
                return Posted(None)
            except Capped as capped:
                self.ledger.sends.give_up(claim)
                return Posted(capped_result(job, capped.last_gift, fit.limits))
            except SendosoLimitError as limit:
                return Posted(Result(job.number, RowOutcome.NOT_REACHED, limit.limit, str(limit)), stop=limit)
            begun()
            try:
                exchange = self.session.call(request, token, turn)
            except SlotMissed:
                late = attempt.missed_its_slot()
                continue
            late = None
            crash_point("posted")
            outcome = classify(
                request, exchange, renewed=renewed, own_gift=self.own_gift, read=partial(kind.read, job.send)
            )
            if outcome.verdict in _RECORDED:
                answer = exchange.answer if outcome.verdict in _REFUSALS else None
                error = None if answer is None else api_error(request, answer)
                secret = self._secret(job.send, claim, exchange) if outcome.verdict is Verdict.SENT else None
                return attempt.record(job, outcome, error, secret)
            tries += outcome.verdict is Verdict.RETRY  # a renewed token does not count as a try
            if outcome.verdict is Verdict.STOP or tries == _ATTEMPTS:
                attempt.give_back(outcome)
                stop = api_error(request, exchange.answer) if exchange.answer else self._unreachable(job, outcome)
                return Posted(Result(job.number, RowOutcome.NOT_REACHED, outcome.reason, outcome.words), stop=stop)
            if not attempt.put_off(outcome):
                return Posted(None)
            if outcome.verdict is Verdict.RENEW:
                token, renewed = self.session.renew(token), True
            elif exchange.answer is None:
                # After a 429 the pace makes every process of the account wait.
                self.sleep(min(2.0 ** (tries - 1), _LONGEST_PAUSE))

    def _begin(self, attempt: _Attempt, claim: Claim, fit: Fit) -> Turn | None:
        """
        Commit POSTING; while what is in flight may yet leave room in a limit, wait for it.

        :return: the slot; ``None`` for a POST that is made however late it is.
        :raises SendosoLimitError: if the send does not fit in a limit.
        """
        give_up, pause = time.monotonic() + self.lease, _NAP
        while True:
            try:
                return attempt.begin()
            except SendosoLimitError as limit:
                refused = limit
            while refused.may_fit_soon and time.monotonic() < give_up:
                self.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                try:
                    self.ledger.sends.check_fit(claim, fit)
                    break
                except SendosoLimitError as limit:
                    refused = limit
            else:
                raise refused

    def sleep(self, seconds: float) -> None:
        """
        Sleep in short naps, so that a batch that is stopped does not wait for a ``Retry-After``.

        :param seconds: how long.
        :raises Halted: if the batch is being stopped.
        """
        while seconds > 0:
            if self.halted():
                raise Halted
            self.session.sleep(min(_NAP, seconds))
            seconds -= _NAP

    def _secret(self, send: AnySend, claim: Claim, exchange: Exchange) -> str | None:
        """Encrypt the secret of the answer, which only the ledger stores; ``None`` for kinds that have no secret."""
        secret = None if exchange.answer is None else kind_of(send).secret(send, exchange.answer.json)
        return None if secret is None else self._links.encrypt(claim.send_key, secret)

    def _unreachable(self, job: Job, outcome: PostOutcome) -> SendosoConnectionError:
        return SendosoConnectionError(
            f"Sendoso ({self.session.config.base_url}) could not be reached for {job.name}: {outcome.words}. Retry the "
            "task."
        )


class _Attempt:
    """
    One POST between two commits: POSTING before it, and its outcome after it.

    :param poster: the poster, which all attempts of a batch share.
    :param claim: the right to post the send.
    :param request: its POST.
    :param fit: the limits in which the send has to fit, and its price.
    """

    def __init__(self, poster: Poster, claim: Claim, request: Request, fit: Fit) -> None:
        self._poster = poster
        self._request = request
        self._sends = poster.ledger.sends
        self.claim = claim
        self._fit = fit
        self._posting = False
        self._lapses_at = 0.0
        self._missed = 0
        self._begun = 0.0
        self._posted_at = 0.0

    @property
    def row(self) -> str:
        """The key of the row that :meth:`commit_posting` locks."""
        return self.claim.send_key

    def begin(self) -> Turn | None:
        """
        Wait for a slot and commit POSTING.

        The rest of the lease must be long enough for the POST. A process that was frozen after the commit commits
        again, with another slot.

        :raises _ClaimLost: if another run has taken the send; nothing may be posted.
        :raises Capped: if the person was sent something too recently; nothing may be posted.
        :raises SendosoLimitError: if the send does not fit in a limit; nothing may be posted.
        :raises Halted: if the batch is being stopped; nothing may be posted.
        :return: the slot; ``None`` if the POST has missed so many that it is made however late it is.
        """
        turn: Turn | None = None
        margin = self._poster.session.config.timeout + _MARGIN / 3
        try:
            while since_boot() > self._lapses_at - margin:
                turn = self._poster.session.await_turn_to_send(self, request=self._request, sleep=self._poster.sleep)
        except BaseException:
            if self._posting:
                self._sends.post_again(self.claim, self._poster.lease)
            raise
        crash_point("posting-committed")
        self._begun, self._posted_at = time.monotonic(), time.time()
        return turn if self._missed < MOST_SLOTS - 1 else None

    def missed_its_slot(self) -> _Attempt:
        """Note that the slot was over before the first byte was sent, so that POSTING is committed with another one."""
        self._missed += 1
        self._lapses_at = 0.0
        return self

    def commit_posting(self, transaction: Any = None) -> None:
        """
        Commit that the POST is about to be made.

        :param transaction: the transaction that took the slot, if the slot was free at once: a send then costs two
            transactions instead of three.
        :raises _ClaimLost: if another run has taken the send.
        :raises Capped: if the person was sent something too recently.
        :raises SendosoLimitError: if the send does not fit in a limit.
        :raises Halted: if the batch is being stopped.
        """
        was = self._posting
        self._may_be_posting()
        try:
            begun = self._sends.begin_post(self.claim, self._poster.lease, transaction, self._fit)
        except (Capped, SendosoLimitError):
            self._posting, self._lapses_at = was, 0.0  # nothing was committed, so nothing may be posted
            raise
        if not begun:
            self._posting = False
            raise _ClaimLost

    @staticmethod
    def commit_all(transaction: Any, attempts: Sequence[_Attempt]) -> None:
        """
        Commit that several POSTs are about to be made.

        :param transaction: the transaction that took their slots.
        :param attempts: the attempts of one batch; if this raises, each is committed on its own.
        """
        for attempt in attempts:
            attempt._may_be_posting()
        posts = [(attempt.claim, attempt._poster.lease, attempt._fit) for attempt in attempts]
        attempts[0]._sends.begin_posts(transaction, posts)

    def _may_be_posting(self) -> None:
        """Note, before a commit of POSTING, that it may be committed, and when its lease lapses then."""
        if self._poster.halted():
            raise Halted
        crash_point("slot-taken")
        # Measured before the commit, so that a slow commit does not make the lease seem longer than it is. Not all of a
        # longer lease may be used up: the settle time begins to count when the longest POST is over.
        self._lapses_at = since_boot() + self._poster.longest_post
        self._posting = True  # even if the commit fails: its answer may have been lost

    def put_off(self, outcome: PostOutcome) -> bool:
        """
        Commit that the POST was not received and will be made again.

        :param outcome: the outcome of the POST.
        :return: ``False`` if another run has made the send UNKNOWN meanwhile; the send is now free for the next claim.
        """
        if self._sends.post_again(self.claim, self._poster.lease):
            crash_point("put-off")
            return True
        self.give_back(outcome)
        return False

    def give_back(self, outcome: PostOutcome) -> None:
        """
        Commit that the send was not sent and is free.

        :param outcome: the reason why it was not sent.
        """
        self._sends.finish(self.claim, State.READY, reason=outcome.reason)

    def record(self, job: Job, outcome: PostOutcome, error: SendosoApiError | None, secret: str | None) -> Posted:
        """
        Commit what the POST led to.

        :param job: the row.
        :param outcome: an outcome whose verdict ends the send.
        :param error: the exception that a refusal stands for.
        :param secret: an eGift link, encrypted.
        :return: the result of the row; held, if the ledger does not accept the outcome and does not know a better one.
        """
        state, row_outcome = _RECORDED[outcome.verdict]
        stop: SendosoLedgerError | None = None
        try:
            recorded = self._sends.finish(
                self.claim,
                state,
                reason=outcome.reason,
                send_id=outcome.send_id,
                report=outcome.report,
                link=secret,
            )
        except SendosoLedgerError as failure:
            recorded, row_outcome = False, RowOutcome.HELD
            stop = SendosoLedgerError(
                f"{job.name} was posted and ended {state} (send id {outcome.send_id}), which could not be recorded: "
                f"{failure} A gift may have gone out for this row; it is held and will not be sent again."
            )
        crash_point("outcome-committed")
        if not recorded and stop is None and self._is_known_better(outcome):
            return Posted(None)
        result = Result(
            job.number,
            row_outcome,
            outcome.reason,
            outcome.words,
            outcome.send_id,
            job.send.item,
            self._posted_at,
            self.claim.send_key,
            True,
            error,
            outcome.tracking_url,
        )
        latency = None if row_outcome is RowOutcome.HELD else time.monotonic() - self._begun
        lost = None if recorded else f"send key {self.claim.send_key} ended {state}, send id {outcome.send_id}"
        on_hold = outcome.report.word if outcome.report is not None and outcome.report.on_hold else None
        return Posted(result, latency, stop, lost, on_hold)

    def _is_known_better(self, outcome: PostOutcome) -> bool:
        """
        Return whether the ledger lacks nothing, although it did not accept the outcome of this POST.

        A process that was frozen during the POST, and is not answered any more, may find that another run has looked
        for the send meanwhile, and has recorded it.
        """
        if outcome.verdict in (Verdict.REFUSED, Verdict.NOT_SENT):
            return True  # no gift has gone out by this POST, so there is nothing to record
        try:
            record = self._sends.read([self.claim.send_key]).get(self.claim.send_key)
        except SendosoLedgerError:
            return False
        if record is None or record.state is not State.SENT or record.attempt != self.claim.attempt:
            return False
        return outcome.send_id is None or outcome.send_id in (record.send_id, record.bound_id)
