"""Who renews the access token, and when: renewal is a leased claim on a store, like a send.

Read, fresh? use it. Otherwise claim, read again, request, store, release. No transaction of the store stays open
across HTTP, and whoever loses the claim waits for the winner's token instead of asking for one.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Protocol

from airflow_provider_sendoso.client.oauth import Grant
from airflow_provider_sendoso.exceptions import SendosoConnectionError

_POLL = 0.2


class TokenStore(Protocol):
    """Where tokens are kept, the ledger's or one process's; each method is one short transaction."""

    def read(self) -> tuple[str, float] | None:
        """Return the newest token and the seconds until it should be renewed, negative when overdue."""

    def claim(self, owner: str, lease: float) -> bool:
        """Become the one who renews, for ``lease`` seconds; ``False`` while another is."""

    def store(self, owner: str, access_token: str, renew_after: float) -> None:
        """Keep a new token that should be renewed after so many seconds, if ``owner`` still holds the claim."""

    def release(self, owner: str) -> None:
        """Give the claim back."""


class MemoryTokenStore:
    """A store for one process, for reads without a ledger."""

    def __init__(self) -> None:
        self._token: tuple[str, float] | None = None

    def read(self) -> tuple[str, float] | None:
        """Return the process's token and the seconds until it should be renewed."""
        if self._token is None:
            return None
        access_token, renew_at = self._token
        return access_token, renew_at - time.monotonic()

    def claim(self, owner: str, lease: float) -> bool:
        """Always succeed: the manager's own lock keeps other threads out."""
        return True

    def store(self, owner: str, access_token: str, renew_after: float) -> None:
        """Keep a new token."""
        self._token = (access_token, time.monotonic() + renew_after)

    def release(self, owner: str) -> None:
        """Do nothing: there is no claim."""


class TokenManager:
    """
    Hands out an access token that is good for minutes yet.

    :param store: where tokens are kept.
    :param fetch: makes the token request; called only while holding the claim.
    :param lease: seconds that a claim on the renewal lasts; longer than ``fetch`` can take.
    :param mask: called with every token the moment it exists, before anything else can see it.
    """

    def __init__(
        self,
        store: TokenStore,
        fetch: Callable[[], Grant],
        *,
        lease: float,
        mask: Callable[[str], None] = lambda token: None,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._lease = lease
        self._mask = mask
        self._owner = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._cached: tuple[str, float] | None = None

    def get(self) -> str:
        """Return a fresh token, from this process's memory where it is one."""
        cached = self._cached
        if cached and time.monotonic() < cached[1]:
            return cached[0]
        return self._obtain(stale=None)

    def renew(self, stale: str) -> str:
        """
        Return another token than one that was answered with 401.

        :param stale: the token that was refused; somebody may have renewed it already.
        """
        return self._obtain(stale)

    def _obtain(self, stale: str | None) -> str:
        with self._lock:
            give_up = time.monotonic() + 2 * self._lease
            while True:
                token = self._fresh(stale)
                if token is not None:
                    return token
                if self._store.claim(self._owner, self._lease):
                    return self._renew(stale)
                if time.monotonic() > give_up:
                    raise SendosoConnectionError(
                        "No access token: another process has been renewing it for too long. Nothing was sent."
                    )
                time.sleep(_POLL)

    def _renew(self, stale: str | None) -> str:
        try:
            token = self._fresh(stale)
            if token is not None:
                return token
            started = time.monotonic()
            grant = self._fetch()
            self._mask(grant.access_token)
            self._store.store(self._owner, grant.access_token, grant.renew_after)
            self._cached = (grant.access_token, started + grant.renew_after)
            return grant.access_token
        finally:
            self._store.release(self._owner)

    def _fresh(self, stale: str | None) -> str | None:
        stored = self._store.read()
        if stored is None:
            return None
        access_token, renew_in = stored
        if access_token == stale or renew_in <= 0:
            return None
        self._mask(access_token)
        self._cached = (access_token, time.monotonic() + renew_in)
        return access_token
