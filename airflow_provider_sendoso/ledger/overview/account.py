"""Reads how an account is doing: its rate, what is used of its limits, and the version of the tables."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, literal, select
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.overview.rows import JUST_NOW, Reads
from airflow_provider_sendoso.ledger.schema import identity, pace, sends, spending
from airflow_provider_sendoso.ledger.spending import Span, count, spans
from airflow_provider_sendoso.ledger.statements import now_on
from airflow_provider_sendoso.models.spending import Limit, SpendingLimits

ADDED_UP = 100_000
"""The most sends whose cost a page adds up by itself; the next send, or the command line, takes the time for more."""


@dataclass(frozen=True)
class Versions:
    """
    The version of the ledger's tables.

    :param tables: theirs.
    :param usable_since: the oldest version whose code may use them.
    """

    tables: int
    usable_since: int
    ledger_uuid: str


class AccountFigures(Reads):
    """What the page of an account shows of the ledger."""

    def versions(self) -> Versions:
        """Read the versions of the ledger's tables."""
        query = select(identity.c.tables_version, identity.c.schema_version, identity.c.ledger_uuid)
        row = self._read(lambda connection: connection.execute(query).one())
        return Versions(row.tables_version or row.schema_version, row.schema_version, row.ledger_uuid)

    def rate(self, account: str) -> tuple[int, float]:
        """
        Count the sends of the last minute.

        :param account: whose they are.
        :return: their number, and the seconds until a request is free to go.
        """
        free = select(pace.c.tat).where(pace.c.account == account)

        def work(connection: Connection) -> tuple[int, float]:
            now = now_on(connection)
            these = (sends.c.account == account, sends.c.posted_at > now - JUST_NOW)
            posted = connection.execute(select(func.count()).where(*these)).scalar_one()
            return int(posted), max(0.0, float(connection.execute(free).scalar() or 0.0) - now)

        return self._read(work)

    def budgets(self, account: str, limits: SpendingLimits) -> list[tuple[Limit, str, int | None, str]]:
        """
        Read what was used of the account's own limits.

        What the ledger has counted is read, which is never less than what was used. Where nothing was counted yet,
        because the limit is newer than the last send, the sends themselves are added up if there are not too many.

        :param account: whose limits they are.
        :param limits: those of its connection.
        :return: for each limit its day or month, how much was used, and the currency of a cost; ``None`` for how much
            where more than :data:`ADDED_UP` sends would have to be added up.
        """

        def work(connection: Connection) -> list[tuple[Limit, str, int | None, str]]:
            of = spans(account, "", now_on(connection))
            found: list[tuple[Limit, str, int | None, str]] = []
            for limit in limits:
                span = of[limit.period]
                query = select(spending.c.sends, spending.c.cost, spending.c.currency).where(
                    spending.c.account == account, spending.c.name == span.name
                )
                row = connection.execute(query).first()
                if row is not None:
                    used = int(row.cost if limit.is_cost else row.sends)
                    found.append((limit, span.said, used, row.currency or ""))
                elif _are_too_many(connection, span):
                    found.append((limit, span.said, None, ""))
                else:
                    counted = count(connection, span)
                    currency = next(iter(counted.currencies), "")
                    found.append((limit, span.said, counted.total(limit, currency), currency))
            return found

        return self._read(work)


def _are_too_many(connection: Connection, span: Span) -> bool:
    # An index has the answer; what was refused is among them, so this is a little too careful.
    return connection.execute(select(literal(1)).where(span.these).offset(ADDED_UP).limit(1)).first() is not None
