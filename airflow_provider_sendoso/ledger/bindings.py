"""Binds campaign sends to their ids in Sendoso's list of sends.

The answer to a campaign send has a tracking code and no id (published). The id is found in the list later, and is
stored once; ``client/tracker.py`` decides which row of the list belongs to which send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import PERHAPS_SENT, Record, State, record_of
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.ledger.statements import in_groups, now_on
from airflow_provider_sendoso.models import Kind

_OF_CAMPAIGNS = or_(sends.c.kind == Kind.CAMPAIGN, and_(sends.c.kind.is_(None), sends.c.touch_id.is_not(None)))
"""Selects campaign sends without eGift links; older releases stored the kind only for links."""


class Bindings:
    """
    The campaign sends of all accounts, and the ids that they are bound to.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def bind(self, send_key: str, bound_id: str) -> bool:
        """
        Bind an accepted campaign send to its id in Sendoso's list: a send to one id, and an id to one send.

        :param send_key: the key of the send.
        :param bound_id: the id of the send in Sendoso's list.
        :return: ``False`` if the send is bound to another id, the id to another send, or the send is of another kind.
        """
        this = (sends.c.send_key == send_key, sends.c.state == State.SENT, sends.c.bound_id.is_(None), _OF_CAMPAIGNS)
        values = {"bound_id": bound_id, "send_id": func.coalesce(sends.c.send_id, bound_id)}

        def work(connection: Connection) -> bool:
            account = select(sends.c.account).where(sends.c.send_key == send_key).scalar_subquery()
            owner = select(sends.c.send_key).where(sends.c.account == account, sends.c.bound_id == bound_id)
            found = connection.execute(owner).scalar()
            if found is not None:
                return bool(found == send_key)
            return connection.execute(update(sends).where(*this).values(values)).rowcount == 1

        return self._database.run(work)

    def bound_among(self, account: str, ids: Iterable[str]) -> set[str]:
        """
        Return those of the ids that are bound to a send of any kind.

        :param account: the account of the sends.
        :param ids: any number.
        """
        records = (self._read(account, sends.c.bound_id.in_(some)) for some in in_groups(list(ids)))
        return {str(record.bound_id) for page in records for record in page}

    def perhaps_sent(self, account: str, email_hashes: Iterable[str], *, gifts: bool = False) -> list[Record]:
        """
        Read the sends to some recipients that have gone out, or may have, and that the list may show.

        These are sends of every kind but catalogue gifts, which that list does not show (inferred): a row that may
        belong to an eGift link, or to a kind that only a newer release knows, must not be bound to a campaign send.

        :param account: the account of the sends.
        :param email_hashes: the hashes of the recipients' e-mail addresses.
        :param gifts: whether to read catalogue gifts, too: a row without a campaign might be one.
        """
        these: list[Any] = [sends.c.state.in_(PERHAPS_SENT)]
        if not gifts:
            these.append(or_(sends.c.kind.is_(None), sends.c.kind != Kind.GIFT))
        records = (self._read(account, *these, sends.c.email_hash.in_(some)) for some in in_groups(list(email_hashes)))
        return [record for page in records for record in page]

    def newest(self, account: str, kind: Kind, count: int) -> list[Record]:
        """
        Read the newest sends of a kind that are known to have gone out.

        :param account: the account of the sends.
        :param kind: the kind, which the Send Tracker's list shows.
        :param count: the most sends to read.
        """
        of_kind = _OF_CAMPAIGNS if kind is Kind.CAMPAIGN else sends.c.kind == kind
        return self._read(account, sends.c.state == State.SENT, of_kind, limit=count)

    def _read(self, account: str, *where: Any, limit: int | None = None) -> list[Record]:
        query = select(sends).where(sends.c.account == account, *where)
        if limit is not None:
            query = query.order_by(sends.c.posted_at.desc()).limit(limit)

        def work(connection: Connection) -> list[Record]:
            now = now_on(connection)
            return [record_of(row, now) for row in connection.execute(query).fetchall()]

        return self._database.read(work)
