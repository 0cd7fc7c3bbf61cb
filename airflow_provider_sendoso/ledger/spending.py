"""Keeps the limits on what is sent and spent: each POSTING is counted and checked in the transaction that commits it.

What was used is what the rows of ``sendoso_sends`` say: a send that is SENT was spent, one that is POSTING, UNKNOWN or
HELD is reserved, and no other uses anything. So nothing has to be given back, and a kill leaves nothing wrong.

To add up all rows of a scope for each send would be slow. So ``sendoso_spending`` has a counter for each scope, day and
month that is limited: every POSTING adds to it and nothing is taken away, so it is never less than the rows. Only where
a send would not fit, and once a minute, the rows are added up and the counter is corrected.

Every POSTING of an account locks one row, so that they are decided one after the other.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import String, and_, bindparam, case, func, or_, select, update
from sqlalchemy.engine import Connection, Transaction
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_sendoso.exceptions import SendosoLimitError
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.group_commit import NotTogether
from airflow_provider_sendoso.ledger.records import PERHAPS_SENT, Claim, State
from airflow_provider_sendoso.ledger.schema import Moment, db_now, sends, spending
from airflow_provider_sendoso.models.spending import NO_LIMITS, Limit, Price, SpendingLimits, Used

NEARLY = 0.8
"""The share of a limit from which a run warns."""

_COUNT_AGAIN = 60.0
"""Seconds after which a counter is corrected: workers of an older release add nothing to it."""

_LOCK = ""
"""The name of the row that every POSTING of an account locks; its ``sends`` is the number of the account's counters."""

_SEVERAL = "***"
"""Stands in a counter for more than one currency."""

_MOST_STORED = 2**63 - 1
DAY = 86_400.0

# Built once, because building a statement costs more than running it.
_THIS_ACCOUNT = spending.c.account == bindparam("this_account")
_THIS_COUNTER = and_(_THIS_ACCOUNT, spending.c.name == bindparam("this_name"))
_THIS_LOCK = and_(_THIS_ACCOUNT, spending.c.name == _LOCK)
_TAKE_LOCK = select(db_now(), spending.c.sends).where(_THIS_LOCK).with_for_update()
_ONE_MORE = update(spending).where(_THIS_LOCK).values(sends=spending.c.sends + 1)
_NAMES = [spending.c.name == bindparam(f"this_{period}") for period in ("scope", "day", "month")]
_COUNTERS = select(spending).where(_THIS_ACCOUNT, or_(*_NAMES))
_CURRENCY = bindparam("with_currency", type_=String(3))
_ADD = (
    update(spending)
    .where(_THIS_ACCOUNT, or_(*_NAMES))
    .values(
        sends=spending.c.sends + bindparam("sends_more"),
        cost=spending.c.cost + bindparam("cost_more"),
        currency=case(
            (_CURRENCY.is_(None), spending.c.currency),
            (spending.c.currency.is_(None), _CURRENCY),
            (spending.c.currency == _CURRENCY, spending.c.currency),
            else_=_SEVERAL,
        ),
    )
)
_ADD_AND_READ = _ADD.returning(spending)
_DOUBT = update(spending).where(_THIS_ACCOUNT, spending.c.name != _LOCK).values(counted_at=0.0)
WENT_OUT = or_(*(sends.c.state == state for state in PERHAPS_SENT))
WHEN = func.coalesce(sends.c.posted_at, sends.c.finished_at, sends.c.created_at)
# The state is not in the condition: without statistics, a database may read all that an account has sent by its state.
_LAST_GIFT = select(func.max(case((WENT_OUT, WHEN)))).where(
    sends.c.account == bindparam("this_account"),
    sends.c.email_hash == bindparam("this_person"),
    sends.c.send_key != bindparam("this_key"),
)

_RECENT_GIFTS = (
    select(sends.c.send_key)
    .where(
        sends.c.account == bindparam("this_account"),
        sends.c.email_hash.in_(bindparam("these_people", expanding=True)),
        case((WENT_OUT, WHEN)) > bindparam("since", type_=Moment),
    )
    .limit(1)
)


class Capped(Exception):
    """
    The person was sent something too recently; nothing was posted.

    :param last_gift: when, in epoch seconds.
    """

    def __init__(self, last_gift: float) -> None:
        super().__init__(last_gift)
        self.last_gift = last_gift


@dataclass
class Room:
    """
    What the last decision has left of the limits that it had to keep; other tasks may use it meanwhile.

    :param sends: of the limits on sends.
    :param cost: of the limits on cost, in millionths.
    """

    sends: float = 0
    cost: float = 0


@dataclass
class Fit:
    """
    What a send has to fit in.

    :param limits: the limits.
    :param price: what it costs, or why that is not known.
    :param near: filled with what to warn of, by the name of a limit that is nearly used up.
    :param room: set to what a decision that it fits leaves.
    """

    limits: SpendingLimits
    price: Price | str
    near: dict[str, str]
    room: Room = field(default_factory=Room)


@dataclass
class _Lock:
    """
    The row of an account that a transaction has locked.

    :param account: the account.
    :param now: the database's time when it was locked, in epoch seconds.
    :param counters: how many counters the account has: none where nothing is limited.
    """

    account: str
    now: float
    counters: int


_held: WeakKeyDictionary[Transaction, _Lock] = WeakKeyDictionary()
"""The lock that each running transaction has."""

UNLIMITED = Fit(NO_LIMITS, "no cost is limited", {})
"""What a send has to fit in where there are no limits."""


@dataclass(frozen=True)
class Span:
    """
    A scope, a day or a month of an account.

    :param name: of its counter.
    :param said: in words, for an error.
    :param these: selects its sends.
    """

    name: str
    said: str
    these: ColumnElement[bool]


def spans(account: str, dedupe_scope: str, now: float) -> dict[str, Span]:
    """
    Return the scope, the day and the month in which a send counts.

    :param account: the account that pays.
    :param dedupe_scope: the scope of the send.
    :param now: the moment of its POST, in epoch seconds; days and months are those of UTC.
    """
    return _spans(account, dedupe_scope, datetime.fromtimestamp(now, UTC).date())


@lru_cache(maxsize=64)
def _spans(account: str, dedupe_scope: str, day: date) -> dict[str, Span]:
    """Make them once a day, because that takes longer than to run the statement for which a send needs their names."""
    today = datetime(day.year, day.month, day.day, tzinfo=UTC)
    this_month = today.replace(day=1)
    next_month = (this_month + timedelta(days=32)).replace(day=1)
    scope_hash = hashlib.sha256(dedupe_scope.encode()).hexdigest()[:40]
    mine = sends.c.account == account
    return {
        "scope": Span(
            f"scope:{scope_hash}", f"the scope {dedupe_scope!r}", and_(mine, sends.c.dedupe_scope == dedupe_scope)
        ),
        "day": Span(
            f"day:{today:%Y-%m-%d}", f"{today:%Y-%m-%d} (UTC)", _posted(mine, today, today + timedelta(days=1))
        ),
        "month": Span(f"month:{today:%Y-%m}", f"{today:%Y-%m} (UTC)", _posted(mine, this_month, next_month)),
    }


def _posted(mine: ColumnElement[bool], first: datetime, end: datetime) -> ColumnElement[bool]:
    return and_(mine, sends.c.posted_at >= first.timestamp(), sends.c.posted_at < end.timestamp())


def reserve(database: Database, connection: Connection, claim: Claim, fit: Fit) -> float:
    """
    Count a send that is about to be POSTING, in the transaction that commits it, or refuse it.

    :param database: the ledger's database.
    :param connection: of the transaction, which is rolled back if this raises.
    :param claim: the right to post the send.
    :param fit: what it has to fit in.
    :return: the moment that decides in which day and month the send counts, to be stored as that of its POST.
    :raises Capped: if the person was sent something too recently.
    :raises SendosoLimitError: if the send does not fit in a limit.
    """
    lock = _lock(database, connection, claim.account)
    now = lock.now
    days = fit.limits.min_days_between_gifts
    if days and claim.email_hash is not None and not claim.is_replacement:
        person = {"this_account": claim.account, "this_person": claim.email_hash, "this_key": claim.send_key}
        last_gift = connection.execute(_LAST_GIFT, person).scalar()
        if last_gift is not None and last_gift > now - days * DAY:
            raise Capped(float(last_gift))
    if lock.counters or fit.limits.any:
        _add_and_check(database, connection, claim, fit, now)
    return now


def reserve_all(database: Database, connection: Connection, posts: Sequence[tuple[Claim, Fit]]) -> float:
    """
    Do what :func:`reserve` does for several sends, in as many statements as for one, if all of them surely may be sent.

    :param database: as for :func:`reserve`.
    :param connection: as for :func:`reserve`.
    :param posts: the sends, each with what it has to fit in.
    :return: as :func:`reserve`.
    :raises NotTogether: if one of them might not fit, or their limits differ: then each has to be decided by itself.
    """
    claims = [claim for claim, _ in posts]
    fits = [fit for _, fit in posts]
    prices = [fit.price for fit in fits if isinstance(fit.price, Price)]
    account, scope, limits = claims[0].account, claims[0].dedupe_scope, fits[0].limits
    alike = {(claim.account, claim.dedupe_scope, fit.limits) for claim, fit in posts}
    currencies = {price.currency for price in prices}
    currency = next(iter(currencies), None)
    if len(alike) > 1 or len(currencies) > 1 or (limits.on_cost and len(prices) < len(posts)):
        raise NotTogether
    lock = _lock(database, connection, account)
    if limits.min_days_between_gifts:
        _check_last_gifts(connection, claims, lock.now - limits.min_days_between_gifts * DAY)
    if not lock.counters and not limits.any:
        return lock.now
    of = spans(account, scope, lock.now)
    cost = sum(price.millionths for price in prices)
    counters = _add(database, connection, account, of, len(posts), cost, currency, limits)
    room = Room(math.inf, math.inf)
    for period, span in of.items():
        for limit in (limit for limit in limits if limit.period == period):
            counter = counters.get(span.name)
            if counter is None or not 0 <= lock.now - counter.counted_at < _COUNT_AGAIN:
                raise NotTogether
            if not all(_surely_fits(limit, counter, currency or "", fit.near) for fit in fits):
                raise NotTogether
            left = limit.most - _total(limit, counter)
            room = Room(room.sends, min(room.cost, left)) if limit.is_cost else Room(min(room.sends, left), room.cost)
    if limits.any:
        for fit in fits:
            fit.room.sends, fit.room.cost = room.sends, room.cost
    return lock.now


def _check_last_gifts(connection: Connection, claims: Sequence[Claim], since: float) -> None:
    """Raise :class:`NotTogether` if somebody was sent something since a moment, or is sent two of these gifts."""
    people = [claim.email_hash for claim in claims if claim.email_hash is not None]
    if len(people) != len(set(people)):
        raise NotTogether
    query = {"this_account": claims[0].account, "these_people": people, "since": since}
    if people and connection.execute(_RECENT_GIFTS, query).first() is not None:
        raise NotTogether


def _add(
    database: Database,
    connection: Connection,
    account: str,
    of: Mapping[str, Span],
    number: int,
    cost: int,
    currency: str | None,
    limits: SpendingLimits,
) -> dict[str, Any]:
    """
    Add sends to the counters that are there.

    :return: these counters with the sends, by their names; perhaps none if nothing is limited.
    """
    names = {"this_account": account} | {f"this_{period}": span.name for period, span in of.items()}
    more = {"sends_more": number, "cost_more": cost, "with_currency": currency}
    if database.dialect == "postgresql":
        rows = connection.execute(_ADD_AND_READ, names | more).fetchall()  # saves a round trip
    else:
        counted = connection.execute(_ADD, names | more).rowcount
        rows = connection.execute(_COUNTERS, names).fetchall() if counted and limits.any else []
    return {row.name: row for row in rows}


def _add_and_check(database: Database, connection: Connection, claim: Claim, fit: Fit, now: float) -> None:
    """Add a send to the counters that are there, and refuse it if it does not fit in a limit."""
    of = spans(claim.account, claim.dedupe_scope, now)
    price = fit.price if isinstance(fit.price, Price) else None
    cost, currency = (price.millionths, price.currency) if price else (0, None)
    counters = _add(database, connection, claim.account, of, 1, cost, currency, fit.limits)
    if not fit.limits.any:
        return
    left = {False: [math.inf], True: [math.inf]}
    for period, span in of.items():
        limits = [limit for limit in fit.limits if limit.period == period]
        if limits:
            of_each = _check(database, connection, claim, fit, span, limits, counters.get(span.name), now)
            for limit, of_limit in zip(limits, of_each, strict=True):
                left[limit.is_cost].append(of_limit)
    fit.room.sends, fit.room.cost = min(left[False]), min(left[True])


def _lock(database: Database, connection: Connection, account: str) -> _Lock:
    """Let no other transaction of the account decide until this one ends; one lock serves a whole group commit."""
    transaction = connection.get_transaction()
    assert transaction is not None  # noqa: S101 - a lock that is gone at once decides nothing
    held = _held.get(transaction)
    if held is not None and held.account == account:
        return held
    this = {"this_account": account}
    locked = connection.execute(_TAKE_LOCK, this).first()
    if locked is None:
        first = {"account": account, "name": _LOCK, "sends": 0, "cost": 0, "counted_at": 0.0}
        database.insert_ignore(connection, spending, [first])
        locked = connection.execute(_TAKE_LOCK, this).one()
    _held[transaction] = held = _Lock(account, float(locked[0]), int(locked[1]))
    return held


def _check(
    database: Database,
    connection: Connection,
    claim: Claim,
    fit: Fit,
    span: Span,
    limits: list[Limit],
    counter: Any,
    now: float,
) -> list[int]:
    """
    Refuse a send that does not fit in the limits of a span; its counter has the send already.

    :return: what is left of each limit, or less.
    """
    unpriced = any(limit.is_cost for limit in limits) and not isinstance(fit.price, Price)
    if counter is not None and not unpriced and 0 <= now - counter.counted_at < _COUNT_AGAIN:
        currency = fit.price.currency if isinstance(fit.price, Price) else ""
        if all(_surely_fits(limit, counter, currency, fit.near) for limit in limits):
            return [limit.most - _total(limit, counter) for limit in limits]
    used = count(connection, span, but=claim.send_key)
    _correct(database, connection, claim.account, span, used, fit.price, limits, now)
    return [_refuse_or_warn(limit, span, used, fit) for limit in limits]


def _surely_fits(limit: Limit, counter: Any, currency: str, near: Mapping[str, str]) -> bool:
    """Return whether a send fits that a counter has, which is never less than what was used."""
    if limit.is_cost and counter.currency != currency:
        return False
    total = _total(limit, counter)
    return total <= limit.most and (limit.name in near or total < NEARLY * limit.most)


def _total(limit: Limit, counter: Any) -> int:
    return int(counter.cost if limit.is_cost else counter.sends)


def _refuse_or_warn(limit: Limit, span: Span, used: Used, fit: Fit) -> int:
    """
    Refuse a send that does not fit in a limit; note a limit that is nearly used up.

    :param used: what others have used.
    :return: what is left with this send.
    """
    currency, more = "", 1
    if limit.is_cost:
        if isinstance(fit.price, str):
            raise _over(limit, f"What the next send would cost is not known, so {limit} cannot be kept: {fit.price}.")
        currency, more = fit.price.currency, fit.price.millionths
        others = [name for name in used.currencies if name != currency]
        if others:
            raise _over(
                limit,
                f"{limit} counts one currency: sends of {span.said} are priced in {', '.join(others)}, the next one in "
                f"{currency}.",
            )
    total = used.total(limit, currency) + more
    if total > limit.most:
        error = _over(limit, f"The next send does not fit in {limit} of {span.said}: {used.said(limit, currency)}.")
        error.may_fit_soon = total - used.unsettled(limit, currency) <= limit.most
        raise error
    if total >= NEARLY * limit.most:
        fit.near.setdefault(limit.name, f"{limit} of {span.said} is nearly reached: {used.said(limit, currency)}.")
    return limit.most - total


def _over(limit: Limit, why: str) -> SendosoLimitError:
    error = SendosoLimitError(why)
    error.limit = limit.name
    return error


def count(connection: Connection, span: Span, but: str = "") -> Used:
    """
    Add up what was used, from the sends themselves.

    :param connection: of a transaction.
    :param span: the scope, day or month.
    :param but: the key of a send that is left out.
    """
    # One of "spent", "reserved" and "in_flight".
    part = case(
        (sends.c.state == State.SENT, "spent"),
        (and_(sends.c.state == State.POSTING, sends.c.lease_until > db_now()), "in_flight"),
        else_="reserved",
    ).label("part")
    query = select(part, sends.c.currency, func.count(), func.sum(sends.c.cost)).where(
        span.these, WENT_OUT, sends.c.send_key != but
    )
    number, cost, unpriced = (
        Counter[str](),
        {"spent": Counter[str](), "reserved": Counter[str](), "in_flight": Counter[str]()},
        0,
    )
    for name, currency, rows, millionths in connection.execute(query.group_by("part", sends.c.currency)):
        number[name] += rows
        if currency is None:
            unpriced += rows
        else:
            cost[name][currency] += int(millionths or 0)
    return Used(
        number["spent"],
        number["reserved"] + number["in_flight"],
        cost["spent"],
        cost["reserved"] + cost["in_flight"],
        unpriced,
        number["in_flight"],
        cost["in_flight"],
    )


def _correct(
    database: Database,
    connection: Connection,
    account: str,
    span: Span,
    used: Used,
    price: Price | str,
    limits: Iterable[Limit],
    now: float,
) -> None:
    """Write what was used, and this send, into the counter, with the limits as they are now."""
    currencies = {*used.currencies, *([price.currency] if isinstance(price, Price) else [])}
    cost = sum(used.cost(currency) for currency in used.currencies)
    most = {limit.is_cost: min(limit.most, _MOST_STORED) for limit in limits}
    values = {
        "sends": used.sends + 1,
        "cost": cost + (price.millionths if isinstance(price, Price) else 0),
        "currency": _SEVERAL if len(currencies) > 1 else next(iter(currencies), None),
        "counted_at": now,
        "max_sends": most.get(False),
        "max_cost": most.get(True),
    }
    this = {"this_account": account, "this_name": span.name}
    if connection.execute(update(spending).where(_THIS_COUNTER).values(**values), this).rowcount == 0:
        connection.execute(spending.insert().values(account=account, name=span.name, **values))
        connection.execute(_ONE_MORE, this)
        _lock(database, connection, account).counters += 1


def doubt(database: Database, connection: Connection, account: str) -> None:
    """
    Let every counter of an account be counted anew before it is used, because a decision adds to what was used.

    :param database: the ledger's database.
    :param connection: of the transaction that records the decision.
    :param account: whose decision it is.
    """
    _lock(database, connection, account)
    connection.execute(_DOUBT, {"this_account": account})
