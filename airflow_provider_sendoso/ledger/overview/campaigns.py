"""Reads campaigns for their list, and one of them for its page: what became of the sends, the limits, the last run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, func, literal, or_, select, union_all
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_sendoso.ledger.overview.rows import (
    AT_WORK,
    JUST_NOW,
    LOOKED_AT,
    Ran,
    Readable,
    Reads,
    ran_of,
    select_batches,
    select_sender,
    undecided,
)
from airflow_provider_sendoso.ledger.records import PERHAPS_SENT, State
from airflow_provider_sendoso.ledger.schema import batches, scopes, sends, spending
from airflow_provider_sendoso.ledger.spending import spans
from airflow_provider_sendoso.ledger.statements import now_on
from airflow_provider_sendoso.models import SendStatus, StatusReport
from airflow_provider_sendoso.models.spending import Limit

SORTS = ("newest", "oldest", "name", "active")
"""The orders of campaigns; ``active``: the last POST first."""

_FREE = (*AT_WORK, State.READY)

_READ_OF_EACH = 1_000
"""The sends without an index that are read of each campaign, however many campaigns a page has."""


@dataclass
class Campaign:
    """
    A scope and what became of its sends.

    :param recipient_key: the field that identifies a recipient within it.
    :param created_at: epoch seconds.
    :param states: the sends by state.
    :param statuses: the SENT ones by status; an empty text for those whose status was not read yet.
    :param on_hold: the SENT ones that Sendoso holds until somebody there decides, by Sendoso's word.
    :param is_on_hold_cut: whether there may be more of them: not all sends were looked at.
    :param spent: cost of what was sent, in millionths, by currency.
    :param reserved: the same of what may have been sent.
    :param unpriced: sends of both without a stored price.
    :param at_work: sends that a live process has claimed or posts.
    :param lost: sends that a process posted which has died since.
    :param rate: sends that were posted within the last minute.
    :param rate_seconds: since the first of them.
    :param last_posted_at: epoch seconds; ``None`` before the first POST.
    :param limits: those that a task has set for the scope.
    :param batches: how many have sent in it.
    :param last: the newest of them.
    :param last_done: the sends of that batch that are no longer at work or free.
    """

    dedupe_scope: str
    recipient_key: str
    created_at: float
    states: Counter[State] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    on_hold: Counter[str] = field(default_factory=Counter)
    is_on_hold_cut: bool = False
    spent: Counter[str] = field(default_factory=Counter)
    reserved: Counter[str] = field(default_factory=Counter)
    unpriced: int = 0
    at_work: int = 0
    lost: int = 0
    rate: int = 0
    rate_seconds: float = JUST_NOW
    last_posted_at: float | None = None
    limits: list[Limit] = field(default_factory=list)
    batches: int = 0
    last: Ran | None = None
    last_done: int = 0


class Campaigns(Reads):
    """What the list of campaigns shows, and the page of one at a glance."""

    def campaigns(
        self,
        account: str,
        readable: Readable,
        *,
        sort: str = "newest",
        state: str | None = None,
        named: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int,
    ) -> list[Campaign]:
        """
        Read a page of the account's scopes, with what became of their sends.

        :param account: whose they are.
        :param readable: the DAGs that may be seen; a scope is shown if one of them has sent in it.
        :param sort: one of :data:`SORTS`.
        :param state: ``running``, ``held``, or ``None`` for all.
        :param named: a part of the scope's name.
        :param after: the sort value and the name of the last scope of the page before; see :func:`position`.
        :param limit: the most scopes to read.
        """
        mine = and_(sends.c.account == scopes.c.account, sends.c.dedupe_scope == scopes.c.dedupe_scope)
        last_posted = select(func.max(sends.c.posted_at)).where(mine).correlate(scopes).scalar_subquery()
        value = func.coalesce(last_posted, scopes.c.created_at) if sort == "active" else scopes.c.created_at
        name = scopes.c.dedupe_scope
        these: list[Any] = [scopes.c.account == account]
        if conditions := readable.these():
            ours = (batches.c.account == scopes.c.account, batches.c.dedupe_scope == scopes.c.dedupe_scope)
            # Not EXISTS, which a planner may turn into a join over all batches.
            one = select(literal(1)).where(*ours, *conditions).limit(1).correlate(scopes).scalar_subquery()
            these.append(one == 1)
        if named:
            these.append(name.contains(named, autoescape=True))
        order: tuple[Any, ...]
        match sort:
            case "name":
                order = (name,)
                these += [name > after[1]] if after else []
            case "oldest":
                order = (value, name)
                these += [or_(value > after[0], and_(value == after[0], name > after[1]))] if after else []
            case _:
                order = (value.desc(), name.desc())
                these += [or_(value < after[0], and_(value == after[0], name < after[1]))] if after else []

        def work(connection: Connection) -> list[Campaign]:
            now = now_on(connection)
            query = select(name, scopes.c.recipient_key, scopes.c.created_at, last_posted).where(*these)
            if state is not None:
                in_state = _working(account, now) if state == "running" else undecided(account, now)
                query = query.where(name.in_(select(sends.c.dedupe_scope).where(in_state).distinct()))
            found = [
                Campaign(scope, key, float(created), last_posted_at=posted)
                for scope, key, created, posted in connection.execute(query.order_by(*order).limit(limit))
            ]
            self._fill(connection, account, found, now)
            return found

        return self._read(work)

    def campaign(self, account: str, dedupe_scope: str, readable: Readable) -> Campaign | None:
        """
        Read one scope.

        :param account: whose it is.
        :param dedupe_scope: its name.
        :param readable: the DAGs that may be seen.
        :return: ``None`` if there is no such scope, or none of the DAGs has sent in it.
        """
        this = (scopes.c.account == account, scopes.c.dedupe_scope == dedupe_scope)
        query = select(scopes.c.recipient_key, scopes.c.created_at).where(*this)
        seen = select_sender(account, dedupe_scope, readable)
        last = select(func.max(sends.c.posted_at)).where(
            sends.c.account == account, sends.c.dedupe_scope == dedupe_scope
        )

        def work(connection: Connection) -> Campaign | None:
            row = connection.execute(query).first()
            if row is None or connection.execute(seen).first() is None:
                return None
            found = Campaign(dedupe_scope, row[0], float(row[1]), last_posted_at=connection.execute(last).scalar())
            self._fill(connection, account, [found], now_on(connection))
            return found

        return self._read(work)

    def may_read(self, account: str, dedupe_scope: str, readable: Readable) -> bool:
        """
        Return whether there is such a scope, and one of the DAGs has sent in it.

        :param account: whose it is.
        :param dedupe_scope: its name.
        :param readable: the DAGs that may be seen.
        """
        seen = select_sender(account, dedupe_scope, readable)
        return self._read(lambda connection: connection.execute(seen).first()) is not None

    def _fill(self, connection: Connection, account: str, found: Sequence[Campaign], now: float) -> None:
        """Add to scopes what became of their sends, their limits, and their newest batch."""
        by_scope = {campaign.dedupe_scope: campaign for campaign in found}
        if not by_scope:
            return
        here = (sends.c.account == account, sends.c.dedupe_scope.in_(list(by_scope)))
        columns = (sends.c.dedupe_scope, sends.c.state, sends.c.status, sends.c.currency)
        totals = select(*columns, func.count(), func.sum(sends.c.cost)).where(*here).group_by(*columns)
        for scope, word, status, currency, number, cost in connection.execute(totals):
            campaign, state = by_scope[scope], State(word)
            campaign.states[state] += number
            if state is State.SENT:
                campaign.statuses[status or ""] += number
            if state in PERHAPS_SENT:
                if currency is None:
                    campaign.unpriced += number
                else:
                    (campaign.spent if state is State.SENT else campaign.reserved)[currency] += int(cost or 0)
        alive = (sends.c.lease_until > now).label("alive")
        working = select(sends.c.dedupe_scope, sends.c.state, alive, func.count()).where(
            *here, sends.c.state.in_(AT_WORK)
        )
        working = working.group_by(sends.c.dedupe_scope, sends.c.state, "alive")
        for scope, word, is_alive, number in connection.execute(working):
            if is_alive:
                by_scope[scope].at_work += number
            elif word == State.POSTING:
                by_scope[scope].lost += number
        lately = (*here, sends.c.posted_at > now - JUST_NOW)
        rates = select(sends.c.dedupe_scope, func.count(), func.min(sends.c.posted_at)).where(*lately)
        for scope, number, first in connection.execute(rates.group_by(sends.c.dedupe_scope)):
            by_scope[scope].rate, by_scope[scope].rate_seconds = number, max(1.0, now - float(first))
        names = {spans(account, scope, now)["scope"].name: scope for scope in by_scope}
        limited = select(spending.c.name, spending.c.max_sends, spending.c.max_cost).where(
            spending.c.account == account, spending.c.name.in_(list(names))
        )
        for name, max_sends, max_cost in connection.execute(limited):
            by_scope[names[name]].limits = _scope_limits(max_sends, max_cost)
        self._add_on_hold(connection, account, found)
        self._add_last(connection, account, by_scope)

    def _add_on_hold(self, connection: Connection, account: str, found: Sequence[Campaign]) -> None:
        """
        Count what waits at Sendoso by Sendoso's words, which no index has.

        So many rows of each campaign are read that a page of them stays quick.
        """
        waiting = [campaign for campaign in found if campaign.statuses[SendStatus.PENDING]]
        if not waiting:
            return
        most = max(LOOKED_AT // len(waiting), _READ_OF_EACH)
        some = [
            select(sends.c.dedupe_scope, sends.c.status_words)
            .where(
                sends.c.account == account,
                sends.c.dedupe_scope == campaign.dedupe_scope,
                sends.c.state == State.SENT,
                sends.c.status == SendStatus.PENDING,
            )
            .limit(most)
            .subquery()
            for campaign in waiting
        ]
        read = union_all(*(select(of_one) for of_one in some)).subquery()
        query = select(read.c.dedupe_scope, read.c.status_words, func.count())
        by_scope = {campaign.dedupe_scope: campaign for campaign in waiting}
        for scope, stored, number in connection.execute(query.group_by(read.c.dedupe_scope, read.c.status_words)):
            report = StatusReport.stored(SendStatus.PENDING, stored)
            if report is not None and report.on_hold and report.word is not None:
                by_scope[scope].on_hold[report.word] += number
        for campaign in waiting:
            campaign.is_on_hold_cut = campaign.statuses[SendStatus.PENDING] > most

    def _add_last(self, connection: Connection, account: str, by_scope: Mapping[str, Campaign]) -> None:
        ours = batches.alias()
        newest = select(func.max(ours.c.created_at)).where(
            ours.c.account == batches.c.account, ours.c.dedupe_scope == batches.c.dedupe_scope
        )
        here = (batches.c.account == account, batches.c.dedupe_scope.in_(list(by_scope)))
        counts = select(batches.c.dedupe_scope, func.count()).where(*here).group_by(batches.c.dedupe_scope)
        for scope, number in connection.execute(counts):
            by_scope[scope].batches = number
        query = select_batches().where(*here, batches.c.created_at == newest.correlate(batches).scalar_subquery())
        for row in connection.execute(query.order_by(batches.c.batch_id)):
            by_scope[row.dedupe_scope].last = ran_of(row)
        planned: dict[str, Campaign] = {}
        for campaign in by_scope.values():
            if campaign.at_work and campaign.last is not None and campaign.last.rows_to_send is not None:
                if campaign.batches > 1:
                    planned[campaign.last.batch_id] = campaign
                else:  # those of a single batch are counted already
                    campaign.last_done = sum(campaign.states[state] for state in State if state not in _FREE)
        done = select(sends.c.batch_id, func.count()).where(
            sends.c.batch_id.in_(list(planned)), sends.c.state.not_in(_FREE)
        )
        if planned:
            for batch_id, number in connection.execute(done.group_by(sends.c.batch_id)):
                planned[batch_id].last_done = number

    def sends_from(self, account: str, readable: Readable) -> bool:
        """
        Return whether one of the DAGs has ever sent as an account.

        :param account: the account.
        :param readable: the DAGs.
        """
        query = select(literal(1)).where(batches.c.account == account, *readable.these()).limit(1)
        return self._read(lambda connection: connection.execute(query).first()) is not None


def position(campaign: Campaign, sort: str) -> tuple[float, str]:
    """
    Return where a page ends, for the next one to go on from.

    :param campaign: the last one of the page.
    :param sort: one of :data:`SORTS`.
    """
    last = campaign.last_posted_at if sort == "active" else None
    return campaign.created_at if last is None else last, campaign.dedupe_scope


def _working(account: str, now: float) -> ColumnElement[bool]:
    return and_(sends.c.account == account, sends.c.state.in_(AT_WORK), sends.c.lease_until > now)


def _scope_limits(max_sends: int | None, max_cost: int | None) -> list[Limit]:
    most: Collection[tuple[str, int | None, bool]] = (
        ("scope_max_sends", max_sends, False),
        ("scope_max_cost", max_cost, True),
    )
    return [Limit(name, "scope", int(value), is_cost=is_cost) for name, value, is_cost in most if value is not None]
