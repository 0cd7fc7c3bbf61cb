"""Reads what was used of the limits on sends and cost; ``spending.py`` decides by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import scopes, sends, spending
from airflow_provider_sendoso.ledger.spending import DAY, WENT_OUT, WHEN, count, doubt, spans
from airflow_provider_sendoso.ledger.statements import now_on
from airflow_provider_sendoso.models import Item
from airflow_provider_sendoso.models.spending import Limit, Price, SpendingLimits, Used, from_millionths


@dataclass(frozen=True)
class BudgetLine:
    """
    What was used of a scope, a day or a month, and the limits on it.

    :param period: ``scope``, ``day`` or ``month``.
    :param of: which one.
    :param used: what was spent and reserved.
    :param limits: the limits; none if it is not limited.
    """

    period: str
    of: str
    used: Used
    limits: tuple[Limit, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the line for a program to read; costs are texts, by currency."""
        used = self.used
        return {
            "period": self.period,
            "of": self.of,
            "spent": {"sends": used.spent, "cost": _amounts(used.cost_spent)},
            "reserved": {"sends": used.reserved, "cost": _amounts(used.cost_reserved)},
            "unpriced": used.unpriced,
            "limits": [
                {
                    "name": limit.name,
                    "most": str(from_millionths(limit.most)) if limit.is_cost else limit.most,
                    "left": self._left(limit),
                }
                for limit in self.limits
            ],
        }

    def as_lines(self) -> list[str]:
        """Return the line for people, and one for each limit."""
        used = self.used
        parts = []
        for what, sends_, cost in (
            ("spent", used.spent, used.cost_spent),
            ("reserved", used.reserved, used.cost_reserved),
        ):
            costs = ", ".join(f"{amount} {currency}" for currency, amount in _amounts(cost).items())
            parts.append(f"{what} {sends_}{f' ({costs})' if costs else ''}")
        unpriced = f", {used.unpriced} without a stored price" if used.unpriced else ""
        left = [f"    {limit}: {self._left(limit)} left" for limit in self.limits] or ["    no limit"]
        of = repr(self.of) if self.period == "scope" else self.of
        return [f"{self.period} {of}: {', '.join(parts)}{unpriced}", *left]

    def _left(self, limit: Limit) -> Any:
        """Return what is left of a limit; ``None`` if the costs are in several currencies."""
        currencies = self.used.currencies
        if limit.is_cost and len(currencies) > 1:
            return None
        left = max(0, limit.most - self.used.total(limit, currencies[0] if currencies else ""))
        return str(from_millionths(left)) if limit.is_cost else left


class Budget:
    """
    What the accounts have used.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def lines(self, account: str, limits: SpendingLimits, dedupe_scope: str | None = None) -> list[BudgetLine]:
        """
        Read what was used of this day, of this month, and of each scope that a task has limited.

        :param account: whose budget it is.
        :param limits: those of the connection; the ledger knows those of the scopes.
        :param dedupe_scope: only this scope, whether it is limited or not.
        """
        known = select(scopes.c.dedupe_scope).where(scopes.c.account == account).order_by(scopes.c.created_at)
        if dedupe_scope is not None:
            known = known.where(scopes.c.dedupe_scope == dedupe_scope)
        limited = select(spending.c.name, spending.c.max_sends, spending.c.max_cost).where(
            spending.c.account == account, spending.c.name.like("scope:%")
        )

        def work(connection: Connection) -> list[BudgetLine]:
            now = now_on(connection)
            most = {name: (sends, cost) for name, sends, cost in connection.execute(limited)}
            today = spans(account, "", now)
            found = [] if dedupe_scope is not None else [("day", today["day"]), ("month", today["month"])]
            lines = [
                BudgetLine(
                    period,
                    span.said,
                    count(connection, span),
                    tuple(limit for limit in limits if limit.period == period),
                )
                for period, span in found
            ]
            for scope in connection.execute(known).scalars().all():
                span = spans(account, scope, now)["scope"]
                if span.name in most or dedupe_scope is not None:
                    set_there = tuple(_scope_limits(*most.get(span.name, (None, None))))
                    lines.append(BudgetLine("scope", scope, count(connection, span), set_there))
            return lines

        return self._database.read(work)

    def of_limits(self, account: str, dedupe_scope: str, limits: SpendingLimits) -> list[tuple[Limit, str, Used]]:
        """
        Return what was used of each limit, and of which scope, day or month it is.

        :param account: the account that is limited.
        :param dedupe_scope: the scope that is limited.
        :param limits: the limits.
        """

        def work(connection: Connection) -> list[tuple[Limit, str, Used]]:
            of = spans(account, dedupe_scope, now_on(connection))
            used = {period: count(connection, of[period]) for period in {limit.period for limit in limits}}
            return [(limit, of[limit.period].said, used[limit.period]) for limit in limits]

        return self._database.read(work) if limits.any else []

    def last_gifts(self, account: str, email_hashes: Iterable[str], days: float) -> dict[str, float]:
        """
        Return when some people were last sent something, of any scope and kind, that has gone out or may have.

        :param account: the account of the sends.
        :param email_hashes: the people, at most a few dozen.
        :param days: how far back to look.
        :return: epoch seconds by hash; people who were sent nothing are left out.
        """
        these = (sends.c.account == account, sends.c.email_hash.in_(list(email_hashes)), WENT_OUT)
        query = select(sends.c.email_hash, func.max(WHEN)).where(*these).group_by(sends.c.email_hash)

        def work(connection: Connection) -> dict[str, float]:
            since = now_on(connection) - days * DAY
            return {person: float(when) for person, when in connection.execute(query.having(func.max(WHEN) > since))}

        return self._database.read(work)

    def unpriced(self, account: str, dedupe_scope: str, limits: SpendingLimits) -> Counter[Item]:
        """
        Count by gift or campaign the sends without a stored price that count in a limit on cost.

        :param account: the account of the sends.
        :param dedupe_scope: the scope of the limits.
        :param limits: the limits.
        """

        def work(connection: Connection) -> Counter[Item]:
            these = _priced_spans(account, dedupe_scope, limits, now_on(connection))
            query = (
                select(sends.c.gift_id, sends.c.touch_id, func.count()).where(*these).group_by("gift_id", "touch_id")
            )
            return Counter({Item(gift, touch): number for gift, touch, number in connection.execute(query)})

        return self._database.read(work) if limits.on_cost else Counter()

    def set_price(self, account: str, dedupe_scope: str, limits: SpendingLimits, item: Item, price: Price) -> None:
        """
        Store a price with the sends of a gift or campaign that :meth:`unpriced` counts.

        :param account: the account of the sends.
        :param dedupe_scope: the scope of the limits.
        :param limits: the limits.
        :param item: the gift or campaign.
        :param price: what one of it costs now.
        """
        of_item = (
            sends.c.gift_id == item.gift_id if item.gift_id is not None else sends.c.gift_id.is_(None),
            sends.c.touch_id == item.touch_id if item.touch_id is not None else sends.c.touch_id.is_(None),
        )

        def work(connection: Connection) -> None:
            these = _priced_spans(account, dedupe_scope, limits, now_on(connection))
            values = {"cost": price.millionths, "currency": price.currency}
            doubt(self._database, connection, account)
            connection.execute(update(sends).where(*these, *of_item).values(**values))

        self._database.run(work)


def _amounts(costs: Mapping[str, int]) -> dict[str, str]:
    return {currency: str(from_millionths(cost)) for currency, cost in sorted(costs.items())}


def _scope_limits(max_sends: int | None, max_cost: int | None) -> Iterator[Limit]:
    if max_sends is not None:
        yield Limit("scope_max_sends", "scope", max_sends)
    if max_cost is not None:
        yield Limit("scope_max_cost", "scope", max_cost, is_cost=True)


def _priced_spans(
    account: str, dedupe_scope: str, limits: SpendingLimits, now: float
) -> tuple[ColumnElement[bool], ...]:
    """Select the sends without a price in the spans in which a cost is limited."""
    of = spans(account, dedupe_scope, now)
    limited = {limit.period for limit in limits if limit.is_cost}
    return (or_(*(of[period].these for period in sorted(limited))), WENT_OUT, sends.c.currency.is_(None))
