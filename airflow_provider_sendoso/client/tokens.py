"""Renews tokens: a renewal is a leased claim on a store, like a send.

A fresh token in the store is used as it is. Otherwise: claim, read again, request, store, release. No transaction of
the store stays open across HTTP, and a process that does not get the claim waits for the winner's token instead of
requesting one. A refresh token works once, so its successor is stored before the new access token is used. All of this
runs in a thread, so that an exception raised in the caller (a timeout, a kill) does not interrupt it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from airflow_provider_sendoso.client.answers import Exchange, success_or_raise
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.oauth import Grant, Tokens, renewal, revoke_request
from airflow_provider_sendoso.client.uninterruptible import Uninterruptible
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoConnectionError, SendosoLedgerError

log = logging.getLogger(__name__)

T = TypeVar("T")

_POLL = 0.2

_NOT_STORED = (
    "Sendoso had traded the refresh token for a new one, which could not be stored and is lost: a person has to "
    "authorise again (airflow sendoso authorize)."
)


class TokenStore(Protocol):
    """A store of tokens, in the ledger or in one process; each method is one short transaction."""

    def read(self) -> tuple[str, float] | None:
        """Return the stored text and the seconds until it should be renewed, negative if it is overdue."""

    def claim(self, owner: str, lease: float) -> bool:
        """Claim the renewal for ``lease`` seconds; return ``False`` while another owner holds the claim."""

    def renew(self, owner: str, lease: float) -> bool:
        """Extend the claim to ``lease`` seconds from now; return ``False`` if ``owner`` has lost it."""

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        """Store a text to be renewed after so many seconds; return ``False`` if ``owner`` has lost the claim."""

    def release(self, owner: str) -> None:
        """Release the claim."""

    def clear(self, owner: str) -> bool:
        """Delete the stored text; return ``False`` if ``owner`` has lost the claim."""

    def is_unreadable(self) -> bool:
        """Return whether a text is stored that was encrypted under another client secret."""

    def others(self) -> list[str]:
        """Describe the texts that are stored for other connections, without their content."""


class Ask(Protocol):
    """Makes one request of the token manager, at the account's pace."""

    def __call__(self, request: Request, *, before: Callable[[], None]) -> Exchange:
        """Wait for a slot, call ``before``, then make the request; if ``before`` raises, nothing is sent."""


class _ClaimLost(Exception):
    """Another process has taken the claim, and the refresh token that was read may be used up."""


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
        """Always succeed, because the manager's own lock excludes other threads."""
        return True

    def renew(self, owner: str, lease: float) -> bool:
        """Always succeed."""
        return True

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        """Store a text with the seconds after which it should be renewed."""
        self._stored = (text, time.monotonic() + renew_after)
        return True

    def release(self, owner: str) -> None:
        """Do nothing: there is no claim."""

    def clear(self, owner: str) -> bool:
        """Forget what was stored."""
        self._stored = None
        return True

    def is_unreadable(self) -> bool:
        """Return ``False``: nothing is encrypted."""
        return False

    def others(self) -> list[str]:
        """Return nothing: the store has one connection."""
        return []


class TokenManager:
    """
    Returns an access token that is valid for some minutes more.

    :param config: the connection.
    :param store: the store of the tokens.
    :param ask: makes one request; called only while holding the claim.
    :param lease: seconds that a claim on the renewal lasts; longer than a request can take.
    :param mask: called with every token as soon as it exists, before it is used or logged.
    """

    def __init__(
        self,
        config: ClientConfig,
        store: TokenStore,
        ask: Ask,
        *,
        lease: float,
        mask: Callable[[str], None] = lambda token: None,
    ) -> None:
        self._config = config
        self._store = store
        self._ask = ask
        self._lease = lease
        self._mask = mask
        self._lock = threading.Lock()
        # The work that holds the lock, and the owner's name in its claim.
        self._running: Uninterruptible[Any]
        self._owner = ""
        self._cached: tuple[str, float] | None = None

    def cached(self) -> str | None:
        """Return this process's token if it is fresh, without I/O and without blocking."""
        cached = self._cached
        return cached[0] if cached and time.monotonic() < cached[1] else None

    def get(self) -> str:
        """Return a fresh token: from this process, from the store, or a new one."""
        return self.cached() or self._obtain(stale=None)

    def renew(self, stale: str) -> str:
        """
        Replace a token that was answered with 401.

        :param stale: the refused token; another process may have renewed it already.
        """
        return self._obtain(stale)

    def adopt(self, grant: Grant) -> None:
        """
        Store the tokens of a person's authorisation; they replace all earlier tokens.

        :param grant: the grant for an authorisation code.
        :raises SendosoConnectionError: if another process holds the claim for too long.
        """
        self._alone(lambda: self._claimed(lambda: self._keep(Tokens().granted(grant), grant)))

    def revoke(self) -> int:
        """
        Revoke the stored tokens at Sendoso, then delete them here and in the store, while holding the claim.

        :return: the number of tokens revoked.
        :raises SendosoConfigError: if the stored tokens cannot be read; then none is revoked or deleted.
        :raises SendosoError: if Sendoso did not revoke a token; then no token is deleted.
        """
        return self._alone(lambda: self._claimed(self._revoked))

    def others(self) -> list[str]:
        """Describe the tokens that the store holds for other connections, without their values."""
        return self._store.others()

    def stored(self) -> Tokens:
        """Return the stored tokens, fresh or not."""
        stored = self._store.read()
        return self._masked(Tokens.load(stored[0] if stored else None))

    def _obtain(self, stale: str | None) -> str:
        def fresh() -> str | None:
            return self._fresh(stale)

        return self._alone(lambda: fresh() or self._claimed(lambda: fresh() or self._renewed(), fresh))

    def _alone(self, work: Callable[[], T]) -> T:
        """Run the work in a thread, one at a time; earlier work finishes first, even if its caller has gone."""

        def locked() -> T:
            with self._lock:
                self._running = running
                return work()

        running = Uninterruptible(locked)
        return running.run()

    def _claimed(self, work: Callable[[], T], meanwhile: Callable[[], T | None] = lambda: None) -> T:
        """
        Run the work while holding the claim; while another holds it, return the first result of ``meanwhile``.

        Work that finds its claim lost is started again under a new claim, and reads the store again.
        """
        while True:
            give_up = time.monotonic() + 2 * self._lease
            # A new owner for every claim, because a forked process must not mistake its parent's claim for its own.
            owner = self._owner = uuid.uuid4().hex
            while not self._store.claim(owner, self._lease):
                if time.monotonic() > give_up:
                    raise SendosoConnectionError("No access token: another process has been renewing it for too long.")
                time.sleep(_POLL)
                self._running.check()
                if found := meanwhile():
                    return found
            try:
                crash_point("token-claimed")
                return work()
            except _ClaimLost:
                log.info("Another process has taken the claim on the token; starting over.")
            finally:
                try:
                    self._store.release(owner)
                except SendosoLedgerError as error:
                    log.warning("The claim on the token could not be given back and lapses by itself: %s", error)

    def _asked(self, request: Request) -> Exchange:
        return self._ask(request, before=self._before_a_request)

    def _before_a_request(self) -> None:
        """Extend the claim after the wait for a slot, during which it may have expired and been taken."""
        if not self._store.renew(self._owner, self._lease):
            raise _ClaimLost
        self._running.commit()

    def _renewed(self) -> str:
        steps = renewal(self._config, self.stored())
        try:
            step = next(steps)
            while True:
                if isinstance(step, Tokens):
                    if not self._store.store(self._owner, step.dump(), 0.0):
                        # Another process has renewed the token while this one was suspended, and has used the refused
                        # refresh token.
                        raise _ClaimLost
                    step = next(steps)
                else:
                    exchange = self._asked(step)
                    crash_point("token-granted")
                    step = steps.send(exchange)
        except StopIteration as end:
            tokens, grant = end.value
            return self._keep(tokens, grant)

    def _revoked(self) -> int:
        if self._store.is_unreadable():
            raise SendosoConfigError(
                "The stored token was encrypted under another client secret, so it cannot be revoked, and may still be "
                "valid at Sendoso. Set the connection's password back to that secret, run this again, and then set the "
                "new one; or revoke the token at Sendoso. Nothing was revoked."
            )
        stored = self.stored()
        tokens = [token for token in (stored.refresh_token, stored.access_token) if token is not None]
        for token in tokens:
            request = revoke_request(token)
            success_or_raise(request, self._asked(request))
        self._cached = None
        if not self._store.clear(self._owner):
            raise _ClaimLost
        return len(tokens)

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
        """After losing the claim, keep the other process's refresh token if it is not used up, else ours."""
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
