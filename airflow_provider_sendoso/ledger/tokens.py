"""The account's tokens, shared by the whole deployment: encrypted at rest, renewed by one process at a time."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.fernet import InvalidToken
from sqlalchemy import func, or_, select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.database import PATIENCE, Database, Identity
from airflow_provider_sendoso.ledger.encryption import cipher
from airflow_provider_sendoso.ledger.schema import db_now, tokens

_STORE_PATIENCE = 60.0
"""Seconds for which storing a token is retried: a refresh token that is not stored is lost for good."""

_ROOM = 8192
"""Bytes that a claim reserves, and that storing the tokens frees: a full database refuses the claim, before a refresh
token is exchanged for one that could not be stored. SQLite can use the freed bytes at once. PostgreSQL frees them
later, but has just shown that it can write as many."""


class LedgerTokenStore:
    """
    Stores one client's tokens in the ledger.

    The encryption key is derived from the client secret: a changed secret makes the old row useless, not an error.

    :param database: the ledger's database.
    :param identity: the identity of the ledger; salts the key.
    :param client: the values that tell one client from another: base URL, client ID, grant type, scope.
    :param secret: the client secret.
    """

    def __init__(self, database: Database, identity: Identity, client: tuple[str, ...], secret: str) -> None:
        self._database = database
        self._token_key = hashlib.sha256("\0".join(client).encode()).hexdigest()
        self._cipher = cipher(identity, secret, "token")
        self._this_row = tokens.c.token_key == self._token_key

    def read(self) -> tuple[str, float] | None:
        """Return the stored tokens and the seconds until they should be renewed; ``None`` if nothing can be read."""
        row = self._stored()
        text = self._decrypted(row[0]) if row is not None else None
        return None if row is None or text is None else (text, float(row[1]))

    def is_unreadable(self) -> bool:
        """Return whether tokens are stored that were encrypted under another client secret."""
        row = self._stored()
        return row is not None and self._decrypted(row[0]) is None

    def others(self) -> list[str]:
        """Describe the tokens of other clients: the beginning of their keys, and when they are due for renewal."""
        query = (
            select(tokens.c.token_key, tokens.c.renewals, tokens.c.renew_at)
            .where(tokens.c.token_key != self._token_key, tokens.c.ciphertext.is_not(None))
            .order_by(tokens.c.renew_at.desc())
        )
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return [
            f"key {key[:12]}, stored {renewals} times, due for renewal at {datetime.fromtimestamp(due, UTC):%F %R} UTC"
            for key, renewals, due in rows
        ]

    def _stored(self) -> Any:
        query = select(tokens.c.ciphertext, tokens.c.renew_at - db_now())
        here = query.where(self._this_row, tokens.c.ciphertext.is_not(None))
        return self._database.read(lambda connection: connection.execute(here).first())

    def _decrypted(self, ciphertext: str) -> str | None:
        try:
            return self._cipher.decrypt(ciphertext.encode()).decode()
        except InvalidToken:
            return None

    def claim(self, owner: str, lease: float) -> bool:
        """Claim the renewal for ``lease`` seconds; ``False`` while another process has it."""

        def work(connection: Connection) -> bool:
            new = {"token_key": self._token_key, "renew_at": 0.0, "lease_until": 0.0, "renewals": 0}
            self._database.insert_ignore(connection, tokens, [new])
            free = or_(tokens.c.owner.is_(None), tokens.c.owner == owner, tokens.c.lease_until <= db_now())
            claimed = {"owner": owner, "lease_until": db_now() + lease, "room": _room()}
            return connection.execute(update(tokens).where(self._this_row, free).values(**claimed)).rowcount == 1

        return self._database.run(work)

    def renew(self, owner: str, lease: float) -> bool:
        """Extend the claim to ``lease`` seconds from now; ``False`` if ``owner`` has lost it."""
        # The reserved bytes are gone if a token was stored since the claim.
        held = {"lease_until": db_now() + lease, "room": func.coalesce(tokens.c.room, _room())}
        statement = update(tokens).where(self._this_row, tokens.c.owner == owner).values(**held)
        return self._database.run(lambda connection: connection.execute(statement).rowcount == 1)

    def store(self, owner: str, text: str, renew_after: float) -> bool:
        """Store tokens that should be renewed after some seconds; ``False`` if ``owner`` has lost the claim."""
        values = {
            "ciphertext": self._cipher.encrypt(text.encode()).decode(),
            "renew_at": db_now() + renew_after,
            "renewals": tokens.c.renewals + 1,
        }
        return self._update(values, tokens.c.owner == owner, patience=_STORE_PATIENCE)

    def release(self, owner: str) -> None:
        """Release the claim."""
        self._update({"owner": None}, tokens.c.owner == owner)

    def clear(self, owner: str) -> bool:
        """Delete the stored tokens; ``False`` if ``owner`` has lost the claim."""
        return self._update({"ciphertext": None, "renew_at": 0.0}, tokens.c.owner == owner)

    def _update(self, values: Mapping[str, Any], *where: Any, patience: float = PATIENCE) -> bool:
        mine = (self._this_row, *where)
        make_room = update(tokens).where(*mine).values(room=None)
        statement = update(tokens).where(*mine).values(**values)

        def work(connection: Connection) -> bool:
            # The reserved bytes are freed first, so that the tokens fit where these were.
            connection.execute(make_room)
            return connection.execute(statement).rowcount == 1

        return self._database.run(work, patience)


def _room() -> str:
    # Random, because PostgreSQL compresses what it can; base64 makes four characters of three bytes.
    return secrets.token_urlsafe(_ROOM * 3 // 4)
