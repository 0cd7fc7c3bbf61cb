"""Reads sends one by one: what somebody has to decide, what was decided and can be taken back, what a person had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import and_, func, select
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.overview.rows import (
    Ran,
    Readable,
    Reads,
    ran_of,
    select_batches,
    select_sends,
    undecided,
)
from airflow_provider_sendoso.ledger.records import Record, State, record_of
from airflow_provider_sendoso.ledger.resolutions import Resolution, resolution_of
from airflow_provider_sendoso.ledger.schema import batches, resolutions, scopes, sends
from airflow_provider_sendoso.ledger.statements import in_groups, now_on


@dataclass(frozen=True)
class Open:
    """
    A send that nobody knows the outcome of.

    :param record: the send.
    :param ran: its batch.
    """

    record: Record
    ran: Ran


@dataclass(frozen=True)
class Decided:
    """
    A send that was said not to have gone out, and that nobody has claimed since: the decision can be taken back.

    :param open: the send and its batch.
    :param decision: the decision.
    """

    open: Open
    decision: Resolution


class SeenSends(Reads):
    """What is known of single sends."""

    def open_sends(
        self,
        account: str,
        readable: Readable,
        *,
        dedupe_scope: str | None = None,
        after: str = "",
        limit: int,
    ) -> list[Open]:
        """
        Read a page of the sends whose outcome nobody knows, in the order of their keys.

        :param account: whose they are.
        :param readable: the DAGs that may be seen.
        :param dedupe_scope: only those of a scope.
        :param after: the key of the last send of the page before.
        :param limit: the most sends to read.
        """

        def work(connection: Connection) -> list[Open]:
            now = now_on(connection)
            these = [undecided(account, now), sends.c.send_key > after, *readable.these()]
            if dedupe_scope is not None:
                these.append(sends.c.dedupe_scope == dedupe_scope)
            query = select_sends().where(*these).order_by(sends.c.send_key).limit(limit)
            return [Open(record_of(row, now), ran_of(row)) for row in connection.execute(query)]

        return self._read(work)

    def decided_sends(
        self, account: str, readable: Readable, *, dedupe_scope: str | None = None, limit: int
    ) -> list[Decided]:
        """
        Read the sends that were decided not to have gone out and are still free, the last decision first.

        :param account: whose they are.
        :param readable: the DAGs that may be seen.
        :param dedupe_scope: only those of a scope.
        :param limit: the most sends to read.
        """
        these = [
            sends.c.account == account,
            sends.c.state == State.READY,
            # As in `Resolutions.resolve`: each claim is another attempt, so this is the last decision.
            resolutions.c.attempt == sends.c.attempt,
            resolutions.c.to_state == State.READY,
        ]
        if dedupe_scope is not None:
            these.append(sends.c.dedupe_scope == dedupe_scope)
        last = select(resolutions).join(sends, sends.c.send_key == resolutions.c.send_key)
        if conditions := readable.these():
            last = last.join(batches, batches.c.batch_id == sends.c.batch_id).where(*conditions)
        last = last.where(*these).order_by(resolutions.c.resolved_at.desc(), resolutions.c.send_key).limit(limit)

        def work(connection: Connection) -> list[Decided]:
            now = now_on(connection)
            found = {row.send_key: resolution_of(row) for row in connection.execute(last)}
            rows = {
                row.send_key: row
                for some in in_groups(list(found))
                for row in connection.execute(select_sends().where(sends.c.send_key.in_(some)))
            }
            return [
                Decided(Open(record_of(rows[key], now), ran_of(rows[key])), decision)
                for key, decision in found.items()
                if key in rows
            ]

        return self._read(work)

    def count_open(self, account: str, readable: Readable, most: int) -> int:
        """
        Count the sends whose outcome nobody knows.

        :param account: whose they are.
        :param readable: the DAGs that may be seen.
        :param most: where to stop counting.
        """

        def work(connection: Connection) -> int:
            these = [undecided(account, now_on(connection))]
            query = select(sends.c.send_key).where(*these)
            if conditions := readable.these():
                query = query.join(batches, batches.c.batch_id == sends.c.batch_id).where(*conditions)
            some = query.limit(most).subquery()
            return int(connection.execute(select(func.count()).select_from(some)).scalar_one())

        return self._read(work)

    def batches_of(self, records: Iterable[Record]) -> dict[str, Ran]:
        """
        Read the batches of some sends.

        :param records: at most a few hundred sends.
        :return: by batch id.
        """
        ids = sorted({record.batch_id for record in records})
        query = select_batches().where(batches.c.batch_id.in_(ids))
        return self._read(lambda connection: {row.batch_id: ran_of(row) for row in connection.execute(query)})

    def person(
        self, account: str, email_hash: str, key_of: Callable[[str], str], readable: Readable, *, limit: int
    ) -> list[Open]:
        """
        Read what a person was sent, the last first.

        An older release has stored no hash of the address for gifts of the catalogue, so the keys that the address has
        within the newest scopes are looked for, too.

        :param account: the account of the sends.
        :param email_hash: of the person's address.
        :param key_of: the key of a send to the address within a scope.
        :param readable: the DAGs that may be seen.
        :param limit: the most sends to read, and the most scopes to look in.
        """
        mine = scopes.c.account == account
        newest = select(scopes.c.dedupe_scope).where(mine).order_by(scopes.c.created_at.desc()).limit(limit)

        def work(connection: Connection) -> list[Open]:
            now = now_on(connection)
            keys = [key_of(scope) for scope in connection.execute(newest).scalars()]
            found: dict[str, Open] = {}
            by_hash = and_(sends.c.account == account, sends.c.email_hash == email_hash)
            wanted = [by_hash, *(sends.c.send_key.in_(some) for some in in_groups(keys))]
            for these in wanted:
                query = select_sends().where(these, *readable.these()).order_by(sends.c.created_at.desc()).limit(limit)
                for row in connection.execute(query):
                    found[row.send_key] = Open(record_of(row, now), ran_of(row))
            return sorted(found.values(), key=lambda one: one.record.posted_at or one.ran.created_at, reverse=True)

        return self._read(work)[:limit]
