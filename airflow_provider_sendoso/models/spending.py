"""Limits on what is sent and spent, prices, and what was used of a limit. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

_MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """
    The estimated cost of one send.

    :param amount: item, fulfilment and shipping.
    :param currency: ISO 4217.
    """

    amount: Decimal
    currency: str

    @property
    def millionths(self) -> int:
        """The amount as the ledger stores it: in millionths of the currency, rounded up."""
        return int((self.amount * _MILLION).to_integral_value(ROUND_CEILING))


def from_millionths(number: int) -> Decimal:
    """
    Return an amount of money.

    :param number: in millionths of the currency.
    """
    amount = Decimal(number) / _MILLION
    return amount.quantize(Decimal("0.01")) if number % 10_000 == 0 else amount.normalize()


@dataclass(frozen=True)
class Limit:
    """
    One limit.

    :param name: the argument or the field of the connection that sets it.
    :param period: what it holds for: ``scope``, ``day`` or ``month``.
    :param most: a number of sends, or an amount of money in millionths.
    :param is_cost: whether it is an amount of money.
    """

    name: str
    period: str
    most: int
    is_cost: bool = False

    def __str__(self) -> str:
        return f"{self.name}={from_millionths(self.most) if self.is_cost else self.most}"


@dataclass(frozen=True, kw_only=True)
class SpendingLimits:
    """
    The limits that the ledger keeps, whatever sends at the same time; ``None`` is no limit, and 0 allows nothing.

    :param scope_max_sends: the most sends of the scope, by whichever task.
    :param scope_max_cost: the highest estimated cost of the scope, in the currency of its first send.
    :param max_sends_per_day: the most sends of the account on a day, in UTC.
    :param max_cost_per_month: the highest estimated cost of the account in a calendar month, in UTC.
    :param min_days_between_gifts: the days for which a person who was sent anything of the account is sent nothing
        more; 0 is no limit.
    """

    scope_max_sends: int | None = None
    scope_max_cost: Decimal | None = None
    max_sends_per_day: int | None = None
    max_cost_per_month: Decimal | None = None
    min_days_between_gifts: float | None = None

    @property
    def any(self) -> bool:
        """Whether sends or their cost are limited; ``min_days_between_gifts`` ends no batch."""
        return bool(list(self))

    @property
    def on_cost(self) -> bool:
        """Whether a cost is limited, so that each send needs a price."""
        return any(limit.is_cost for limit in self)

    def __iter__(self) -> Iterator[Limit]:
        for name, period in _COUNTS.items():
            sends: int | None = getattr(self, name)
            if sends is not None:
                yield Limit(name, period, sends)
        for name, period in _COSTS.items():
            cost: Decimal | None = getattr(self, name)
            if cost is not None:
                yield Limit(name, period, int((cost * _MILLION).to_integral_value(ROUND_FLOOR)), is_cost=True)


_COUNTS = {"scope_max_sends": "scope", "max_sends_per_day": "day"}
_COSTS = {"scope_max_cost": "scope", "max_cost_per_month": "month"}

NO_LIMITS = SpendingLimits()


@dataclass(frozen=True)
class Used:
    """
    What was used of a scope, a day or a month, as the sends in the ledger say.

    :param spent: sends that have gone out.
    :param reserved: sends that are being posted, or whose outcome is not known.
    :param cost_spent: cost of the first, in millionths, by currency.
    :param cost_reserved: cost of the second likewise.
    :param in_flight: those of ``reserved`` that a live process is posting: each is spent or given back in a moment.
    :param cost_in_flight: their cost likewise.
    :param unpriced: sends of both whose price was not stored, because no cost was limited when they were made.
    """

    spent: int = 0
    reserved: int = 0
    cost_spent: Mapping[str, int] = field(default_factory=dict)
    cost_reserved: Mapping[str, int] = field(default_factory=dict)
    unpriced: int = 0
    in_flight: int = 0
    cost_in_flight: Mapping[str, int] = field(default_factory=dict)

    @property
    def sends(self) -> int:
        """All sends."""
        return self.spent + self.reserved

    @property
    def currencies(self) -> list[str]:
        """The currencies of the prices."""
        return sorted({*self.cost_spent, *self.cost_reserved})

    def cost(self, currency: str) -> int:
        """Return the cost of all sends that are priced in a currency, in millionths."""
        return self.cost_spent.get(currency, 0) + self.cost_reserved.get(currency, 0)

    def total(self, limit: Limit, currency: str) -> int:
        """Return what was used of a limit, in sends or in millionths of a currency."""
        return self.cost(currency) if limit.is_cost else self.sends

    def unsettled(self, limit: Limit, currency: str) -> int:
        """Return the part of :meth:`total` that is in flight."""
        return self.cost_in_flight.get(currency, 0) if limit.is_cost else self.in_flight

    def said(self, limit: Limit, currency: str) -> str:
        """
        Say what was spent and reserved of a limit, and what is left.

        :param limit: the limit.
        :param currency: the currency of an amount of money.
        """
        left = max(0, limit.most - self.total(limit, currency))
        if not limit.is_cost:
            return f"spent {self.spent} sends, reserved {self.reserved}, left {left}"
        parts = (self.cost_spent.get(currency, 0), self.cost_reserved.get(currency, 0), left)
        spent, reserved, rest = (from_millionths(part) for part in parts)
        unpriced = f"; {self.unpriced} sends without a stored price count as 0" if self.unpriced else ""
        return f"spent {spent} {currency}, reserved {reserved}, left {rest}{unpriced}"
