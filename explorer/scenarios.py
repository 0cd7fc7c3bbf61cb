"""Who takes part in a schedule: tries of batches, as Airflow starts them, over the real sending and ledger code."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from math import inf

from pydantic import SecretStr

from airflow_provider_sendoso.batch.limits import Limits
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.oauth import Tokens
from airflow_provider_sendoso.client.pace import MINUTE_INTERVAL, POLL_SHARE, SPACING
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoError,
    SendosoLimitError,
    SendosoSupersededError,
)
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.ledger.tokens import LedgerTokenStore
from airflow_provider_sendoso.ledger.tries import ThisTry
from airflow_provider_sendoso.models import (
    AnySend,
    CampaignSend,
    Delivery,
    GiftSend,
    Kind,
    MarketplaceSend,
    RowOutcome,
    SmartSend,
)
from airflow_provider_sendoso.models.sends import AskedRecipient, CampaignRecipient, Recipient
from airflow_provider_sendoso.models.spending import Price, SpendingLimits
from airflow_provider_sendoso.sending import Result, Sender
from airflow_provider_sendoso.sending.jobs import Job
from airflow_provider_sendoso.sending.preview import preview
from explorer.invariants import Tried, Waited, check
from explorer.ledger import Store
from explorer.scheduler import Broken, Process, World
from explorer.sendoso import TIMEOUT, Sendoso, email_of
from explorer.stdlib import Threads, Time, enter
from explorer.strategies import Choices
from explorer.tokens import WatchedTokens
from explorer.waits import Hook, wait

RATE = 3.0
LEASE = 60.0
SETTLE_TIME = 900.0
PRICE = 10
_SECRET = "secret"
_WEBHOOK_SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtMDA="
EVERY, RARELY = 300.0, 600.0
"""Seconds between two rounds of a wait, and until it looks at a send that no webhook has named."""
DELIVERS_IN = 2 * (TIMEOUT + 1.0)
"""Seconds: a send is shipped when a run whose answer was lost looks for it."""
_NEXT_TRY = 5.0
_MOST_WAITS = 4
_MOST_SECONDS_BEFORE_A_WAIT = 100
_LAST_TRIES = 4


def _asked(email: str) -> AskedRecipient:
    return AskedRecipient(first_name="Ada", last_name="L", email=email)


_SENDS: dict[Kind, Callable[[str], AnySend]] = {
    Kind.GIFT: lambda email: GiftSend(
        gift_id="mug", recipient=Recipient(first_name="Ada", last_name="L", email=email), message="Thanks."
    ),
    Kind.CAMPAIGN: lambda email: CampaignSend(
        touch_id="7", recipient=CampaignRecipient(email=email), delivery=Delivery.EMAIL
    ),
    Kind.MARKETPLACE: lambda email: MarketplaceSend(marketplace_variant_id="tea", recipient=_asked(email)),
    Kind.SMART_SEND: lambda email: SmartSend(smart_send=True, price_lte_usd=50, recipient=_asked(email)),
}


@dataclass(frozen=True)
class Scenario:
    """
    A small deployment.

    :param runs: DAG runs at once, each with a batch.
    :param people: recipients of each batch, the same ones.
    :param tries: of each run, while faults happen.
    :param resend_absent: as ``on_absent="resend"``.
    :param kinds: what the runs send, one after the other; but for gifts of the catalogue, each run in its own scope.
    :param refresh_token: whether tokens are renewed with single-use refresh tokens.
    :param max_sends: the limit of the last run's batch.
    :param scope_max_sends: the limit of the scope, which the ledger keeps.
    :param scope_max_cost: the limit of its cost; each send costs :data:`PRICE`.
    :param min_days: the days between two gifts to a person.
    :param max_in_flight: POSTs at once.
    :param tokens_only: whether the runs only ask for a token.
    :param lifetime: seconds of an access token.
    :param rate: requests a second.
    :param transaction: seconds that a transaction takes, as in :attr:`~explorer.scheduler.World.transaction`.
    :param answers_every: seconds between two moments at which Sendoso answers POSTs, several at once; 0: at any time.
    :param waits: how many waits for the scope's sends there are, each in a triggerer; then Sendoso posts webhooks.
    :param bucket: whether the ledger is in a bucket rather than in a database.
    :param late: seconds, less than the settle time, after which a late send is accepted, or is shown in the lists.
    :param faults: the names of the faults that can happen; all of them, if it is empty.
    """

    name: str
    runs: int = 2
    people: int = 1
    tries: int = 2
    resend_absent: bool = False
    kinds: tuple[Kind, ...] = (Kind.GIFT,)
    refresh_token: bool = False
    max_sends: int | None = None
    scope_max_sends: int | None = None
    scope_max_cost: int | None = None
    min_days: float | None = None
    max_in_flight: int | None = 2
    tokens_only: bool = False
    lifetime: float = 7200.0
    rate: float = RATE
    transaction: float = 0.0
    answers_every: float = 0.0
    waits: int = 0
    bucket: bool = False
    late: float = 600.0
    faults: tuple[str, ...] = ()

    @property
    def fit_in_scope(self) -> int | None:
        """How many sends fit in the limits of the scope; ``None``: as many as there are."""
        by_cost = None if self.scope_max_cost is None else self.scope_max_cost // PRICE
        return min((most for most in (self.scope_max_sends, by_cost) if most is not None), default=None)


class Play:
    """
    One schedule of a scenario.

    :param scenario: who takes part.
    :param choices: what happens.
    :param store: the database, which is emptied.
    """

    def __init__(self, scenario: Scenario, choices: Choices, store: Store) -> None:
        self.scenario, self.choices, self.store = scenario, choices, store
        self.world = World(choices, scenario.faults)
        self.world.transaction = scenario.transaction
        delivers_in = DELIVERS_IN if scenario.waits else inf
        self.server = Sendoso(self.world, scenario.lifetime, scenario.late, scenario.answers_every, delivers_in)
        self.server.on_change = self._receive
        self.waited: list[Waited] = []
        self.statuses: dict[str, list[str]] = {}
        """Every status that the ledger has had of a send, in order."""
        self._followers: set[Process] = set()
        self._receivers: dict[Process, tuple[str, str]] = {}
        self.tried: list[Tried] = []
        self.last_errors: list[str] = []
        self._tries = [0] * scenario.runs
        self._run_of: dict[Process, int] = {}
        self._waited: set[int] = set()
        self.batches = [self._batch(run) for run in range(scenario.runs)]
        self._config = ClientConfig(
            base_url="http://127.0.0.1:1",
            client_id="client",
            client_secret=SecretStr(_SECRET),
            grant_type="refresh_token" if scenario.refresh_token else "client_credentials",
            refresh_token=SecretStr("refresh-0") if scenario.refresh_token else None,
            account="acme",
            requests_per_second=scenario.rate,
            timeout=TIMEOUT,
            webhook_secret=_WEBHOOK_SECRET if scenario.waits else (),  # type: ignore[arg-type]  # validated
            poll_with_webhooks=RARELY,
        )

    def run(self) -> None:
        """
        Let the schedule happen, then let the faults stop and a last try of each run go through, and check.

        :raises Broken: if an invariant is broken.
        """
        random.seed(0)  # of the jitter between retries
        self.store.fresh()
        enter(self.world)
        Store.paused = False
        self.world.on_lost = self._lost
        try:
            for run in range(self.scenario.runs):
                self._start(run)
            if self.scenario.waits:
                self.world.on_commit = self._note_statuses
            for _ in range(self.scenario.waits):
                self._follow()
            self.world.run()
            self._finish()
        finally:
            self.world.end()
            Store.paused = True
            enter(None)
        check(self)

    def keys(self) -> dict[str, str]:
        """Return whose each send key is."""
        return {
            self._key(batch, email): f"{email} in {batch.dedupe_scope}"
            for batch in self.batches
            for email in self._people
        }

    @property
    def _people(self) -> list[str]:
        return [f"ada{n}@example.com" for n in range(1, self.scenario.people + 1)]

    def _key(self, batch: Batch, email: str) -> str:
        return self.store.ledger.send_key(batch.account, batch.dedupe_scope, email)

    def _batch(self, run: int) -> Batch:
        scope = "scope" if self.scenario.kinds == (Kind.GIFT,) else f"scope-{run}"
        return Batch(f"batch-{run}", "acme", scope, "email", "dag", "task", f"run-{run}", -1)

    def _jobs(self, run: int) -> list[Job]:
        make = _SENDS[self.scenario.kinds[run % len(self.scenario.kinds)]]
        return [Job(number, email, make(email)) for number, email in enumerate(self._people, 1)]

    # -- tries -----------------------------------------------------------------------------------------------------

    def _start(self, run: int, delay: float = 0.0) -> None:
        self._tries[run] += 1
        process = Process(f"run {run + 1} try {self._tries[run]}")
        self._run_of[process] = run
        self.world.tell("starts", process.name)
        self.world.spawn(process, lambda: self._guarded(process, run), delay)

    def _lost(self, process: Process) -> None:
        """Start the next try of a process that is dead, or that Airflow takes for dead; a webhook comes again."""
        if process in self._receivers:
            self._receive(*self._receivers.pop(process), delay=_NEXT_TRY)
        elif process in self._followers:
            self._follow(_NEXT_TRY)
        run = self._run_of.pop(process, None)
        if run is not None and self._tries[run] < self.scenario.tries:
            self._start(run, _NEXT_TRY)

    def _guarded(self, process: Process, run: int) -> None:
        tried = Tried(run, process.name)
        self.tried.append(tried)
        again: float | None = None
        try:
            again = self._try(run, tried)
        except SendosoSupersededError:
            self.world.tell("ends: a newer try has begun")
            tried.superseded = True
        except SendosoLimitError as error:
            tried.limited = True
            held = any(result.outcome is RowOutcome.HELD for result in tried.results.values())
            tried.waits = held and self.scenario.resend_absent  # a person clears the task until all are sent
            self.world.tell(f"fails: {error}")
            again = _NEXT_TRY
        except SendosoError as error:
            if isinstance(error, SendosoAuthError) and process in self.server.refused_late and self.server.keeps_chain:
                raise Broken(f"tokens: {process.name} asks for a person, though a newer token was stored") from error
            tried.error = f"{type(error).__name__}: {error}"
            self.world.tell(f"fails: {tried.error}")
            again = _NEXT_TRY
        except Exception as error:
            raise Broken(f"crash: {process.name} ended with {type(error).__name__}: {error}") from error
        tried.over = True
        # A try that Airflow has given up is not tried again a second time.
        if self._run_of.pop(process, None) is not None and again is not None and self._tries[run] < self.scenario.tries:
            self._start(run, again)

    def _session(self, ledger: Ledger, batch: Batch) -> SendosoSession:
        config, rate = self._config, self.scenario.rate
        keys = {email: self._key(batch, email) for email in self._people}
        return SendosoSession(
            config,
            WatchedTokens(self._tokens(ledger), self.server),
            self.store.once(("pace", ledger, rate), lambda: ledger.pace(config.account, SPACING / rate, POLL_SHARE)),
            minute_pace=self.store.once(
                ("minute pace", ledger),
                lambda: ledger.pace(config.account, MINUTE_INTERVAL, POLL_SHARE, of="marketplace"),
            ),
            sleep=Time.sleep,
            transport=self.server.transport(lambda send: keys[email_of(send)]),
        )

    def _tokens(self, ledger: Ledger) -> LedgerTokenStore:
        client = self._config.identity
        tokens: LedgerTokenStore = self.store.once(("tokens", ledger, client), lambda: ledger.tokens(client, _SECRET))
        return tokens

    def stored_refresh_token(self) -> str | None:
        """Return the refresh token that the ledger has."""
        stored = self._tokens(self.store.ledger).read()
        return Tokens.load(stored[0]).refresh_token if stored else None

    def _try(self, run: int, tried: Tried) -> float | None:
        """Do what a try of ``BatchSendOperator`` does; return the seconds until the next try, if there must be one."""
        ledger, batch, scenario = self.store.for_process(), self.batches[run], self.scenario
        session = self._session(ledger, batch)
        if scenario.tokens_only:
            session.token()
            return None
        jobs = self._jobs(run)
        this_try = ThisTry()
        this_try.begin(ledger.tries, batch.batch_id)
        sender = Sender(
            session,
            ledger,
            batch,
            own_gift=True,
            lease=LEASE,
            claim_timeout=600.0,
            max_in_flight=scenario.max_in_flight,
            settle_time=SETTLE_TIME,
            resend_absent=scenario.resend_absent,
            this_try=this_try,
            limits=lambda: SpendingLimits(
                scope_max_sends=scenario.scope_max_sends,
                scope_max_cost=None if scenario.scope_max_cost is None else Decimal(scenario.scope_max_cost),
                min_days_between_gifts=scenario.min_days,
            ),
            price_of=lambda item: Price(Decimal(PRICE), "USD"),
            executor=Threads(),
        )
        ledger.sends.open_batch(batch)
        left_out: set[int] = set()
        if scenario.max_sends is not None and run == scenario.runs - 1:
            seen = preview(ledger, batch, jobs, lambda result: None, resend_absent=scenario.resend_absent)
            left_out = seen.left_out
            if Limits(max_sends=scenario.max_sends).why_refused(seen.sends, None, seen.fingerprint):
                self.world.tell("is refused: max_sends")
                tried.refused = True
                return None

        def record(result: Result) -> None:
            tried.results[result.number] = result

        sender.send(jobs, record, left_out=left_out)
        outcomes = [tried.results[job.number].outcome if job.number in tried.results else None for job in jobs]
        self.world.tell(f"ends: {', '.join('not reached' if one is None else one.value for one in outcomes)}")
        if None in outcomes or RowOutcome.NOT_REACHED in outcomes:
            return _NEXT_TRY
        if RowOutcome.HELD in outcomes and scenario.resend_absent and sender.settles_in is not None:
            tried.waits = True
            if run not in self._waited:  # as the operator defers itself once
                self._waited.add(run)
                self._tries[run] -= 1
                return sender.settles_in + 1.0
        return None

    # -- waits -----------------------------------------------------------------------------------------------------

    def _follow(self, delay: float = 0.0) -> None:
        """Start a wait for the sends of the scope."""
        if len(self._followers) < _MOST_WAITS or not self.world.allows_faults:
            process = Process(f"wait {len(self._followers) + 1}")
            self._followers.add(process)
            self.world.tell("starts", process.name)
            self.world.spawn(process, lambda: self._wait(process), delay)

    def _wait(self, process: Process) -> None:
        ledger, batch = self.store.for_process(), self.batches[0]
        where = {"account": batch.account, "dedupe_scope": batch.dedupe_scope}
        for _ in range(_MOST_SECONDS_BEFORE_A_WAIT):
            try:
                if any(ledger.sends.progress(**where)):
                    break
            except SendosoError:
                pass  # the database is away
            self.world.sleep(1.0)
        hook = Hook(self._config, ledger, self._session(ledger, batch))
        event = wait(hook, EVERY, dedupe_scope=batch.dedupe_scope)
        self.waited.append(Waited(process.name, event, self.world.now))
        self.world.tell(f"ends: {event['status']}, {event['report']['counts'] if 'report' in event else event}")
        if event["status"] == "error":
            self._follow(_NEXT_TRY)

    def _receive(self, message: str, gid: str, delay: float = 0.0) -> None:
        """Receive a webhook, in a process of its own; one that is not acknowledged comes again."""
        process = Process("receiver")
        self._receivers[process] = message, gid

        def note() -> None:
            try:
                self.store.for_process().wakeups.note(self._config.account, message, gid)
            except SendosoError:
                self._lost(process)
            self._receivers.pop(process, None)

        self.world.spawn(process, note, delay)

    def _note_statuses(self) -> None:
        for row in self.store.rows("SELECT send_key, status FROM sendoso_sends WHERE status IS NOT NULL"):
            seen = self.statuses.setdefault(row["send_key"], [])
            if seen[-1:] != [row["status"]]:
                seen.append(row["status"])

    # -- the end ---------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Let no more faults happen, all leases lapse, and each run be tried until it ends."""
        self.world.allows_faults = False
        self.world.strategy = Choices()
        self.world.tell("all faults stop", "")
        self.scenario = replace(self.scenario, tries=0)  # no other try than those below
        for run in range(self.scenario.runs):
            for _ in range(_LAST_TRIES):
                self.world.now += 2000.0
                self._start(run)
                self.world.run()
                last = self.tried[-1]
                if last.error is None and not last.waits:
                    break
        if self.scenario.waits:
            self._follow()
            self.world.run()
