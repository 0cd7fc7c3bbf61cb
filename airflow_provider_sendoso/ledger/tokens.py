"""The account's access token, shared by the whole deployment: encrypted at rest, renewed by one process at a time."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import or_, select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.database import Database, Identity
from airflow_provider_sendoso.ledger.schema import db_now, tokens


class LedgerTokenStore:
    """
    Keeps one client's token in the ledger.

    The encryption key is derived from the client secret: a changed secret makes the old row useless, not an error.

    :param database: the ledger's.
    :param identity: the ledger's; salts the key.
    :param client: what tells one client's tokens from another's: base URL, client ID, grant type, scope.
    :param secret: the client secret.
    """

    def __init__(self, database: Database, identity: Identity, client: tuple[str, ...], secret: str) -> None:
        self._database = database
        self._token_key = hashlib.sha256("\0".join(client).encode()).hexdigest()
        derived = HKDF(hashes.SHA256(), 32, salt=identity.hash_key, info=b"airflow-provider-sendoso token").derive(
            secret.encode()
        )
        self._cipher = Fernet(base64.urlsafe_b64encode(derived))
        self._this_row = tokens.c.token_key == self._token_key

    def read(self) -> tuple[str, float] | None:
        """Return the newest token and the seconds until it should be renewed; ``None`` where there is none."""
        query = select(tokens.c.ciphertext, tokens.c.renew_at - db_now()).where(self._this_row)
        row = self._database.run(lambda connection: connection.execute(query).first())
        if row is None or row[0] is None:
            return None
        try:
            return self._cipher.decrypt(row[0].encode()).decode(), float(row[1])
        except InvalidToken:
            return None

    def claim(self, owner: str, lease: float) -> bool:
        """Become the one who renews, for ``lease`` seconds; ``False`` while another is."""

        def work(connection: Connection) -> bool:
            new = {"token_key": self._token_key, "renew_at": 0.0, "lease_until": 0.0, "renewals": 0}
            self._database.insert_ignore(connection, tokens, [new])
            free = or_(tokens.c.owner.is_(None), tokens.c.owner == owner, tokens.c.lease_until <= db_now())
            claimed = {"owner": owner, "lease_until": db_now() + lease}
            return connection.execute(update(tokens).where(self._this_row, free).values(**claimed)).rowcount == 1

        return self._database.run(work)

    def store(self, owner: str, access_token: str, renew_after: float) -> None:
        """Keep a new token that should be renewed after so many seconds, if ``owner`` still holds the claim."""
        values = {
            "ciphertext": self._cipher.encrypt(access_token.encode()).decode(),
            "renew_at": db_now() + renew_after,
            "renewals": tokens.c.renewals + 1,
        }
        self._update(owner, values)

    def release(self, owner: str) -> None:
        """Give the claim back."""
        self._update(owner, {"owner": None})

    def _update(self, owner: str, values: Mapping[str, Any]) -> None:
        statement = update(tokens).where(self._this_row, tokens.c.owner == owner).values(**values)
        self._database.run(lambda connection: connection.execute(statement))
