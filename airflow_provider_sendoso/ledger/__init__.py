"""SQL, and nothing of HTTP or Airflow: what was sent to whom, the account's token and the account's pace."""

from __future__ import annotations

from sqlalchemy.engine import Engine

from airflow_provider_sendoso.ledger.accounts import Accounts
from airflow_provider_sendoso.ledger.bindings import Bindings
from airflow_provider_sendoso.ledger.bucket.dialect import replica_of
from airflow_provider_sendoso.ledger.bucket.pace import BucketPace
from airflow_provider_sendoso.ledger.budget import Budget
from airflow_provider_sendoso.ledger.cursors import Cursors
from airflow_provider_sendoso.ledger.database import Database, Identity
from airflow_provider_sendoso.ledger.encryption import LinkCipher
from airflow_provider_sendoso.ledger.looks import Looks
from airflow_provider_sendoso.ledger.overview import Overview
from airflow_provider_sendoso.ledger.pace import LedgerPace
from airflow_provider_sendoso.ledger.resolutions import Resolutions
from airflow_provider_sendoso.ledger.send_lists import SendLists
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.ledger.tokens import LedgerTokenStore
from airflow_provider_sendoso.ledger.tries import Tries
from airflow_provider_sendoso.ledger.wakeups import Wakeups
from airflow_provider_sendoso.models import normalise_key


class Ledger:
    """
    The small SQL database that stores what was sent; it is open, and its tables exist.

    :param engine: PostgreSQL, MySQL, MariaDB or SQLite.
    :raises SendosoConfigError: for a database that cannot be a ledger.
    :raises SendosoLedgerError: for one that does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._database = Database(engine)
        self.identity: Identity = self._database.open()
        self.accounts = Accounts(self._database)
        self.sends = SendLedger(self._database)
        self.bindings = Bindings(self._database)
        self.resolutions = Resolutions(self._database)
        self.send_lists = SendLists(self._database)
        self.cursors = Cursors(self._database)
        self.budget = Budget(self._database)
        self.overview = Overview(self._database)
        self.tries = Tries(self.cursors)
        self.looks = Looks(self.cursors)
        self.wakeups = Wakeups(self._database)

    def say_waiting(self) -> None:
        """Log, every few seconds, that threads of this process wait for the database; see :class:`Outages`."""
        self._database.outages.say()

    def send_key(self, account: str, dedupe_scope: str, recipient_key: str, resend_of: str | None = None) -> str:
        """
        Return the key of a send: a keyed hash of the values for which at most one gift goes out.

        A replacement's key depends only on the send that it replaces, so that there is at most one replacement, across
        all scopes and addresses.

        :param account: the account that pays for the gifts.
        :param dedupe_scope: the scope within which a recipient gets at most one gift.
        :param recipient_key: the value that identifies the recipient, normalised.
        :param resend_of: the id of the send that this one replaces.
        """
        if resend_of is not None:
            return self.identity.digest("resend", account, resend_of)
        return self.identity.digest("send", account, dedupe_scope, recipient_key)

    def airflow_key(self, send_key: str) -> str:
        """
        Return the mark in the metadata by which a send can be found in Sendoso.

        Staging and production never find each other's sends: the ledger's identity is in it.

        :param send_key: of :meth:`send_key`.
        """
        return self.identity.digest("airflow_key", self.identity.ledger_uuid, send_key)[:32]

    def email_hash(self, account: str, email: str) -> str:
        """
        Return the hash by which the recipient of a campaign send is recognised in Sendoso's list of sends.

        :param account: the account of the send.
        :param email: the e-mail, in any case.
        """
        return self.identity.digest("email", account, normalise_key(email) or "")

    def client_hash(self, client: tuple[str, ...]) -> str:
        """
        Return the hash that tells one client at Sendoso from another.

        :param client: the client ID alone, or with the host and the grant type.
        """
        return self.identity.digest("client", *client)[:16]

    def payload_hash(self, payload: str) -> str:
        """
        Return the hash of a send's content, by which a changed content is detected.

        :param payload: the send as JSON.
        """
        return self.identity.digest("payload", payload)

    def tokens(self, client: tuple[str, ...], secret: str) -> LedgerTokenStore:
        """
        Return the store of one client's tokens.

        :param client: as for :class:`LedgerTokenStore`, as ``secret`` is.
        """
        return LedgerTokenStore(self._database, self.identity, client, secret)

    def links(self, secret: str) -> LinkCipher:
        """
        Return the cipher of one client's eGift links.

        :param secret: the client secret.
        """
        return LinkCipher(self.identity, secret)

    def pace(self, account: str, interval: float, poll_share: int, *, of: str = "") -> LedgerPace:
        """
        Return a pace of one account.

        :param account: as for :class:`LedgerPace`, as the next two arguments are.
        :param of: the name of a further pace of the account; empty for the one of all its requests.
        """
        # No account begins with a blank, so no other account has the row of a further pace.
        row = account if not of else f" {of} {self.identity.digest('pace', account)}"
        pace = LedgerPace if replica_of(self._database.engine) is None else BucketPace
        return pace(self._database, row, interval, poll_share)
