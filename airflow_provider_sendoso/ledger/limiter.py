"""The account's pace: one row that hands out slots to the whole deployment, on the database's clock."""

from __future__ import annotations

from sqlalchemy import case, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import Update

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import db_now, pace


class LedgerPace:
    """
    Hands out one account's slots.

    :param database: the ledger's.
    :param account: whose rate it is.
    :param interval: seconds between two slots.
    """

    def __init__(self, database: Database, account: str, interval: float) -> None:
        self._database = database
        self._account = account
        self._interval = interval
        self._this_row = pace.c.account == account

    def reserve(self) -> float:
        """Take the account's next slot; return the seconds until it comes up, 0 for now."""
        free = case((pace.c.tat > db_now(), pace.c.tat), else_=db_now())
        take = update(pace).where(self._this_row).values(slot=free, tat=free + self._interval)
        # The wait is relative and measured after the row was locked: no two clocks are compared.
        wait = select(pace.c.slot - db_now()).where(self._this_row)

        def work(connection: Connection) -> float:
            self._ensure_row(connection, take)
            return float(connection.execute(wait).scalar_one())

        return max(0.0, self._database.run(work))

    def push_back(self, seconds: float) -> None:
        """Let nobody of the account call for so many seconds."""
        later = db_now() + seconds
        push = update(pace).where(self._this_row).values(tat=case((pace.c.tat > later, pace.c.tat), else_=later))
        self._database.run(lambda connection: self._ensure_row(connection, push))

    def _ensure_row(self, connection: Connection, statement: Update) -> None:
        if connection.execute(statement).rowcount == 0:
            new = {"account": self._account, "tat": 0.0, "slot": 0.0}
            self._database.insert_ignore(connection, pace, [new])
            connection.execute(statement)
