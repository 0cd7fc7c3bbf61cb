"""Reads what is on the page of one campaign alone: reasons, what was sent over time, and its batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, and_, func, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from airflow_provider_sendoso.ledger.overview.rows import LOOKED_AT, Ran, Readable, Reads, ran_of, select_batches
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import batches, plans, sends
from airflow_provider_sendoso.ledger.statements import now_on

CHARTED = 200_000
"""The most sends of a timeline, which is that of the last ones of a larger scope."""


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


class Details(Reads):
    """What became of a campaign's sends, when, and in which batches."""

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
        query = (
            select_batches().where(*these).order_by(batches.c.created_at.desc(), batches.c.batch_id.desc()).limit(limit)
        )
        return self._read(lambda connection: [ran_of(row) for row in connection.execute(query)])

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
        query = (
            select_batches()
            .add_columns(batches.c.account)
            .where(*these)
            .order_by(batches.c.created_at, batches.c.batch_id)
        )
        return self._read(
            lambda connection: [(row.account, ran_of(row)) for row in connection.execute(query.limit(limit))]
        )

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
