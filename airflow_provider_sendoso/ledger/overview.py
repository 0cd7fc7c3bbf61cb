"""Reads the ledger for people who look at it: campaigns, a campaign, what is open, a person, an account.

Every read takes one page of rows, and is answered from an index however many sends there are. None of them changes a
send: a POSTING whose process is gone is told as open, and becomes UNKNOWN when somebody decides about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Integer, and_, func, literal, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import PERHAPS_SENT, Record, State, record_of
from airflow_provider_sendoso.ledger.schema import (
    batches,
    identity,
    pace,
    plans,
    scopes,
    sends,
    spending,
)
from airflow_provider_sendoso.ledger.spending import count, spans
from airflow_provider_sendoso.ledger.statements import in_groups, now_on
from airflow_provider_sendoso.models import StatusReport
from airflow_provider_sendoso.models.spending import Limit, SpendingLimits

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds for which a read is repeated: somebody waits for the page, and can load it again."""

LOOKED_AT = 5_000
"""The most rows of a scope that are read one by one; what is more is left out, and said to be."""

CHARTED = 200_000
"""The most sends of a timeline, which is that of the last ones of a larger scope."""

JUST_NOW = 60.0
"""Seconds of which the present rate is counted."""

SORTS = ("newest", "oldest", "name", "active")
"""The orders of campaigns; ``active``: the last POST first."""

_AT_WORK = (State.CLAIMED, State.POSTING)
_FREE = (*_AT_WORK, State.READY)
_UNDECIDED = (State.UNKNOWN, State.HELD, State.POSTING)


class whole(FunctionElement[int]):
    """The whole part of a number that is not negative."""

    type = Integer()
    inherit_cache = True
    name = "whole"


@compiles(whole)
def _floor(element: whole, compiler: Any, **kw: Any) -> str:
    return f"FLOOR({compiler.process(element.clauses, **kw)})"


@compiles(whole, "sqlite")
def _cast(element: whole, compiler: Any, **kw: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **kw)} AS INTEGER)"  # SQLite can be built without FLOOR


@dataclass(frozen=True)
class Readable:
    """
    The DAGs whose sends a person may see.

    :param dag_ids: only sends of these; ``None``: of all but the hidden ones.
    :param hidden: never sends of these.
    """

    dag_ids: frozenset[str] | None = None
    hidden: frozenset[str] = frozenset()

    def has(self, dag_id: str) -> bool:
        """
        Return whether the sends of a DAG may be seen.

        :param dag_id: the DAG.
        """
        return dag_id not in self.hidden and (self.dag_ids is None or dag_id in self.dag_ids)

    def these(self) -> list[ColumnElement[bool]]:
        """Return the conditions on a row of ``sendoso_batches``; none if every DAG may be seen."""
        found: list[ColumnElement[bool]] = []
        if self.dag_ids is not None:
            found.append(batches.c.dag_id.in_(sorted(self.dag_ids)))
        if self.hidden:
            found.append(batches.c.dag_id.not_in(sorted(self.hidden)))
        return found


EVERYTHING = Readable()


@dataclass(frozen=True)
class Ran:
    """
    A batch: the sends of one task instance in all its tries.

    :param created_at: epoch seconds of its first try.
    :param rows_to_send: of its last try, invalid rows and repeated keys left out; ``None`` for a single gift, and where
        an older release has sent it.
    :param results_table: where its results are written.
    """

    batch_id: str
    dedupe_scope: str
    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    created_at: float
    rows_to_send: int | None = None
    results_table: str | None = None


@dataclass
class Campaign:
    """
    A scope and what became of its sends.

    :param recipient_key: the field that identifies a recipient within it.
    :param created_at: epoch seconds.
    :param states: the sends by state.
    :param statuses: the SENT ones by status; an empty text for those whose status was not read yet.
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
class Timeline:
    """
    When the sends of a scope were posted.

    :param first: epoch seconds of the first POST.
    :param width: seconds of a step.
    :param counts: sends that were posted within each step.
    :param is_cut: whether there are earlier ones.
    """

    first: float
    width: float
    counts: Sequence[int]
    is_cut: bool = False


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


class Overview:
    """
    What the pages in Airflow's UI show.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- campaigns -------------------------------------------------------------------------------------------------

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
                in_state = _working(account, now) if state == "running" else _undecided(account, now)
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
        seen = _seen(account, dedupe_scope, readable)
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
        seen = _seen(account, dedupe_scope, readable)
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
            *here, sends.c.state.in_(_AT_WORK)
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
        self._add_last(connection, account, by_scope)

    def _add_last(self, connection: Connection, account: str, by_scope: Mapping[str, Campaign]) -> None:
        ours = batches.alias()
        newest = select(func.max(ours.c.created_at)).where(
            ours.c.account == batches.c.account, ours.c.dedupe_scope == batches.c.dedupe_scope
        )
        here = (batches.c.account == account, batches.c.dedupe_scope.in_(list(by_scope)))
        counts = select(batches.c.dedupe_scope, func.count()).where(*here).group_by(batches.c.dedupe_scope)
        for scope, number in connection.execute(counts):
            by_scope[scope].batches = number
        query = _ran().where(*here, batches.c.created_at == newest.correlate(batches).scalar_subquery())
        for row in connection.execute(query.order_by(batches.c.batch_id)):
            by_scope[row.dedupe_scope].last = _ran_of(row)
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

    # -- one campaign ----------------------------------------------------------------------------------------------

    def reasons(self, account: str, dedupe_scope: str) -> Counter[tuple[State, str]]:
        """
        Count the sends of a scope that did not simply go out, by state and reason: at most :data:`LOOKED_AT` of them.

        :param account: whose scope it is.
        :param dedupe_scope: its name.
        """
        some = (
            select(sends.c.state, sends.c.reason)
            .where(
                sends.c.account == account,
                sends.c.dedupe_scope == dedupe_scope,
                sends.c.state.in_((State.REFUSED, State.UNKNOWN, State.HELD, State.READY)),
            )
            .limit(LOOKED_AT)
            .subquery()
        )
        query = select(some.c.state, some.c.reason, func.count()).group_by(some.c.state, some.c.reason)

        def work(connection: Connection) -> Counter[tuple[State, str]]:
            return Counter(
                {(State(state), reason or ""): number for state, reason, number in connection.execute(query)}
            )

        return self._read(work)

    def words(self, account: str, dedupe_scope: str) -> Counter[str]:
        """
        Count the sends of a scope that wait at Sendoso, by Sendoso's own word: at most :data:`LOOKED_AT` of them.

        :param account: whose scope it is.
        :param dedupe_scope: its name.
        """
        some = (
            select(sends.c.status, sends.c.status_words)
            .where(
                sends.c.account == account,
                sends.c.dedupe_scope == dedupe_scope,
                sends.c.state == State.SENT,
                sends.c.status == "pending",
            )
            .limit(LOOKED_AT)
            .subquery()
        )
        query = select(some.c.status, some.c.status_words, func.count()).group_by(some.c.status, some.c.status_words)

        def work(connection: Connection) -> Counter[str]:
            found = Counter[str]()
            for status, stored, number in connection.execute(query):
                report = StatusReport.stored(status, stored)
                if report is not None and report.on_hold and report.word is not None:
                    found[report.word] += number
            return found

        return self._read(work)

    def timeline(self, account: str, dedupe_scope: str, steps: int) -> Timeline | None:
        """
        Count when the sends of a scope were posted: the last :data:`CHARTED` of them.

        :param account: whose scope it is.
        :param dedupe_scope: its name.
        :param steps: into how many equal steps the time from the first POST to the last is cut.
        :return: ``None`` if nothing was posted.
        """
        here = (sends.c.account == account, sends.c.dedupe_scope == dedupe_scope)
        first_one, last_one = (
            select(of(sends.c.posted_at)).where(*here, sends.c.posted_at.is_not(None)) for of in (func.min, func.max)
        )
        cut = (
            select(sends.c.posted_at)
            .where(*here, sends.c.posted_at.is_not(None))
            .order_by(sends.c.posted_at.desc())
            .offset(CHARTED - 1)
            .limit(1)
        )

        def work(connection: Connection) -> Timeline | None:
            # Two statements, each of which an index answers at once.
            first, last = connection.execute(first_one).scalar(), connection.execute(last_one).scalar()
            if first is None or last is None:
                return None
            earliest = connection.execute(cut).scalar()
            begins = float(first) if earliest is None else float(earliest)
            width = max((float(last) - begins) / steps * 1.000_001, 0.001)
            step = whole((sends.c.posted_at - begins) / width).label("step")
            posted = select(step, func.count()).where(*here, sends.c.posted_at >= begins).group_by("step")
            counts = [0] * steps
            for number, count_ in connection.execute(posted):
                counts[min(int(number), steps - 1)] += count_
            return Timeline(begins, width, counts, begins > float(first))

        return self._read(work)

    def batches(
        self,
        account: str,
        dedupe_scope: str,
        readable: Readable,
        *,
        after: tuple[float, str] | None = None,
        limit: int,
    ) -> list[Ran]:
        """
        Read a page of a scope's batches, the newest first.

        :param account: whose scope it is.
        :param dedupe_scope: its name.
        :param readable: the DAGs that may be seen.
        :param after: ``created_at`` and id of the last batch of the page before.
        :param limit: the most batches to read.
        """
        these = [batches.c.account == account, batches.c.dedupe_scope == dedupe_scope, *readable.these()]
        if after is not None:
            made, batch_id = batches.c.created_at, batches.c.batch_id
            these.append(or_(made < after[0], and_(made == after[0], batch_id < after[1])))
        query = _ran().where(*these).order_by(batches.c.created_at.desc(), batches.c.batch_id.desc()).limit(limit)
        return self._read(lambda connection: [_ran_of(row) for row in connection.execute(query)])

    def states_of(self, found: Sequence[Ran]) -> dict[str, Counter[State]]:
        """
        Count the sends of some batches by state.

        :param found: the batches.
        :return: by batch id.
        """
        states: dict[str, Counter[State]] = {ran.batch_id: Counter() for ran in found}
        query = select(sends.c.batch_id, sends.c.state, func.count()).where(sends.c.batch_id.in_(list(states)))
        query = query.group_by(sends.c.batch_id, sends.c.state)

        def work(connection: Connection) -> dict[str, Counter[State]]:
            for batch_id, state, number in connection.execute(query):
                states[batch_id][State(state)] = number
            return states

        return self._read(work) if found else {}

    def of_run(
        self, dag_id: str, run_id: str, task_id: str | None = None, map_index: int | None = None, *, limit: int
    ) -> list[tuple[str, Ran]]:
        """
        Read what a DAG run, or a task instance of it, has sent.

        :param dag_id: the DAG.
        :param run_id: the run.
        :param task_id: only this task.
        :param map_index: only this one of a mapped task's instances.
        :param limit: the most batches to read.
        :return: the accounts and the batches.
        """
        these = [batches.c.dag_id == dag_id, batches.c.run_id == run_id]
        if task_id is not None:
            these.append(batches.c.task_id == task_id)
        if map_index is not None:
            these.append(batches.c.map_index == map_index)
        query = _ran().add_columns(batches.c.account).where(*these).order_by(batches.c.created_at, batches.c.batch_id)
        return self._read(
            lambda connection: [(row.account, _ran_of(row)) for row in connection.execute(query.limit(limit))]
        )

    # -- open sends ------------------------------------------------------------------------------------------------

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
            these = [_undecided(account, now), sends.c.send_key > after, *readable.these()]
            if dedupe_scope is not None:
                these.append(sends.c.dedupe_scope == dedupe_scope)
            query = _with_batch().where(*these).order_by(sends.c.send_key).limit(limit)
            return [Open(record_of(row, now), _ran_of(row)) for row in connection.execute(query)]

        return self._read(work)

    def count_open(self, account: str, readable: Readable, most: int) -> int:
        """
        Count the sends whose outcome nobody knows.

        :param account: whose they are.
        :param readable: the DAGs that may be seen.
        :param most: where to stop counting.
        """

        def work(connection: Connection) -> int:
            these = [_undecided(account, now_on(connection))]
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
        query = _ran().where(batches.c.batch_id.in_(ids))
        return self._read(lambda connection: {row.batch_id: _ran_of(row) for row in connection.execute(query)})

    # -- a person --------------------------------------------------------------------------------------------------

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
                query = _with_batch().where(these, *readable.these()).order_by(sends.c.created_at.desc()).limit(limit)
                for row in connection.execute(query):
                    found[row.send_key] = Open(record_of(row, now), _ran_of(row))
            return sorted(found.values(), key=lambda one: one.record.posted_at or one.ran.created_at, reverse=True)

        return self._read(work)[:limit]

    # -- an account ------------------------------------------------------------------------------------------------

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

    def budgets(self, account: str, limits: SpendingLimits) -> list[tuple[Limit, str, int, str]]:
        """
        Read what was used of the account's own limits.

        What the ledger has counted is read, which is never less than what was used; the sends themselves are added up
        only where nothing was counted yet.

        :param account: whose limits they are.
        :param limits: those of its connection.
        :return: for each limit its day or month, how much was used, and the currency of a cost.
        """

        def work(connection: Connection) -> list[tuple[Limit, str, int, str]]:
            of = spans(account, "", now_on(connection))
            found = []
            for limit in limits:
                span = of[limit.period]
                query = select(spending.c.sends, spending.c.cost, spending.c.currency).where(
                    spending.c.account == account, spending.c.name == span.name
                )
                row = connection.execute(query).first()
                if row is not None:
                    used, currency = int(row.cost if limit.is_cost else row.sends), row.currency or ""
                else:
                    counted = count(connection, span)
                    currency = next(iter(counted.currencies), "")
                    used = counted.total(limit, currency)
                found.append((limit, span.said, used, currency))
            return found

        return self._read(work)

    # -- what a batch has to do --------------------------------------------------------------------------------------

    def note_plan(self, batch_id: str, rows_to_send: int, results_table: str | None) -> None:
        """
        Store how many rows a batch's try has to send, so that a page can say how far it is.

        :param batch_id: the batch.
        :param rows_to_send: invalid rows and repeated keys left out.
        :param results_table: where the results are written; cut at 250 characters.
        """

        def work(connection: Connection) -> None:
            values = {
                "rows_to_send": rows_to_send,
                "results_table": None if results_table is None else results_table[:250],
                "noted_at": now_on(connection),
            }
            this = update(plans).where(plans.c.batch_id == batch_id).values(**values)
            if connection.execute(this).rowcount == 0:
                self._database.insert_ignore(connection, plans, [{"batch_id": batch_id, **values}])

        self._database.run(work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._database.run(work, PATIENCE)


def position(campaign: Campaign, sort: str) -> tuple[float, str]:
    """
    Return where a page ends, for the next one to go on from.

    :param campaign: the last one of the page.
    :param sort: one of :data:`SORTS`.
    """
    last = campaign.last_posted_at if sort == "active" else None
    return campaign.created_at if last is None else last, campaign.dedupe_scope


def _seen(account: str, dedupe_scope: str, readable: Readable) -> Any:
    here = (batches.c.account == account, batches.c.dedupe_scope == dedupe_scope)
    return select(literal(1)).where(*here, *readable.these()).limit(1)


def _working(account: str, now: float) -> ColumnElement[bool]:
    return and_(sends.c.account == account, sends.c.state.in_(_AT_WORK), sends.c.lease_until > now)


def _undecided(account: str, now: float) -> ColumnElement[bool]:
    """Select what is open, and what was being posted by a process that has died."""
    lost = or_(sends.c.state != State.POSTING, sends.c.lease_until <= now)
    return and_(sends.c.account == account, sends.c.state.in_(_UNDECIDED), lost)


def _ran() -> Any:
    columns = [column for column in batches.c if column.name != "account"]
    joined = batches.outerjoin(plans, plans.c.batch_id == batches.c.batch_id)
    return select(*columns, plans.c.rows_to_send, plans.c.results_table).select_from(joined)


def _with_batch() -> Any:
    """Select sends, and their batch under names of its own."""
    of = [batches.c[name] for name in ("dag_id", "task_id", "run_id", "map_index")]
    joined = sends.join(batches, batches.c.batch_id == sends.c.batch_id)
    return select(sends, *of, batches.c.created_at.label("ran_at")).select_from(joined)


def _ran_of(row: Any) -> Ran:
    return Ran(
        row.batch_id,
        row.dedupe_scope,
        row.dag_id,
        row.task_id,
        row.run_id,
        row.map_index,
        float(getattr(row, "ran_at", row.created_at)),
        getattr(row, "rows_to_send", None),
        getattr(row, "results_table", None),
    )


def _scope_limits(max_sends: int | None, max_cost: int | None) -> list[Limit]:
    most: Collection[tuple[str, int | None, bool]] = (
        ("scope_max_sends", max_sends, False),
        ("scope_max_cost", max_cost, True),
    )
    return [Limit(name, "scope", int(value), is_cost=is_cost) for name, value, is_cost in most if value is not None]
