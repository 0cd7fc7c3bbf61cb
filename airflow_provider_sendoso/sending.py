"""The protocol of a send: claim, permit, commit POSTING, POST, commit the outcome. The only place that POSTs a send.

Whatever is killed between two of these steps, the ledger then says either that nothing was posted, or that the
outcome is unknown; and what is unknown is never posted again.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from airflow_provider_sendoso.client.answers import Exchange, api_error
from airflow_provider_sendoso.client.endpoints import Request, gift_send_request, list_gifts_request
from airflow_provider_sendoso.client.outcomes import Outcome, Verdict, classify
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import (
    TRANSIENT_ERRORS,
    SendosoApiError,
    SendosoConnectionError,
    SendosoError,
    SendosoLedgerError,
)
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.sends import Batch, Claim, Record, State, Wanted
from airflow_provider_sendoso.models import GiftSend, RowOutcome, row_name

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 50
"""Rows claimed at once: what a killed run leaves claimed until the lease lapses."""

_SAME_REFUSALS = 20
_UNKNOWNS_IN_A_ROW = 5
_POST_ATTEMPTS = 6
_LONGEST_PAUSE = 15.0
_POST_MARGIN = 15.0
"""Seconds on top of connecting and of the request itself after which a POST's process counts as dead."""


@dataclass(frozen=True)
class Job:
    """
    One row to be sent.

    :param number: of the row, from 1.
    :param recipient_key: what identifies the recipient within the scope, normalised.
    :param gift_send: what to send to whom.
    :param row_ref: a column that its author declared not personal.
    """

    number: int
    recipient_key: str = field(repr=False)
    gift_send: GiftSend
    row_ref: str | None = None

    @property
    def name(self) -> str:
        """The row in a log line or an error."""
        return row_name(self.number, self.row_ref)


@dataclass(frozen=True)
class Result:
    """
    What became of a row; a later result of the same row replaces an earlier one.

    :param number: of the row.
    :param outcome: one of the seven.
    :param reason: a short code, like ``http_422``.
    :param words: what the API said, the row's own values replaced by ``<field>``.
    :param gift_id: what was sent, for a send that the ledger knew already: the gift it knows.
    :param posted_at: epoch seconds.
    :param posted: whether this try posted it.
    :param error: what a refusal means as an exception.
    """

    number: int
    outcome: RowOutcome
    reason: str | None = None
    words: str = ""
    send_id: str | None = None
    gift_id: str | None = None
    posted_at: float | None = None
    posted: bool = False
    error: SendosoApiError | None = None


class _ClaimLost(Exception):
    """Another run has taken the send; nothing was posted."""


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """
    Cut a stream into lists.

    :param items: any number.
    :param size: how many to a list.
    """
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


class Sender:
    """
    Sends rows through the ledger: one try of one batch.

    :param session: calls Sendoso.
    :param ledger: remembers.
    :param batch: whose rows they are.
    :param own_gift: whether the gift is the batch's own rather than a row's, so that a 404 concerns every row.
    :param lease: seconds that a claim lasts without being renewed.
    :param claim_timeout: seconds to wait, without progress, for rows that another run is on.
    :param stopped: says whether to claim nothing more.
    """

    def __init__(
        self,
        session: SendosoSession,
        ledger: Ledger,
        batch: Batch,
        *,
        own_gift: bool,
        lease: float,
        claim_timeout: float,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._sends = ledger.sends
        self._batch = batch
        self._own_gift = own_gift
        self._lease = lease
        self._claim_timeout = claim_timeout
        self._stopped = stopped
        self._owner = uuid.uuid4().hex
        self._post_lease = max(lease, 2 * session.config.timeout + _POST_MARGIN)
        self._refusals: list[tuple[Job, Claim, str]] = []
        self._unknowns = 0
        self._not_recorded: SendosoLedgerError | None = None
        self._renewed_at = 0.0

    def send(self, jobs: Iterable[Job]) -> Generator[Result, None, None]:
        """
        Send what may be sent; a row without a result was not reached.

        :param jobs: in order; no two with the same recipient key.
        :raises SendosoError: for what is not one row's fault; the claims that were not posted are given back.
        """
        elsewhere: list[Job] = []
        try:
            for chunk in chunks(jobs):
                yield from self._chunk(chunk, elsewhere)
            yield from self._wait_for(elsewhere)
        finally:
            self._release()

    def _wait_for(self, elsewhere: list[Job]) -> Iterator[Result]:
        """Wait for rows that another run has claimed, while holding no claim; a killed run's claims lapse."""
        give_up = time.monotonic() + self._claim_timeout
        if elsewhere:
            log.info("Another run is on %d rows; waiting up to %.0f s.", len(elsewhere), self._claim_timeout)
        while elsewhere and not self._stopped() and time.monotonic() < give_up:
            self._session.sleep(1.0)
            still: list[Job] = []
            for chunk in chunks(elsewhere):
                yield from self._chunk(chunk, still)
            if len(still) < len(elsewhere):
                give_up = time.monotonic() + self._claim_timeout
            elsewhere = still
        for job in elsewhere:
            yield Result(job.number, RowOutcome.NOT_REACHED, "another_run")

    def _chunk(self, jobs: list[Job], elsewhere: list[Job]) -> Iterator[Result]:
        if self._stopped():
            return
        batch = self._batch
        by_key = {self._ledger.send_key(batch.account, batch.dedupe_scope, job.recipient_key): job for job in jobs}
        wanted = [self._wanted(key, job) for key, job in by_key.items()]
        found = self._sends.claim(self._batch, self._owner, self._lease, wanted)
        self._renewed_at = time.monotonic()
        for key, job in by_key.items():
            claim = found[key]
            if isinstance(claim, Record):
                result = self._as_it_stands(job, claim)
            elif self._stopped():
                return
            else:
                self._keep_claims()
                self._breaker()
                result = self._post(job, claim)
            if result is None:
                elsewhere.append(job)
                continue
            yield result
            if isinstance(claim, Claim):
                if self._not_recorded is not None:
                    raise self._not_recorded
                self._unknowns = self._unknowns + 1 if result.outcome is RowOutcome.HELD else 0
                yield from self._same_refusal(job, claim, result)

    def _as_it_stands(self, job: Job, record: Record) -> Result | None:
        """Say what the ledger's row means for this run; ``None`` while another run is on it."""
        match record.state:
            case State.SENT:
                mine = record.batch_id == self._batch.batch_id
                outcome = RowOutcome.SENT if mine else RowOutcome.ALREADY_SENT
            case State.REFUSED:
                outcome = RowOutcome.REFUSED
            case State.UNKNOWN | State.HELD:
                outcome = RowOutcome.HELD
            case _:
                return None
        words = "refused before, with the same content" if outcome is RowOutcome.REFUSED else ""
        return Result(job.number, outcome, record.reason, words, record.send_id, record.gift_id, record.posted_at)

    def _post(self, job: Job, claim: Claim) -> Result | None:
        """Post one claimed send until it is known what became of it, or known not to be; ``None``: claim lost."""
        request = gift_send_request(job.gift_send, self._ledger.airflow_key(claim.send_key))
        token = self._session.token()
        renewed = False
        for attempt in range(1, _POST_ATTEMPTS + 1):
            try:
                exchange = self._post_once(request, token, claim)
            except _ClaimLost:
                return None
            outcome = classify(request, exchange, renewed=renewed, own_gift=self._own_gift)
            match outcome.verdict:
                case Verdict.SENT | Verdict.REFUSED | Verdict.UNKNOWN:
                    return self._commit(job, claim, request, exchange, outcome)
                case Verdict.STOP:
                    self._sends.finish(claim, State.READY, reason=outcome.reason)
                    raise self._stop(job, request, exchange, outcome)
            if not self._sends.post_again(claim, self._post_lease):
                return None
            if outcome.verdict is Verdict.RENEW:
                token, renewed = self._session.renew(token), True
            elif exchange.answer is None and attempt < _POST_ATTEMPTS:
                # After a 429 the wait is in the pace, for everyone of the account.
                self._session.sleep(min(2.0 ** (attempt - 1), _LONGEST_PAUSE))
            if self._stopped():
                return Result(job.number, RowOutcome.NOT_REACHED, "stopped")
        raise self._stop(job, request, exchange, outcome)

    def _post_once(self, request: Request, token: str, claim: Claim) -> Exchange:
        """POST behind a committed POSTING; if the POST itself is interrupted the send is left unknown."""
        posting = False

        def commit_posting() -> None:
            nonlocal posting
            posting = self._sends.begin_post(claim, self._post_lease)
            if not posting:
                raise _ClaimLost

        try:
            self._session.await_turn(before=commit_posting)
        except BaseException:
            if posting:
                self._sends.post_again(claim, self._post_lease)
            raise
        try:
            return self._session.call(request, token)
        except BaseException:
            # A time-out of Airflow's, or Ctrl-C: it may have come at any moment of the POST.
            self._sends.finish(claim, State.UNKNOWN, reason="interrupted")
            raise

    def _commit(self, job: Job, claim: Claim, request: Request, exchange: Exchange, outcome: Outcome) -> Result:
        state, row_outcome = {
            Verdict.SENT: (State.SENT, RowOutcome.SENT),
            Verdict.REFUSED: (State.REFUSED, RowOutcome.REFUSED),
            Verdict.UNKNOWN: (State.UNKNOWN, RowOutcome.HELD),
        }[outcome.verdict]
        try:
            recorded = self._sends.finish(
                claim, state, reason=outcome.reason, send_id=outcome.send_id, status=outcome.status
            )
        except SendosoLedgerError as failure:
            recorded, row_outcome = False, RowOutcome.HELD
            self._not_recorded = SendosoLedgerError(
                f"{job.name} was posted and ended {state} (send id {outcome.send_id}), which could not be recorded: "
                f"{failure} A gift may have gone out for this row; it is held and will not be sent again."
            )
        if not recorded:
            # The one fact that the ledger does not have: hash and id, for a person to write it down.
            log.error("Not recorded: send key %s ended %s, send id %s.", claim.send_key, state, outcome.send_id)
        error = api_error(request, exchange.answer) if state is State.REFUSED and exchange.answer else None
        return Result(
            job.number,
            row_outcome,
            outcome.reason,
            outcome.words,
            outcome.send_id,
            job.gift_send.gift_id,
            time.time(),
            True,
            error,
        )

    def _stop(self, job: Job, request: Request, exchange: Exchange, outcome: Outcome) -> SendosoError:
        if exchange.answer is None:
            return SendosoConnectionError(
                f"Sendoso ({self._session.config.base_url}) could not be reached for {job.name}: {outcome.words}. "
                "No gift went out for it; retry the task."
            )
        error = api_error(request, exchange.answer)
        log.error("Stopped at %s: %s. No gift went out for it.", job.name, error)
        return error

    def _same_refusal(self, job: Job, claim: Claim, result: Result) -> Iterator[Result]:
        """Stop at the twentieth refusal in the same words: that is not the rows' fault, so they may be tried again."""
        refusal = f"{result.reason} {result.words}"
        if result.outcome is not RowOutcome.REFUSED or (self._refusals and self._refusals[-1][2] != refusal):
            self._refusals.clear()
        if result.outcome is not RowOutcome.REFUSED:
            return
        self._refusals.append((job, claim, refusal))
        if len(self._refusals) < _SAME_REFUSALS:
            return
        self._sends.reopen([refused for _, refused, _ in self._refusals])
        for again, _, _ in self._refusals:
            yield Result(again.number, RowOutcome.NOT_REACHED, result.reason, result.words)
        if result.error is not None:
            log.error("Stopped: %d sends in a row were refused in the same words.", _SAME_REFUSALS)
            raise result.error

    def _breaker(self) -> None:
        """After an unknown send post the next only if a read gets through: an outage must not hold a whole batch."""
        if self._unknowns >= _UNKNOWNS_IN_A_ROW:
            raise SendosoError(
                f"Stopped: the outcome of {self._unknowns} sends in a row is not known. They are held and will not be "
                "sent again; the rows after them were not posted and wait for a retry."
            )
        if self._unknowns:
            try:
                self._session.read(list_gifts_request({"page": 1, "per_page": 1}))
            except SendosoApiError as error:
                if isinstance(error, TRANSIENT_ERRORS):
                    raise
                # Refused is answered: the far side is up.

    def _release(self) -> None:
        try:
            self._sends.release(self._owner)
        except SendosoLedgerError as error:
            log.warning("Claims could not be given back and lapse within %.0f s: %s", self._lease, error)

    def _keep_claims(self) -> None:
        if time.monotonic() - self._renewed_at > self._lease / 3:
            self._sends.renew(self._owner, self._lease)
            self._renewed_at = time.monotonic()

    def _wanted(self, key: str, job: Job) -> Wanted:
        payload_hash = self._ledger.identity.digest("payload", job.gift_send.model_dump_json())
        return Wanted(key, payload_hash, job.gift_send.gift_id, job.row_ref)
