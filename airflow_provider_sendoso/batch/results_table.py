"""The results table: one row per input row, in the author's database, through any of Airflow's DB-API hooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sqlalchemy import Column, Integer, Numeric, String

from airflow_provider_sendoso.batch.row import SpooledOutcome
from airflow_provider_sendoso.batch.summary import WOULD_SEND
from airflow_provider_sendoso.exceptions import SendosoResultsError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Record
from airflow_provider_sendoso.ledger.schema import LONGEST_SCOPE
from airflow_provider_sendoso.models import ITEM_FIELDS, LONGEST_ID, NOTHING, Item, RowOutcome, tracking_code
from airflow_provider_sendoso.models.statuses import LONGEST_WORD
from airflow_provider_sendoso.sending.jobs import chunks, send_key
from airflow_provider_sendoso.warehouse.batch_table import RIGHTS, BatchTable
from airflow_provider_sendoso.warehouse.tables import (
    MOMENT,
    ROWS,
    Cells,
    Transaction,
    moment,
    words_of,
)

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    from airflow_provider_sendoso.batch.spool import BatchSpool

PriceOf = Callable[[Item], tuple[Decimal, str] | None]
"""A send's cost and its currency; ``None`` if they are not known."""

LONGEST_REASON = 500

_PAGE = 1000
"""Number of statuses per transaction."""


def _columns() -> list[Column[Any]]:
    return [
        Column("batch_id", String(32), primary_key=True),
        Column("dedupe_scope", String(LONGEST_SCOPE), nullable=False),
        Column("dag_id", String(250), nullable=False),
        Column("run_id", String(250), nullable=False),
        Column("row_number", Integer, primary_key=True, autoincrement=False),
        Column("row_ref", String(250)),
        Column("recipient_key_hash", String(64)),
        Column("outcome", String(16), nullable=False),
        Column("field", String(190)),
        Column("reason", String(LONGEST_REASON)),
        Column("send_id", String(LONGEST_ID)),
        Column("tracking_code", String(LONGEST_ID)),
        Column("gift_id", String(LONGEST_ID)),
        Column("touch_id", String(LONGEST_ID)),
        Column("sent_at", MOMENT),
        Column("estimated_cost", Numeric(18, 4)),
        Column("currency", String(16)),
        Column("status", String(16)),
        Column("status_at", MOMENT),
        Column("status_word", String(LONGEST_WORD)),
        Column("marketplace_variant_id", String(LONGEST_ID)),
        Column("smart_send", String(LONGEST_ID)),
    ]


COLUMNS = tuple(column.name for column in _columns())


class StatusUpdate(NamedTuple):
    """
    The present status of a send.

    :param status: one of the six.
    :param since: since when it is known, in epoch seconds.
    :param status_word: the status in Sendoso's own word, if that is known.
    """

    send_id: str
    status: str
    since: float | None
    status_word: str | None = None


# -- rows: pure --------------------------------------------------------------------------------------------------------


def with_ledger(row: SpooledOutcome, record: Record | None, batch_id: str) -> SpooledOutcome:
    """
    Replace the outcome of a row that this try did not finish by the ledger's record.

    If a try fails early, an earlier try may still have sent gifts. The table must never say that such a gift did not go
    out, because a person would send it by hand.

    :param row: the row's outcome in this try.
    :param record: the ledger's record, if there is one.
    :param batch_id: this batch's id.
    """
    if record is None or row.outcome in (RowOutcome.DUPLICATE, RowOutcome.INVALID, RowOutcome.REFUSED):
        return row
    outcome = record.outcome_for(batch_id)
    if outcome is RowOutcome.NOT_REACHED:
        return row
    return replace(
        row,
        outcome=outcome,
        reason=row.reason if outcome is row.outcome else record.why,
        send_id=record.send_id,
        item=row.item if record.item == NOTHING else record.item,
        posted_at=record.posted_at,
    )


_KEY_MISSING = re.compile(r"the recipient key \((?P<field>\w+)\) ")
_PROBLEM = re.compile(r"(?P<field>\w+),? (?P<reason>(?:is|has|must|may|needs|names|named) .*)", re.DOTALL)


def split_problem(problem: str) -> tuple[str | None, str]:
    """
    Split a validation problem into the field that it begins with and the reason.

    :param problem: text like ``email is not an e-mail address``; of several problems, the first one gives the field.
    :return: the field, or ``None`` if the problem names none, and the rest.
    """
    if missing := _KEY_MISSING.match(problem):
        return missing["field"], problem
    if split := _PROBLEM.fullmatch(problem):
        return split["field"], split["reason"]
    return None, problem


def cells(
    batch: Batch,
    row: SpooledOutcome,
    recipient_key_hash: str | None,
    record: Record | None,
    *,
    price_of: PriceOf | None = None,
    would_send: bool = False,
) -> Cells:
    """
    Make a row of the table, in the order of its columns.

    :param batch: whose row it is.
    :param row: what became of it.
    :param recipient_key_hash: the ledger's name for the send.
    :param record: the ledger's, for the status of what was sent.
    :param price_of: the price of a send.
    :param would_send: whether what was not reached would have been sent, which is what a dry run finds.
    """
    row = with_ledger(row, record, batch.batch_id)
    sent = row.outcome in (RowOutcome.SENT, RowOutcome.ALREADY_SENT)
    invalid = row.outcome is RowOutcome.INVALID and row.reason
    name, reason = split_problem(str(row.reason)) if invalid else (None, None if sent else row.reason)
    proposed = would_send and row.outcome is RowOutcome.NOT_REACHED
    price = price_of(row.item) if price_of and row.item != NOTHING and (sent or proposed) else None
    status = record if sent else None
    values: dict[str, str | int | None] = {
        "batch_id": batch.batch_id,
        "dedupe_scope": batch.dedupe_scope,
        "dag_id": batch.dag_id,
        "run_id": batch.run_id,
        "row_number": row.number,
        "row_ref": row.row_ref,
        "recipient_key_hash": recipient_key_hash,
        "outcome": WOULD_SEND if proposed else row.outcome.value,
        "field": name,
        "reason": reason.replace("\0", "")[:LONGEST_REASON] if reason else None,
        "send_id": row.send_id,
        "tracking_code": tracking_code(row.send_id),
        **{name: getattr(row.item, name) for name in ITEM_FIELDS},
        "sent_at": moment(row.posted_at) if sent else None,
        "estimated_cost": str(price[0]) if price else None,
        "currency": price[1] if price else None,
        "status": status.status if status else None,
        "status_at": moment(status.status_at) if status else None,
        "status_word": status.status_word if status else None,
    }
    return tuple(values.get(name) for name in COLUMNS)


# -- the database ------------------------------------------------------------------------------------------------------


class ResultsTable(BatchTable):
    """
    One table of results behind a hook; looks nothing up before it is used.

    :param hook: of the author's connection.
    :param table: its name, as it is written in SQL there.
    :raises SendosoConfigError: for a text that is not the name of a table.
    """

    what = "results table"
    column_names = COLUMNS
    later_columns: ClassVar = {
        "status_word": f"VARCHAR({LONGEST_WORD})",
        "marketplace_variant_id": f"VARCHAR({LONGEST_ID})",
        "smart_send": f"VARCHAR({LONGEST_ID})",
    }

    def refresh(self, where: Mapping[str, str], statuses: Iterable[StatusUpdate]) -> None:
        """
        Bring the statuses of sends up to date, where they differ.

        :param where: columns and values, like ``batch_id``; empty for whatever rows have these sends.
        :param statuses: the sends' present statuses.
        :raises SendosoResultsError: if the database would not have it.
        """
        conditions = "".join(f" AND {self._quote(name)} = {self._hook.placeholder}" for name in where)
        try:
            with closing(Transaction(self._hook)) as session:
                self._find(session)
                # Whatever the statuses are read from is read between transactions: it may be the same database.
                for page in chunks(statuses, _PAGE):
                    for updates in _by_status(page):
                        moments = [cell for update in updates for cell in (update.send_id, moment(update.since))]
                        send_ids = [update.send_id for update in updates]
                        new = [updates[0].status, updates[0].status_word][: self._status_columns]
                        known = [value for value in new if value is not None]
                        values = [*new, *moments, *send_ids, *known, *where.values()]
                        session.execute(self._update(conditions, len(updates), len(known)), values)
                    session.commit()
        except SendosoResultsError:
            raise
        except Exception as error:
            raise SendosoResultsError(
                f"The statuses in {self._where} could not be refreshed: {words_of(error)}. {RIGHTS}"
            ) from None

    def _columns(self) -> list[Column[Any]]:
        return _columns()

    def _samples(self, batch: Batch) -> list[Cells]:
        return [_longest(batch), _shortest(batch)]

    def _index(self, session: Transaction) -> None:
        """Let the sensor find sends quickly, where the database has indexes."""
        last = self._table.split(".")[-1]
        name = re.sub(r"\W", "", last)[:50] + "_send_id"
        try:
            columns = ", ".join(map(self._quote, ("send_id", "batch_id")))
            session.execute(f"CREATE INDEX {name} ON {self.name} ({columns})")
            session.commit()
        except Exception:
            session.rollback()

    @property
    def _status_columns(self) -> int:
        """How many columns the status has: without ``status_word`` in a table of an earlier release."""
        return 2 if "status_word" in self._names else 1

    def _update(self, conditions: str, sends: int, compared: int) -> str:
        value = self._hook.placeholder
        status_at, send_id = map(self._quote, ("status_at", "send_id"))
        columns = [self._quote(name) for name in ("status", "status_word")[: self._status_columns]]
        new = ", ".join(f"{column} = {value}" for column in columns)
        differs = " OR ".join(f"{column} IS NULL OR {column} <> {value}" for column in columns[:compared])
        # The ELSE is never taken; it says of which type the moments are.
        moments = f"CASE {send_id} {f'WHEN {value} THEN {value} ' * sends}ELSE {status_at} END"
        return (
            f"UPDATE {self.name} SET {new}, {status_at} = {moments} "  # noqa: S608
            f"WHERE {send_id} IN ({', '.join([value] * sends)}) AND ({differs}){conditions}"
        )


def write_results(
    table: ResultsTable,
    batch: Batch,
    spool: BatchSpool,
    ledger: Ledger,
    *,
    price_of: PriceOf | None = None,
    would_send: bool = False,
) -> None:
    """
    Rewrite a batch's rows from its spool and the ledger, with as much memory for a million as for a hundred.

    :param table: where to.
    :param batch: whose rows they are.
    :param spool: what became of them.
    :param ledger: what is known of them besides; read before the table's transaction begins.
    :param price_of: the price of a send.
    :param would_send: whether this is a dry run's result.
    :raises SendosoResultsError: if the table could not be written.
    :raises SendosoLedgerError: if the ledger could not be read; the table is as it was.
    """
    spool.stage(_rows(batch, spool, ledger, price_of, would_send))
    table.rewrite(batch.batch_id, spool.staged)


def refresh_statuses(hook: DbApiHook, table: str, where: Mapping[str, str], statuses: Iterable[StatusUpdate]) -> None:
    """
    Bring the statuses in a results table up to date; see :meth:`ResultsTable.refresh`.

    :param hook: of the author's connection.
    :param table: the table's name.
    :param where: columns and values, like ``batch_id``.
    :param statuses: the sends' present statuses.
    """
    ResultsTable(hook, table).refresh(where, statuses)


def _rows(
    batch: Batch, spool: BatchSpool, ledger: Ledger, price_of: PriceOf | None, would_send: bool
) -> Iterator[list[Cells]]:
    for page in chunks(spool.outcomes(), ROWS):
        keys = [None if row.recipient_key is None else send_key(ledger, batch, row) for row in page]
        records = ledger.sends.read([key for key in keys if key is not None])
        yield [
            cells(batch, row, key, records.get(key or ""), price_of=price_of, would_send=would_send)
            for row, key in zip(page, keys, strict=True)
        ]


def _by_status(page: Iterable[StatusUpdate]) -> Iterator[Sequence[StatusUpdate]]:
    """Bring together what one statement can update: sends with the same status, each with its moment."""

    def status_of(update: StatusUpdate) -> tuple[str, str]:
        return update.status, update.status_word or ""

    for _, updates in groupby(sorted(page, key=status_of), key=status_of):
        yield from chunks(updates, ROWS)


def _longest(batch: Batch) -> Cells:
    """Make a row that needs all the room that there should be."""
    now = moment(datetime.now(UTC).timestamp())
    return (
        *(batch.batch_id, batch.dedupe_scope, batch.dag_id, batch.run_id, 1, "x" * 250, "x" * 64, "already_sent"),
        *("x" * 190, "x" * LONGEST_REASON, "x" * LONGEST_ID, "x" * LONGEST_ID, "x" * LONGEST_ID, "x" * LONGEST_ID),
        *(now, "12345678.9012", "USD", "processing", now, "x" * LONGEST_WORD, "x" * LONGEST_ID, "x" * LONGEST_ID),
    )


def _shortest(batch: Batch) -> Cells:
    """Make a row with as many NULLs as there can be, and a reference that takes all of Unicode."""
    nulls = [None] * (len(COLUMNS) - 8)
    return (batch.batch_id, batch.dedupe_scope, batch.dag_id, batch.run_id, 2, "é🎁", None, WOULD_SEND, *nulls)
