"""Accounts: which client first sent gifts under each name, so that two organisations never share one send history."""

from __future__ import annotations

from sqlalchemy import select, union
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import accounts, scopes
from airflow_provider_sendoso.ledger.statements import now_on
from airflow_provider_sendoso.models.identity import likeness


class Accounts:
    """
    The accounts of a ledger.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, account: str, client: str, *, named: bool) -> None:
        """
        Refuse an account that another client has registered, or that is registered under another spelling; only reads.

        :param account: as the connection names it, or its host.
        :param client: hash of the connection's client.
        :param named: whether the connection names the account.
        :raises SendosoConfigError: naming the other spelling, or the connection of the other client.
        """
        self._database.read(lambda connection: _look(connection, account, client, named))

    def register(self, account: str, client: str, conn_id: str, *, named: bool) -> None:
        """
        Register the client and the connection of an account, unless the account is registered already.

        :param account: as the connection names it, or its host.
        :param client: hash of the connection's client.
        :param conn_id: of the connection, for messages.
        :param named: whether the connection names the account.
        :raises SendosoConfigError: as :meth:`check` does.
        """

        def work(connection: Connection) -> None:
            if not _look(connection, account, client, named):
                row = {"account": account, "client": client, "conn_id": conn_id[:250], "created_at": now_on(connection)}
                self._database.insert_ignore(connection, accounts, [row])
                _look(connection, account, client, named)  # two processes may insert at once; only one row stays

        if not self._database.read(lambda connection: _look(connection, account, client, named)):
            self._database.run(work)


def _look(connection: Connection, account: str, client: str, named: bool) -> bool:
    """Refuse as :meth:`Accounts.check` does; return whether the account is registered."""
    query = select(accounts.c.client, accounts.c.conn_id).where(accounts.c.account == account)
    first = connection.execute(query).first()
    if first is None:
        # Only while the account is not registered: accounts that sent before schema version 5 have scopes, and no
        # registration.
        known = connection.execute(union(select(accounts.c.account), select(scopes.c.account))).scalars()
        spelt = sorted(str(name) for name in known)
        others = [name for name in spelt if likeness(name) == likeness(account)]
        if others and account not in spelt:
            raise SendosoConfigError(
                f"The ledger knows the account {account!r} as {others[0]!r}. Under the other spelling nobody has been "
                f"sent a gift yet, and everybody would be sent a second one. Set account to {others[0]!r} in the "
                "connection's extra. Nothing was sent."
            )
    elif not named and first.client != client:
        raise SendosoConfigError(
            f"The connection {first.conn_id!r}, which has another client ID, has sent gifts as the account "
            f"{account!r}, and this connection names no account of its own. If both belong to one organisation at "
            f'Sendoso (the client ID was replaced, say), set "account": "{account}" in the extra of this connection, '
            "so that they share the memory of who was sent a gift; if not, set another account. Nothing was sent."
        )
    return first is not None
