"""SQL, and nothing of HTTP or Airflow: what was sent to whom, the account's token and the account's pace."""

from __future__ import annotations

from sqlalchemy.engine import Engine

from airflow_provider_sendoso.ledger.database import Database, Identity
from airflow_provider_sendoso.ledger.limiter import LedgerPace
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.ledger.tokens import LedgerTokenStore


class Ledger:
    """
    The small SQL database that remembers, opened and with its tables in place.

    :param engine: PostgreSQL, MySQL, MariaDB or SQLite.
    :raises SendosoConfigError: for a database that cannot be a ledger.
    :raises SendosoLedgerError: for one that does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._database = Database(engine)
        self.identity: Identity = self._database.open()
        self.sends = SendLedger(self._database)

    def tokens(self, client: tuple[str, ...], secret: str) -> LedgerTokenStore:
        """Return the store of one client's token; see :class:`LedgerTokenStore`."""
        return LedgerTokenStore(self._database, self.identity, client, secret)

    def pace(self, account: str, interval: float, poll_share: int) -> LedgerPace:
        """Return the pace of one account; see :class:`LedgerPace`."""
        return LedgerPace(self._database, account, interval, poll_share)
