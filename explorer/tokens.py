"""A process's way to the stored tokens, on which the model of Sendoso learns what each process could know."""

from __future__ import annotations

from typing import Any

from airflow_provider_sendoso.client.oauth import Tokens
from airflow_provider_sendoso.ledger.tokens import LedgerTokenStore
from explorer.sendoso import Sendoso


class WatchedTokens:
    """
    The ledger's store of tokens, watched.

    :param store: the real one.
    :param server: is told what was stored, and what was stored already when a claim was extended.
    """

    def __init__(self, store: LedgerTokenStore, server: Sendoso) -> None:
        self._store, self._server = store, server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def renew(self, owner: str, lease: float) -> bool:
        """Extend the claim."""
        process, stored = self._server.world.process, set(self._server.stored)
        held = self._store.renew(owner, lease)
        if held:
            self._server.seen[process] = stored
        return held

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        """Store tokens."""
        mine = self._store.store(owner, text, renew_after)
        if mine and (token := Tokens.load(text).refresh_token):
            self._server.stored.add(token)
        return mine
