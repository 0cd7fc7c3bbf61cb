"""What the reads share: who may see which DAGs, a batch, and the statement that selects it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import and_, literal, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import batches, plans, sends

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds for which a read is repeated: somebody waits for the page, and can load it again."""

LOOKED_AT = 5_000
"""The most rows of a scope that are read one by one; what is more is left out, and said to be."""
JUST_NOW = 60.0
"""Seconds of which the present rate is counted."""

AT_WORK = (State.CLAIMED, State.POSTING)

_UNDECIDED = (State.UNKNOWN, State.HELD, State.POSTING)


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


class Reads:
    """
    Reads a page of rows.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._database.read(work, PATIENCE)


def select_sender(account: str, dedupe_scope: str, readable: Readable) -> Any:
    """
    Select a row if one of the DAGs has sent in a scope.

    :param account: whose scope it is.
    :param dedupe_scope: its name.
    :param readable: the DAGs that may be seen.
    """
    here = (batches.c.account == account, batches.c.dedupe_scope == dedupe_scope)
    return select(literal(1)).where(*here, *readable.these()).limit(1)


def undecided(account: str, now: float) -> ColumnElement[bool]:
    """
    Select what is open, and what was being posted by a process that has died.

    :param account: the account of the sends.
    :param now: the database's time.
    """
    lost = or_(sends.c.state != State.POSTING, sends.c.lease_until <= now)
    return and_(sends.c.account == account, sends.c.state.in_(_UNDECIDED), lost)


def select_batches() -> Any:
    """Select batches, with what the last try of each had to do."""
    columns = [column for column in batches.c if column.name != "account"]
    joined = batches.outerjoin(plans, plans.c.batch_id == batches.c.batch_id)
    return select(*columns, plans.c.rows_to_send, plans.c.results_table).select_from(joined)


def select_sends() -> Any:
    """Select sends, and the batch of each under names of its own."""
    of = [batches.c[name] for name in ("dag_id", "task_id", "run_id", "map_index")]
    joined = sends.join(batches, batches.c.batch_id == sends.c.batch_id)
    return select(sends, *of, batches.c.created_at.label("ran_at")).select_from(joined)


def ran_of(row: Any) -> Ran:
    """
    Make a batch of a row.

    :param row: of one of the two statements above.
    """
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
