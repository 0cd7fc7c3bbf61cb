"""A process's way to the stored tokens, on which the model of Sendoso learns what is stored."""

from __future__ import annotations

from typing import Any

from airflow_provider_sendoso.client.oauth import Tokens
from airflow_provider_sendoso.ledger.tokens import LedgerTokenStore
from explorer.sendoso import Sendoso


class WatchedTokens:
    """
    The ledger's store of tokens, watched.

    :param store: the real one.
    :param server: is told what was stored.
    """

    def __init__(self, store: LedgerTokenStore, server: Sendoso) -> None:
        self._store, self._server = store, server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        """Store tokens."""
        mine = self._store.store(owner, text, renew_after)
        if mine and (token := Tokens.load(text).refresh_token):
            self._server.stored.setdefault(token, self._server.world.now)
        return mine
