"""Sends a batch: claims rows in chunks, makes concurrent POSTs, and records every outcome before it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from airflow_provider_sendoso.client.endpoints import list_gifts_request
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import (
    TRANSIENT_ERRORS,
    SendosoApiError,
    SendosoError,
    SendosoLimitError,
    SendosoSupersededError,
)
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, Record, State
from airflow_provider_sendoso.ledger.sends import OUTCOME_PATIENCE
from airflow_provider_sendoso.ledger.spending import Fit, Room
from airflow_provider_sendoso.ledger.tries import ThisTry
from airflow_provider_sendoso.models import Item, RowOutcome, on_hold_warning
from airflow_provider_sendoso.models.spending import NO_LIMITS, Price, SpendingLimits
from airflow_provider_sendoso.models.statuses import MOST_NAMED
from airflow_provider_sendoso.sending import kept_logs
from airflow_provider_sendoso.sending.capping import capped_rows
from airflow_provider_sendoso.sending.claiming import Claims
from airflow_provider_sendoso.sending.concurrency import MOST, Concurrency
from airflow_provider_sendoso.sending.jobs import Job, Result, capped_result, chunks
from airflow_provider_sendoso.sending.posting import Halted, Posted, Poster
from airflow_provider_sendoso.sending.reconciling import Reconciler
from airflow_provider_sendoso.sending.refusals import EqualRefusals

log = logging.getLogger(__name__)

_UNKNOWNS_IN_A_ROW = 5
_GLANCE = 0.5
"""Longest wait of the loop, in seconds, before it checks for a stop, renews leases and logs progress."""

_PROBES = 11
_LONGEST_PAUSE = 15.0
"""Seconds between two probes in an outage; all probes together take two minutes."""

_ENDING = 30.0
"""Seconds, beyond the request's timeout and the retries of its commit, after which a POST in flight is given up."""


class Sender:
    """
    Sends the rows of one try of one batch through the ledger.

    :param session: calls Sendoso.
    :param ledger: the ledger.
    :param batch: the batch of the rows.
    :param own_gift: whether the gift is the batch's own rather than a row's, so that a 404 concerns every row.
    :param lease: seconds that a claim lasts without being renewed.
    :param claim_timeout: seconds to wait, without progress, for rows that another run has claimed.
    :param this_try: the try of the task that sends; ``None`` where no task can be tried again.
    :param max_in_flight: the number of concurrent POSTs, from 1 to 16; ``None`` derives it from rate and latency.
    :param settle_time: seconds from a POST's deadline until its absence can be proven.
    :param resend_absent: whether sends that are proven absent are sent again.
    :param stopped: returns whether to claim nothing more.
    :param conn_id: the id of the connection; an error names it where two connections claim the same account.
    :param limits: returns what the scope and the account may send and spend, whatever sends beside this batch; called
        for each chunk of rows, in the thread of the caller.
    :param price_of: returns what a send costs, or why that is not known; called only if a cost is limited.
    :param executor: runs the POSTs; by default as many threads as there may be POSTs at once.
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
        this_try: ThisTry | None = None,
        max_in_flight: int | None = None,
        settle_time: float = 900.0,
        resend_absent: bool = False,
        stopped: Callable[[], bool] = lambda: False,
        conn_id: str = "",
        limits: Callable[[], SpendingLimits] = lambda: NO_LIMITS,
        price_of: Callable[[Item], Price | str] = lambda item: "prices are not known here",
        executor: Executor | None = None,
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._batch = batch
        self._claim_timeout = claim_timeout
        self._this_try = this_try or ThisTry()
        self._resend_absent = resend_absent
        self._conn_id = conn_id
        self._stopped = stopped
        self._limits_now = limits
        self._limits = NO_LIMITS
        self._price_of = price_of
        self._near: dict[str, str] = {}
        self._warned = set[str]()
        self._room = Room()
        self._dearest = 0
        client = ledger.client_hash(session.config.client)
        self._claims = Claims(ledger, batch, lease, client, self._this_try)
        self._width = Concurrency(session.config.requests_per_second, max_in_flight)
        self._poster = Poster(
            session, ledger, own_gift=own_gift, lease=lease, halted=lambda: self._halted or self._stopped()
        )
        self._reconciler = Reconciler(session, ledger, batch.account, batch.dedupe_scope, settle_time)
        self._pool = executor or ThreadPoolExecutor(MOST, thread_name_prefix="sendoso-post")
        self._in_flight: dict[Future[Posted], tuple[Job, Claim, threading.Event]] = {}
        self._done: SimpleQueue[Future[Posted]] = SimpleQueue()
        self._elsewhere: list[Job] = []
        self._lapses_in: dict[int, float] = {}  # seconds, by number of a row that another run has claimed
        self._held: dict[int, tuple[Job, bool]] = {}  # by row number; the bool is whether this try posted it
        self._refusals = EqualRefusals()
        self._unknowns = 0
        self._answered = False
        self._outage = False
        self._halted = False
        self._settles_in: float | None = None
        self._claims_lapse_in: float | None = None
        self._said_stopped = False
        self._on_hold = Counter[str]()
        self._on_hold_ids: list[str] = []

    def send(
        self,
        jobs: Iterable[Job],
        record: Callable[[Result], None],
        tick: Callable[[], None] = lambda: None,
        left_out: Container[int] = (),
    ) -> None:
        """
        Send the rows that may be sent; a row without a recorded result was not reached.

        If this ends early, the POSTs in flight are finished and recorded, and the claims that were not posted are
        released.

        :param jobs: the rows, in order; each makes a different send.
        :param record: records the result of a row, several times a second until the end; must not log.
        :param tick: called at least every second, to log progress and to detect a dead supervisor.
        :param left_out: numbers of rows that are looked up and not posted; see
            :class:`~airflow_provider_sendoso.sending.preview.Preview`.
        :raises SendosoSupersededError: if a newer try of the same task has begun.
        :raises SendosoError: for an error that is not one row's fault.
        """
        self._record, self._tick, self._left_out = record, tick, left_out
        config = self._session.config
        client = self._ledger.client_hash((config.client_id,))
        self._ledger.accounts.register(config.account, client, self._conn_id, named=config.names_account)
        # Only what is to be sent again has to be known now; other rows are looked for again at the end.
        wait = self._wait_for_look if self._resend_absent else None
        self._claims.proven_absent = self._reconciler.run(prove=self._resend_absent, wait=wait)
        failure: SendosoError | None = None
        try:
            for chunk in chunks(jobs):
                if not self._chunk(chunk):
                    break
            self._wait_for_others()
        except SendosoError as error:
            failure = error
        except BaseException as error:
            with suppress(Exception):  # an orphan's log line fails; the first error is already being raised
                self._say_ended(error)
            raise
        finally:
            self._halted = True
            self._finish_in_flight()
            self._pool.shutdown(wait=False)
            self._claims.release()
        if isinstance(failure, SendosoSupersededError):
            raise failure
        if failure is not None:
            # Nobody has waited for them, and a process that was killed may have posted them.
            for job in self._elsewhere:
                self._held.setdefault(job.number, (job, False))
        self._look_again()
        self._warn_of_limits()
        if self._on_hold:
            log.warning("%s", on_hold_warning(self._on_hold, self._on_hold_ids))
        if failure is not None:
            raise failure

    @property
    def resend_absent(self) -> bool:
        """Whether sends that are proven absent are sent again."""
        return self._resend_absent

    @property
    def on_hold(self) -> int:
        """How many of the gifts that were sent now wait for a manager at Sendoso."""
        return self._on_hold.total()

    @property
    def of_another(self) -> Counter[Item]:
        """How many rows' recipients were sent another gift in this scope, by the gift that was sent."""
        return self._claims.of_another

    @property
    def claims_lapse_in(self) -> float | None:
        """
        Seconds until no claim of another run on a row of this batch lasts, unless that run renews it.

        :return: ``None`` if every row that is not reached is free, or was not looked at.
        """
        return self._claims_lapse_in

    @property
    def settles_in(self) -> float | None:
        """Seconds until the absence of every held row can be proven; ``None`` if no row is held."""
        return self._settles_in

    # -- handing out -----------------------------------------------------------------------------------------------

    def _chunk(self, jobs: list[Job]) -> bool:
        """Claim a chunk and post what is free in it; ``False`` if the batch is being stopped."""
        if self._is_stopped():
            return False
        limits = self._limits_now()
        if limits != self._limits:
            self._limits, self._room = limits, Room()
        by_key = self._without_capped({self._claims.send_key(job): job for job in jobs})
        found = self._claims.take(by_key, self._left_out)
        crash_point("claimed")
        for key, job in by_key.items():
            claim = found.get(key)
            if claim is None:  # this try has counted the row as capped, and the days are over since
                self._record(Result(job.number, RowOutcome.NOT_REACHED, "freed_later"))
            elif isinstance(claim, Record):
                self._as_it_stands(job, claim)
            else:
                price = self._price(job)
                if not self._wait_for_room():
                    return False
                self._post(job, claim, price)
        return True

    def _without_capped(self, by_key: dict[str, Job]) -> dict[str, Job]:
        """
        Take out the rows whose person was sent something too recently, so that they take no claims and no slots.

        The transaction that commits POSTING decides for the others.
        """
        capped = capped_rows(self._ledger, self._batch, by_key, self._limits)
        for key, last_gift in capped.items():
            self._record(capped_result(by_key[key], last_gift, self._limits))
        return {key: job for key, job in by_key.items() if key not in capped}

    def _price(self, job: Job) -> Price | str:
        """Price a row that is the next to be posted."""
        if not self._limits.on_cost:
            return "no cost is limited"
        price = self._price_of(job.send.item)
        if isinstance(price, Price):
            self._dearest = max(self._dearest, price.millionths)
        return price

    def _post(self, job: Job, claim: Claim, price: Price | str) -> None:
        """Hand a claimed row to a thread, which posts it."""
        fit = Fit(self._limits, price, self._near, self._room)
        begun = threading.Event()  # of this row alone: an earlier one may end while this one has not begun
        future = self._pool.submit(self._poster.post, job, claim, fit, begun.set)
        self._in_flight[future] = (job, claim, begun)
        future.add_done_callback(partial(self._over, begun))

    def _over(self, begun: threading.Event, future: Future[Posted]) -> None:
        if future.exception() is None and isinstance(future.result().stop, SendosoLimitError):
            self._halted = True  # no later row is posted in the place of this one
        self._done.put(future)
        begun.set()

    def _as_it_stands(self, job: Job, record: Record) -> None:
        """Record the result that the ledger's record means for this run, or leave the row for later."""
        if record.state is State.POSTING:
            outcome = RowOutcome.NOT_REACHED
        else:
            outcome = record.outcome_for(self._batch.batch_id, self._claims.payload_hash(job))
        if outcome is RowOutcome.NOT_REACHED:
            self._lapses_in[job.number] = record.lease_left
            if job.number in self._left_out and record.state in (State.READY, State.REFUSED):
                # The send is free now, but this try has checked the limits without it; the next try counts it.
                self._record(Result(job.number, outcome, "freed_later"))
            else:
                self._elsewhere.append(job)
            return
        if outcome is RowOutcome.HELD:
            self._held.setdefault(job.number, (job, False))
        words = "refused before, with the same content" if outcome is RowOutcome.REFUSED else ""
        posted = self._held.get(job.number, (job, False))[1]
        self._record(
            Result(
                job.number,
                outcome,
                record.why,
                words,
                record.send_id,
                record.item,
                record.posted_at,
                record.send_key,
                posted,
                bound_id=record.bound_id,
            )
        )

    def _wait_for_room(self) -> bool:
        """Wait until one more send may be posted; ``False`` if the batch is being stopped."""
        while not self._is_stopped():
            if self._outage and not self._in_flight:
                self._probe()
            busy = len(self._in_flight)
            # One POST at a time until the first answer, so that a try that starts in an outage leaves one send unknown.
            limit = self._width.limit if self._answered else 1
            patience = max(_UNKNOWNS_IN_A_ROW, self._width.limit)
            if self._unknowns >= patience:
                raise SendosoError(
                    f"Stopped: the outcome of {self._unknowns} sends in a row is not known. They are held and will not "
                    "be sent again; the rows after them were not posted and wait for a retry."
                )
            room = busy < limit and busy + self._unknowns < patience and not self._outage
            room = room and self._may_ask()
            self._look_up(0.0 if room else _GLANCE)
            if room and not self._outage:
                return True
        return False

    def _may_ask(self) -> bool:
        """
        Return whether a row may ask whether it fits in the limits; if not yet, wait a moment.

        What fits is sent in the order of the rows, so each is decided before the next one asks. They need not wait
        where the limits leave enough for all that are being decided, and for as many that the last decision has not
        counted.
        """
        enough = 2 * MOST
        if not self._limits.any or (self._room.sends >= enough and self._room.cost >= enough * self._dearest):
            return True
        return all(begun.wait(_GLANCE) for _, _, begun in self._in_flight.values())

    def _wait_for_look(self) -> bool:
        """Wait a moment while another task looks for sends of the scope; ``False`` if the batch is being stopped."""
        self._pause(1.0)
        return not self._is_stopped()

    def _wait_for_others(self) -> None:
        """Wait for rows that another run has claimed, while holding no claim; a killed run's claims lapse."""
        self._settle()
        give_up = time.monotonic() + self._claim_timeout
        if self._elsewhere:
            log.info(
                "Another run, or a killed try of this task, had claimed %d rows; waiting up to %.0f s for them.",
                len(self._elsewhere),
                self._claim_timeout,
            )
        while self._elsewhere and not self._is_stopped() and time.monotonic() < give_up:
            self._pause(1.0)
            self._this_try.check()
            before, self._elsewhere = self._elsewhere, []
            for chunk in chunks(before):
                if not self._chunk(chunk):
                    return
            self._settle()
            if len(self._elsewhere) < len(before):
                give_up = time.monotonic() + self._claim_timeout
        lapse_in = [self._lapses_in[job.number] for job in self._elsewhere if job.number in self._lapses_in]
        self._claims_lapse_in = max(lapse_in, default=None)
        for job in self._elsewhere:
            self._record(Result(job.number, RowOutcome.NOT_REACHED, "another_run"))

    # -- what comes back -------------------------------------------------------------------------------------------

    def _look_up(self, wait: float) -> None:
        """Process finished POSTs for at most so many seconds; renew leases and log progress."""
        with suppress(Empty):
            self._take(self._done.get(timeout=wait) if wait else self._done.get_nowait())
        self._claims.renew_if_due()
        self._ledger.say_waiting()
        self._warn_of_limits()
        self._is_stopped()
        self._tick()

    def _warn_of_limits(self) -> None:
        """Warn once of each limit that is nearly reached."""
        for name, words in list(self._near.items()):
            if name not in self._warned:
                self._warned.add(name)
                log.warning("%s", words)

    def _settle(self) -> None:
        """Wait for everything in flight."""
        while self._in_flight:
            self._look_up(_GLANCE)

    def _take(self, future: Future[Posted]) -> None:
        job, claim, _ = self._in_flight.pop(future)
        try:
            posted = future.result()
        except Halted:
            return
        result = posted.result
        if result is None:
            self._elsewhere.append(job)
            kept_logs.emit(posted.log_records)
            self._this_try.check()
            return
        self._record(result)
        if posted.on_hold is not None:
            self._on_hold[posted.on_hold] += 1
            if len(self._on_hold_ids) < MOST_NAMED:
                self._on_hold_ids.append(str(result.send_id))
        if result.outcome is RowOutcome.HELD:
            self._held[job.number] = (job, True)
            self._unknowns += 1
            self._outage, self._answered = True, False
        elif posted.latency is not None:
            self._unknowns, self._answered = 0, True
            # Where commits take long, its slot was taken with one, and POSTING was another, before the latency begins.
            self._width.saw(posted.latency + 2 * self._session.pace.lead)
        if posted.not_recorded is not None:
            # The ledger lacks this outcome, so log key and id, with which a person can resolve the send.
            log.error("Not recorded: %s.", posted.not_recorded)
        kept_logs.emit(posted.log_records)
        if posted.stop is not None:
            log.error("Stopped at %s: %s", job.name, posted.stop)
            raise posted.stop
        self._undo_equal_refusals(job, claim, result)

    def _undo_equal_refusals(self, job: Job, claim: Claim, result: Result) -> None:
        """Stop at the twentieth equal refusal in a row, and free its rows."""
        undone = self._refusals.add(job, claim, result)
        if not undone or result.error is None:
            return
        self._claims.reopen([refused for _, refused in undone])
        for again, _ in undone:
            self._record(Result(again.number, RowOutcome.NOT_REACHED, result.reason, result.words))
        raise result.error

    def _probe(self) -> None:
        """After an unknown outcome, post nothing until a read succeeds: an outage must not hold a whole batch."""
        pause = 1.0
        for attempt in range(1, _PROBES + 1):
            try:
                self._session.read_once(list_gifts_request({"page": 1, "per_page": 1}))
                break
            except SendosoError as error:
                if isinstance(error, SendosoApiError) and not isinstance(error, TRANSIENT_ERRORS):
                    break  # an error answer shows that Sendoso is up
                if attempt == 1:
                    log.warning("Sendoso does not answer; nothing is posted until it does: %s", error)
                if attempt == _PROBES or self._is_stopped():
                    raise
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._outage = False

    def _pause(self, seconds: float) -> None:
        while seconds > 0 and not self._is_stopped():
            self._session.sleep(min(_GLANCE, seconds))
            seconds -= _GLANCE
            self._look_up(0.0)

    def _is_stopped(self) -> bool:
        """Return whether the task has been told to stop; the first time, say so."""
        stopped = self._stopped()
        if stopped and not self._said_stopped:
            self._said_stopped = True
            log.warning("Airflow has told this task to stop (SIGTERM). %s", self._what_follows())
        return stopped

    def _say_ended(self, error: BaseException) -> None:
        """Say what ends the batch from outside, before what is in flight is waited for."""
        if type(error).__name__ == "AirflowTaskTimeout":
            log.warning("The task's execution_timeout is over. %s", self._what_follows())
        elif not self._is_stopped():
            log.warning("The task is ended by %s. %s", type(error).__name__, self._what_follows())

    def _what_follows(self) -> str:
        return (
            f"{len(self._in_flight)} POSTs are in flight: their answers are waited for and recorded. Nothing more is "
            "claimed or posted; the next try goes on with the rows that are left, and nobody is sent a second gift."
        )

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish_in_flight(self) -> None:
        """Wait for the POSTs in flight after any end of the batch; must not raise, to keep the original error."""
        give_up = time.monotonic() + self._session.config.timeout + OUTCOME_PATIENCE + _ENDING
        while self._in_flight and time.monotonic() < give_up:
            try:
                self._take(self._done.get(timeout=_GLANCE))
            except Empty:
                self._ledger.say_waiting()
            except Exception as error:  # the first error is already being raised; a log line may fail, too
                with suppress(Exception):
                    log.debug("Also: %s", error)
        for job, claim, _ in self._in_flight.values():
            # The row of that POST stays POSTING until its thread has an answer, or its lease lapses.
            self._record(_no_answer_yet(job, claim.send_key))
            self._held[job.number] = (job, True)

    def _look_again(self) -> None:
        """Look once for the sends of unknown outcome, and record the ledger's result for the held rows."""
        if self._claims.differing:
            log.info("%d rows differ from what was sent to the same recipients before.", self._claims.differing)
        for item, rows in self._claims.of_another.most_common(MOST_NAMED):
            log.warning(
                "%d rows were sent the %s in this scope before, and are not sent another gift in it.", rows, item
            )
        if not self._held:
            return
        if not self._is_stopped():
            self._reconciler.run(wait=self._wait_for_look)
        for chunk in chunks([job for job, _ in self._held.values()]):
            for job, record in self._claims.read(chunk):
                if record.state is State.POSTING:
                    self._record(_no_answer_yet(job, record.send_key, record.posted_at))
                else:
                    self._as_it_stands(job, record)
                settles_in = self._reconciler.settles_in(record)
                if record.state in (State.UNKNOWN, State.HELD) and settles_in is not None:
                    self._settles_in = max(self._settles_in or 0.0, settles_in)


def _no_answer_yet(job: Job, send_key: str, posted_at: float | None = None) -> Result:
    return Result(job.number, RowOutcome.HELD, "no_answer_yet", posted_at=posted_at, send_key=send_key, posted=True)
