"""The wake-ups: which sends Sendoso's webhooks have said to be changed, for the waits that look here every few seconds.

A webhook says that a send changed and not to what (published), so nothing but its ids and the moment is stored.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import and_, bindparam, delete, or_, select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import sends, wakeups
from airflow_provider_sendoso.ledger.statements import in_groups, now_on

LONGEST_ID = 190
"""Characters of a message's id and of a send's: the longest text that every database can have as a key."""

KEPT = 30 * 86_400.0
"""Seconds for which a message's id is remembered, so that one that a person replays from the portal wakes nobody again.
After that, a replay costs one request."""

_PATIENCE = 5.0
"""Seconds for which the writing is repeated: Sendoso waits 15 s for the answer (published), and then sends again."""

_PRUNE_EVERY = 3600.0

_MOST = 20_000
"""The newest wake-ups that one look reads; the sends of older ones are found by the rare poll."""


@dataclass(frozen=True)
class Wakeup:
    """
    A send that has changed.

    :param account: the account of the send.
    :param svix_id: the message's id.
    :param send_gid: the id by which the webhook names the send.
    :param ago: seconds since it was received, on the database's clock.
    :param send_id: the id in the ledger of the send with that ``send_gid``, if it knows one.
    :param bound_id: that send's id in the Send Tracker's list, if it is known.
    """

    account: str
    svix_id: str
    send_gid: str
    ago: float
    send_id: str | None = None
    bound_id: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The ids that the send may have in a wait."""
        return tuple(dict.fromkeys(name for name in (self.send_gid, self.send_id, self.bound_id) if name is not None))


class Wakeups:
    """
    Stores and reads wake-ups.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._prune_at = 0.0

    def note(self, account: str, svix_id: str, send_gid: str) -> None:
        """
        Store a wake-up; a message that is already there keeps the moment at which it was received first.

        Wake-ups that are older than :data:`KEPT` are deleted, which nothing else does.

        :param account: the account of the send.
        :param svix_id: the message's id, at most :data:`LONGEST_ID` characters.
        :param send_gid: the send's id, at most as long.
        :raises SendosoLedgerError: if the ledger could not be written.
        """
        prunes = time.monotonic() >= self._prune_at

        def work(connection: Connection) -> None:
            now = now_on(connection)
            row = {"account": account, "svix_id": svix_id, "send_gid": send_gid, "received_at": now}
            self._database.insert_ignore(connection, wakeups, [row])
            if prunes:
                connection.execute(delete(wakeups).where(wakeups.c.received_at < now - KEPT))

        self._database.run(work, _PATIENCE)
        if prunes:
            self._prune_at = time.monotonic() + _PRUNE_EVERY

    def recent(self, seconds: float, account: str | None = None) -> list[Wakeup]:
        """
        Read the wake-ups of the last seconds, the newest first.

        :param seconds: how far back to look, on the database's clock.
        :param account: whose they are; ``None``: all accounts'.
        :raises SendosoLedgerError: if the ledger could not be read.
        """
        known = and_(sends.c.account == wakeups.c.account, sends.c.send_gid == wakeups.c.send_gid)
        columns = (wakeups.c.account, wakeups.c.svix_id, wakeups.c.send_gid, wakeups.c.received_at)
        query = (
            select(*columns, sends.c.send_id, sends.c.bound_id)
            .select_from(wakeups.outerjoin(sends, known))
            .order_by(wakeups.c.received_at.desc())
            .limit(_MOST)
        )
        if account is not None:
            query = query.where(wakeups.c.account == account)

        def work(connection: Connection) -> list[Wakeup]:
            # The clock is read first: PostgreSQL would not use the index for a moment that moves on meanwhile.
            now = now_on(connection)
            rows = connection.execute(query.where(wakeups.c.received_at > now - seconds)).fetchall()
            return [Wakeup(*row[:3], now - row[3], *row[4:]) for row in rows]

        return self._database.read(work)

    def gids(self, account: str, send_ids: Iterable[str]) -> dict[str, str]:
        """
        Read by which ids webhooks name sends.

        :param account: the account of the sends.
        :param send_ids: their ids in the ledger, or in the Send Tracker's list.
        :return: the ``send_gid`` by those ids, as far as the ledger has it.
        """
        found: dict[str, str] = {}
        columns = (sends.c.send_gid, sends.c.send_id, sends.c.bound_id)
        for some in in_groups(list(send_ids)):
            named = or_(sends.c.send_id.in_(some), sends.c.bound_id.in_(some))
            query = select(*columns).where(sends.c.account == account, sends.c.send_gid.is_not(None), named)
            asked = set(some)
            for gid, *names in self._database.read(partial(_rows, query=query)):
                found |= {name: gid for name in names if name in asked}
        return found

    def note_gids(self, account: str, gids: Mapping[str, str]) -> None:
        """
        Store by which ids webhooks name sends; ids that the ledger does not know are left out.

        :param account: the account of the sends.
        :param gids: the ``send_gid`` by the id in the ledger, or in the Send Tracker's list.
        :raises SendosoLedgerError: if the ledger could not be written.
        """
        statement = (
            update(sends)
            .where(
                sends.c.account == account,
                or_(sends.c.send_id == bindparam("known_id"), sends.c.bound_id == bindparam("known_id")),
                sends.c.send_gid.is_(None),
            )
            .values(send_gid=bindparam("gid"))
        )
        for some in in_groups(sorted(gids)):
            rows = [{"known_id": send_id, "gid": gids[send_id]} for send_id in some]

            def work(connection: Connection, rows: list[dict[str, str]] = rows) -> None:
                connection.execute(statement, rows)

            self._database.run(work)


def _rows(connection: Connection, query: Any) -> list[Any]:
    return list(connection.execute(query).fetchall())
