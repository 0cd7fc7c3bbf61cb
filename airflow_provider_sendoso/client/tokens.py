"""Who renews the tokens, and when: renewal is a leased claim on a store, like a send.

Read, fresh? use it. Otherwise claim, read again, request, store, release. No transaction of the store stays open
across HTTP, and whoever loses the claim waits for the winner's token instead of asking for one. A refresh token dies
when it is used, so what it was traded for is durable before the new access token is used for anything.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Protocol

from airflow_provider_sendoso.client.answers import Exchange
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.oauth import Grant, Tokens, renewal
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import SendosoConnectionError, SendosoLedgerError

log = logging.getLogger(__name__)

_POLL = 0.2

_NOT_STORED = (
    "Sendoso had traded the refresh token for a new one, which could not be stored and is lost: a person has to "
    "authorise again (airflow sendoso authorize)."
)


class TokenStore(Protocol):
    """Where tokens are kept, the ledger's or one process's; each method is one short transaction."""

    def read(self) -> tuple[str, float] | None:
        """Return what was stored and the seconds until it should be renewed, negative when overdue."""

    def claim(self, owner: str, lease: float) -> bool:
        """Become the one who renews, for ``lease`` seconds; ``False`` while another is."""

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        """Keep what should be renewed after so many seconds; ``False`` if ``owner`` has lost the claim."""

    def release(self, owner: str) -> None:
        """Give the claim back."""

    def clear(self) -> None:
        """Forget what was stored."""


class MemoryTokenStore:
    """A store for one process, for reads without a ledger."""

    def __init__(self) -> None:
        self._stored: tuple[str, float] | None = None

    def read(self) -> tuple[str, float] | None:
        """Return what was stored and the seconds until it should be renewed."""
        if self._stored is None:
            return None
        text, renew_at = self._stored
        return text, renew_at - time.monotonic()

    def claim(self, owner: str, lease: float) -> bool:
        """Always succeed: the manager's own lock keeps other threads out."""
        return True

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        """Keep it."""
        self._stored = (text, time.monotonic() + renew_after)
        return True

    def release(self, owner: str) -> None:
        """Do nothing: there is no claim."""

    def clear(self) -> None:
        """Forget what was stored."""
        self._stored = None


class TokenManager:
    """
    Hands out an access token that is good for minutes yet.

    :param config: the connection.
    :param store: where tokens are kept.
    :param ask: makes one token request; called only while holding the claim.
    :param lease: seconds that a claim on the renewal lasts; longer than ``ask`` can take.
    :param mask: called with every token the moment it exists, before anything else can see it.
    """

    def __init__(
        self,
        config: ClientConfig,
        store: TokenStore,
        ask: Callable[[Request], Exchange],
        *,
        lease: float,
        mask: Callable[[str], None] = lambda token: None,
    ) -> None:
        self._config = config
        self._store = store
        self._ask = ask
        self._lease = lease
        self._mask = mask
        self._owner = ""
        self._lock = threading.Lock()
        self._cached: tuple[str, float] | None = None

    def cached(self) -> str | None:
        """Return this process's token while it is fresh; nothing is asked, and nothing blocks."""
        cached = self._cached
        return cached[0] if cached and time.monotonic() < cached[1] else None

    def get(self) -> str:
        """Return a fresh token: this process's, the store's, or a new one."""
        return self.cached() or self._obtain(stale=None)

    def renew(self, stale: str) -> str:
        """
        Return another token than one that was answered with 401.

        :param stale: the token that was refused; somebody may have renewed it already.
        """
        return self._obtain(stale)

    def adopt(self, grant: Grant) -> None:
        """
        Store what a person has just authorised; it replaces everything before.

        :param grant: of an authorisation code.
        :raises SendosoConnectionError: if another process is renewing all the while.
        """
        with self._lock:
            self._claimed(lambda: self._keep(Tokens().granted(grant), grant))

    def stored(self) -> Tokens:
        """Return what the store holds, fresh or not."""
        stored = self._store.read()
        return self._masked(Tokens.load(stored[0] if stored else None))

    def forget(self) -> None:
        """Forget all tokens, here and in the store."""
        self._cached = None
        self._store.clear()

    def _obtain(self, stale: str | None) -> str:
        with self._lock:
            fresh = self._fresh(stale)
            return fresh or self._claimed(lambda: self._fresh(stale) or self._renewed(), lambda: self._fresh(stale))

    def _claimed(self, work: Callable[[], str], meanwhile: Callable[[], str | None] = lambda: None) -> str:
        """Do the work while holding the claim, or return what turns up while another holds it."""
        give_up = time.monotonic() + 2 * self._lease
        # Another one for every claim: a forked process must not take its parent's claim for its own.
        owner = self._owner = uuid.uuid4().hex
        while not self._store.claim(owner, self._lease):
            if time.monotonic() > give_up:
                raise SendosoConnectionError(
                    "No access token: another process has been renewing it for too long. Nothing was sent."
                )
            time.sleep(_POLL)
            if found := meanwhile():
                return found
        try:
            crash_point("token-claimed")
            return work()
        finally:
            try:
                self._store.release(owner)
            except SendosoLedgerError as error:
                log.warning("The claim on the token could not be given back and lapses by itself: %s", error)

    def _renewed(self) -> str:
        steps = renewal(self._config, self.stored())
        try:
            step = next(steps)
            while True:
                if isinstance(step, Tokens):
                    if not self._store.store(self._owner, step.dump(), 0.0):
                        # Somebody has renewed while this process slept: what was refused was spent by them.
                        return self._claimed(lambda: self._fresh(stale=None) or self._renewed())
                    step = next(steps)
                else:
                    exchange = self._ask(step)
                    crash_point("token-granted")
                    step = steps.send(exchange)
        except StopIteration as end:
            tokens, grant = end.value
            return self._keep(tokens, grant)

    def _keep(self, tokens: Tokens, grant: Grant) -> str:
        self._masked(tokens)
        started = time.monotonic()
        try:
            mine = self._store.store(self._owner, tokens.dump(), grant.renew_after)
        except SendosoLedgerError as error:
            if grant.refresh_token is None:
                raise
            raise SendosoLedgerError(f"{error} {_NOT_STORED}") from None
        if not mine:
            return self._claimed(lambda: self._settle(tokens, grant))
        crash_point("token-stored")
        self._cached = (grant.access_token, started + grant.renew_after)
        return grant.access_token

    def _settle(self, tokens: Tokens, grant: Grant) -> str:
        """Having slept through the lease, keep the other's chain of refresh tokens if it lives, else ours."""
        theirs = self.stored().refresh_token
        if tokens.refresh_token is None or theirs is None or tokens.is_spent(theirs):
            return self._keep(tokens, grant)
        return self._fresh(stale=None) or self._renewed()

    def _fresh(self, stale: str | None) -> str | None:
        stored = self._store.read()
        if stored is None:
            return None
        text, renew_in = stored
        token = self._masked(Tokens.load(text)).access_token
        if token is None or token == stale or renew_in <= 0:
            return None
        self._cached = (token, time.monotonic() + renew_in)
        return token

    def _masked(self, tokens: Tokens) -> Tokens:
        for token in (tokens.access_token, tokens.refresh_token):
            if token is not None:
                self._mask(token)
        return tokens
