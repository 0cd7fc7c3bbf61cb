"""The batch's rows on disk: read once from the warehouse, so that sending needs no cursor and little memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from pydantic_core import to_json

from airflow_provider_sendoso.batch.report import MOST, Group
from airflow_provider_sendoso.batch.row import BatchRow, SpooledOutcome
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import (
    ITEM_FIELDS,
    NOTHING,
    AnySend,
    Delivery,
    Item,
    Kind,
    RowOutcome,
    row_name,
)
from airflow_provider_sendoso.sending import Job, Result
from airflow_provider_sendoso.sending.kinds import KINDS
from airflow_provider_sendoso.temporary_database import TemporaryDatabase
from airflow_provider_sendoso.warehouse.tables import Cells

_SCHEMA = f"""
CREATE TABLE rows (
    number INTEGER PRIMARY KEY,
    recipient_key TEXT,
    resend_of TEXT,
    dedupe_key TEXT GENERATED ALWAYS AS (coalesce('resend_of ' || resend_of, 'recipient ' || recipient_key)) STORED,
    row_ref TEXT,
    {" TEXT, ".join(ITEM_FIELDS)} TEXT,
    kind TEXT,
    delivery TEXT,
    country TEXT,
    if_mailed TEXT,
    left_out TEXT,
    send TEXT,
    outcome TEXT NOT NULL,
    reason TEXT,
    send_id TEXT,
    posted_at REAL,
    send_key TEXT,
    posted_now INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE staged (number INTEGER PRIMARY KEY, cells TEXT NOT NULL);
"""

# Nearly every query reads all rows, so pages are large.
_PRAGMAS = "PRAGMA page_size=16384;"

_MEANWHILE = "Who was sent a gift is in the ledger and is not sent another."

_PAGE = 500

_NO_REASON = "?"

_VARIANT = "json_extract(send, '$.variant_id')"

_AT_ONCE = 50
"""Rows inserted at once: few enough to stay in the processor's caches."""

# Absent values are bound as "": for each None sqlite3 looks up an adapter, in 0.3 µs, and a row has five of them.
_ITEM = ", ".join(ITEM_FIELDS)
_OR_NULL = ", nullif(?, '')"
_INSERT = (
    f"INSERT INTO rows (number, outcome, recipient_key, resend_of, row_ref, {_ITEM}, kind, country, "  # noqa: S608
    f"if_mailed, left_out, send, reason) VALUES (?, ?{_OR_NULL * (9 + len(ITEM_FIELDS))})"
)
_OF_ITEM = " AND ".join(f"{name} IS ?" for name in ITEM_FIELDS)
_RECORD = (
    "UPDATE rows SET outcome = ?, reason = ?, send_id = ?, posted_at = ?, send_key = ?, posted_now = ?, "  # noqa: S608
    f"{', '.join(f'{name} = iif(?, ?, {name})' for name in ITEM_FIELDS)} WHERE number = ?"
)

# Looked up once instead of for each of a million rows.
_NOT_REACHED = RowOutcome.NOT_REACHED.value
_INVALID = RowOutcome.INVALID.value
_WORDS = {kind: kind.value for kind in Kind}
_NO_ITEM = ("",) * len(ITEM_FIELDS)


@dataclass(frozen=True)
class Spooled:
    """A row of the spool as logs and errors show it."""

    number: int
    row_ref: str | None
    reason: str | None
    send_id: str | None
    posted_at: float | None
    send_key: str | None

    @property
    def name(self) -> str:
        """The row in a log line or an error."""
        return row_name(self.number, self.row_ref)


class BatchSpool:
    """
    The rows of one batch, a context manager.

    Every row has exactly one outcome at any moment, so the eight counts add up to the rows by construction.
    """

    def __init__(self) -> None:
        self.recorded = self.refused = 0
        """Number of recorded results, and of refusals among them."""
        self._filled = False
        self._db = TemporaryDatabase(_PRAGMAS + _SCHEMA, _MEANWHILE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def fill(self, rows: Iterable[BatchRow]) -> None:
        """
        Store all rows; of several rows for the same send, the first valid one is kept.

        :param rows: the validated rows.
        :raises SendosoConfigError: on a second call, because some hooks split a text with two queries and read each.
        """
        if self._filled:
            raise SendosoConfigError("sql has more than one statement; it must be one query. Nothing was sent.")
        self._filled = True
        self._db.execute("BEGIN")
        cells = map(_cells, rows)
        while page := list(islice(cells, _AT_ONCE)):
            self._db.executemany(_INSERT, page)
        self._db.execute("CREATE INDEX keys ON rows (dedupe_key, number) WHERE send IS NOT NULL")
        self._db.execute("COMMIT")
        self.mark_duplicates()

    def mark_duplicates(self) -> None:
        """
        Mark all but the first valid row for the same send as duplicates, before anything is sent.

        It is called again after rows were rejected, so that the recipient's next row replaces a rejected one.
        """
        self._db.execute(
            "UPDATE rows SET outcome = ?, reason = NULL WHERE outcome = ?",
            (RowOutcome.NOT_REACHED, RowOutcome.DUPLICATE),
        )
        self._db.execute(
            "UPDATE rows SET outcome = ?, reason = 'an earlier row has the same recipient key' "
            "WHERE outcome = ? AND EXISTS (SELECT 1 FROM rows AS earlier "
            "WHERE earlier.dedupe_key = rows.dedupe_key AND earlier.number < rows.number "
            "AND earlier.send IS NOT NULL AND earlier.outcome != ?)",
            (RowOutcome.DUPLICATE, RowOutcome.NOT_REACHED, RowOutcome.INVALID),
        )

    def gift_ids(self, *, without_address: bool = False) -> Iterator[str]:
        """
        Read the distinct gifts of the rows that are not invalid; rows may be rejected meanwhile.

        :param without_address: only the gifts of rows without a complete address.
        """
        after = ""
        while True:
            page = self._db.execute(
                "SELECT DISTINCT gift_id FROM rows WHERE gift_id > ? AND outcome != ? "
                "AND (if_mailed IS NOT NULL OR NOT ?) ORDER BY gift_id LIMIT ?",
                (after, RowOutcome.INVALID, without_address, _PAGE),
            ).fetchall()
            yield from (gift_id for (gift_id,) in page)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def variant_ids(self, gift_id: str) -> list[str]:
        """
        Read the distinct variants of the rows of a gift that are not invalid.

        :param gift_id: of the gift.
        """
        query = f"SELECT DISTINCT {_VARIANT} FROM rows WHERE gift_id = ? AND outcome != ? ORDER BY 1"  # noqa: S608
        rows = self._db.execute(query, (gift_id, RowOutcome.INVALID)).fetchall()
        return [variant_id for (variant_id,) in rows if variant_id is not None]

    def kinds(self) -> list[Kind]:
        """Return the kinds of the rows that are not invalid."""
        rows = self._db.execute("SELECT DISTINCT kind FROM rows WHERE outcome != ?", (RowOutcome.INVALID,))
        return sorted(Kind(kind) for (kind,) in rows if kind is not None)

    def marketplace_variants(self, *, country: str | None = None) -> list[str]:
        """
        Return the distinct variants of the marketplace that rows name which are not invalid.

        :param country: only of the rows with this country.
        """
        rows = self._db.execute(
            "SELECT DISTINCT marketplace_variant_id FROM rows WHERE marketplace_variant_id IS NOT NULL "
            "AND outcome != ?1 AND (?2 IS NULL OR country = ?2) ORDER BY 1",
            (RowOutcome.INVALID, country),
        )
        return [variant_id for (variant_id,) in rows]

    def marketplace_countries(self) -> list[str]:
        """Return the distinct countries of those rows."""
        rows = self._db.execute(
            "SELECT DISTINCT country FROM rows WHERE marketplace_variant_id IS NOT NULL AND country IS NOT NULL "
            "AND outcome != ? ORDER BY 1",
            (RowOutcome.INVALID,),
        )
        return [country for (country,) in rows]

    def reject_country(self, item: Item, country: str, reason: str) -> int:
        """
        Make the rows of one variant of the marketplace invalid that have a country.

        :param item: the variant.
        :param country: to which it does not ship.
        :param reason: the reason.
        :return: the number of rows.
        """
        return self._reject(item, "?", [reason], " AND country = ?", country)

    def touch_ids(self) -> list[str]:
        """Return the distinct campaigns of the rows that are not invalid."""
        query = "SELECT DISTINCT touch_id FROM rows WHERE touch_id IS NOT NULL AND outcome != ? ORDER BY 1"
        return [touch_id for (touch_id,) in self._db.execute(query, (RowOutcome.INVALID,))]

    def note_delivery(self, touch_id: str, delivery: Delivery) -> None:
        """
        Record how a campaign's gifts reach their recipients.

        :param touch_id: the campaign.
        :param delivery: the campaign's delivery.
        """
        self._db.execute("UPDATE rows SET delivery = ? WHERE touch_id = ?", (delivery, touch_id))

    def reject(self, item: Item, reason: str) -> int:
        """
        Make the rows of one gift or campaign invalid.

        :param item: the gift or campaign.
        :param reason: the reason, without values of a row.
        :return: the number of rows.
        """
        return self._reject(item, "?", [reason])

    def reject_variant(self, gift_id: str, variant_id: str, reason: str) -> int:
        """
        Make the rows invalid that name one variant of a gift.

        :param gift_id: of the gift.
        :param variant_id: of the variant.
        :param reason: the reason, without values of a row.
        :return: the number of rows.
        """
        return self._reject(Item(gift_id), "?", [reason], f" AND {_VARIANT} = ?", variant_id)

    def reject_unaddressed(self, item: Item) -> int:
        """
        Make the rows of one gift or campaign invalid that lack what a parcel needs.

        :param item: a gift or campaign that goes by post.
        :return: the number of rows.
        """
        return self._reject(item, "if_mailed", [], " AND if_mailed IS NOT NULL")

    def reject_left_out(self, item: Item | None = None) -> int:
        """
        Make the rows invalid out of whose send was left what a parcel needs, because it may go by post.

        :param item: only the rows of this gift; ``None`` for all gifts of the catalogue.
        :return: the number of rows.
        """
        if item is not None:
            return self._reject(item, "left_out", [], " AND left_out IS NOT NULL")
        return self._db.execute(
            "UPDATE rows SET outcome = ?, reason = left_out "
            "WHERE gift_id IS NOT NULL AND left_out IS NOT NULL AND outcome != ?",
            (RowOutcome.INVALID, RowOutcome.INVALID),
        ).rowcount

    def left_out(self) -> list[tuple[str, int]]:
        """Count by reason the rows that are not invalid and whose send lacks what only a parcel needs."""
        return self._db.execute(
            "SELECT left_out, count(*) FROM rows WHERE left_out IS NOT NULL AND outcome != ? "
            "GROUP BY 1 ORDER BY 2 DESC, 1",
            (RowOutcome.INVALID,),
        ).fetchall()

    def reject_countries(self, item: Item, countries: Sequence[str]) -> int:
        """
        Make the rows of one campaign invalid to whose country it does not ship.

        :param item: a campaign that goes by post.
        :param countries: the countries to which it ships, ISO 3166 alpha-2.
        :return: the number of rows.
        """
        reason = "'address_country is ' || country || ', to which the campaign does not ship'"
        where = " AND country IS NOT NULL AND country NOT IN (SELECT value FROM json_each(?))"
        return self._reject(item, reason, [], where, json.dumps([country.upper() for country in countries]))

    def _reject(self, item: Item, reason: str, reasons: Sequence[str], where: str = "", *values: str) -> int:
        return self._db.execute(
            f"UPDATE rows SET outcome = ?, reason = {reason} "  # noqa: S608
            f"WHERE {_OF_ITEM} AND outcome != ?{where}",
            (RowOutcome.INVALID, *reasons, *_values(item), RowOutcome.INVALID, *values),
        ).rowcount

    def jobs(self) -> Iterator[Job]:
        """Read the rows that may be sent, in order; results may be recorded meanwhile."""
        return self._jobs("outcome NOT IN (:duplicate, :invalid)")

    def rejected(self) -> Iterator[Job]:
        """Read the rows that are invalid because of their gift or campaign, not of their own values, in order."""
        return self._jobs("outcome = :invalid")

    def take_back(self, numbers: Iterable[int]) -> None:
        """
        Undo the rejection of rows, so that the sender processes them.

        :param numbers: the rows' numbers.
        """
        self._db.executemany(
            "UPDATE rows SET outcome = ?, reason = NULL WHERE number = ?",
            ((RowOutcome.NOT_REACHED, number) for number in numbers),
        )
        self.mark_duplicates()

    def _jobs(self, where: str) -> Iterator[Job]:
        """Read valid rows, in pages."""
        query = (
            "SELECT number, recipient_key, send, row_ref, resend_of, kind, delivery FROM rows "  # noqa: S608
            f"WHERE number > :after AND send IS NOT NULL AND {where} ORDER BY number LIMIT :page"
        )
        values = {outcome.value: outcome.value for outcome in RowOutcome} | {"page": _PAGE}
        after = 0
        while True:
            page = self._db.execute(query, {"after": after, **values}).fetchall()
            for number, recipient_key, text, row_ref, resend_of, kind, delivery in page:
                yield Job(number, recipient_key, _send(text, kind, delivery), row_ref, resend_of)
            if not page:
                return
            after = page[-1][0]

    def replacements(self) -> Iterator[Job]:
        """Read the rows that may be sent and replace a gift, in order; rows may be rejected meanwhile."""
        return self._jobs("outcome = :not_reached AND resend_of IS NOT NULL")

    def rename_replaced(self, number: int, resend_of: str) -> None:
        """
        Set the ledger's name of the send that a row replaces, because a campaign send has two names.

        :param number: the row's number.
        :param resend_of: the ledger's name.
        """
        self._db.execute("UPDATE rows SET resend_of = ? WHERE number = ?", (resend_of, number))

    def record(self, result: Result) -> None:
        """
        Record the result of a row.

        :param result: the result, which replaces an earlier one.
        """
        self.recorded += 1
        self.refused += result.outcome is RowOutcome.REFUSED
        reason = f"{result.reason}: {result.words}" if result.words else result.reason
        self._db.execute(
            _RECORD,
            (
                result.outcome,
                reason,
                result.send_id,
                result.posted_at,
                result.send_key,
                result.posted,
                *(cell for value in _values(result.item) for cell in (result.item != NOTHING, value)),
                result.number,
            ),
        )

    def explain_not_reached(self, reason: str) -> None:
        """
        Set why rows were not reached, for those that have no reason of their own.

        :param reason: the reason, without values of a row.
        """
        self._db.execute(
            "UPDATE rows SET reason = ? WHERE outcome = ? AND reason IS NULL", (reason, RowOutcome.NOT_REACHED)
        )

    def counts(self) -> Counter[RowOutcome]:
        """Count the rows by outcome."""
        rows = self._db.execute("SELECT outcome, count(*) FROM rows GROUP BY outcome").fetchall()
        return Counter({RowOutcome(outcome): count for outcome, count in rows})

    def sent_now(self) -> int:
        """Count the rows whose gift this try has posted and Sendoso has accepted."""
        query = "SELECT count(*) FROM rows WHERE outcome = ? AND posted_now"
        (rows,) = self._db.execute(query, (RowOutcome.SENT,)).fetchone()
        return int(rows)

    def items(self, outcome: RowOutcome) -> Counter[Item]:
        """
        Count the rows with one outcome by gift or campaign.

        :param outcome: the outcome.
        """
        query = f"SELECT count(*), {_ITEM} FROM rows WHERE outcome = ? GROUP BY {_ITEM}"  # noqa: S608
        rows = self._db.execute(query, (outcome,)).fetchall()
        return Counter({Item(*values): count for count, *values in rows})

    def reasons(self, outcome: RowOutcome) -> list[tuple[str, int]]:
        """
        Count the reasons of one outcome, the most frequent first.

        :param outcome: the outcome.
        """
        return self._db.execute(
            "SELECT coalesce(reason, ?), count(*) FROM rows WHERE outcome = ? GROUP BY 1 ORDER BY 2 DESC, 1",
            (_NO_REASON, outcome),
        ).fetchall()

    def groups(self, outcome: RowOutcome) -> list[Group]:
        """
        Group the rows of one outcome by reason, the most frequent first; rows without one are left out.

        Only the reasons that a report names have names of rows.

        :param outcome: the outcome.
        """
        reasons = [(reason, rows) for reason, rows in self.reasons(outcome) if reason != _NO_REASON]
        return [
            Group(reason, rows, [row.name for row in self.rows(outcome, MOST, reason)] if place < MOST else [])
            for place, (reason, rows) in enumerate(reasons)
        ]

    def rows(self, outcome: RowOutcome, limit: int, reason: str | None = None) -> list[Spooled]:
        """
        Read the first rows of one outcome.

        :param outcome: the outcome.
        :param limit: the most rows to read.
        :param reason: only rows with this reason; ``None`` for all.
        """
        rows = self._db.execute(
            "SELECT number, row_ref, reason, send_id, posted_at, send_key FROM rows "
            "WHERE outcome = ?1 AND (?2 IS NULL OR reason = ?2) ORDER BY number LIMIT ?3",
            (outcome, reason, limit),
        )
        return [Spooled(*row) for row in rows]

    def outcomes(self) -> Iterator[SpooledOutcome]:
        """Read the outcome of every row, in order and in pages."""
        after = 0
        while True:
            page = self._db.execute(
                "SELECT number, recipient_key, resend_of, row_ref, outcome, reason, send_id, posted_at, "  # noqa: S608
                f"{_ITEM} FROM rows WHERE number > ? ORDER BY number LIMIT ?",
                (after, _PAGE),
            ).fetchall()
            for number, recipient_key, resend_of, row_ref, outcome, reason, send_id, posted_at, *values in page:
                known = (Item(*values), RowOutcome(outcome), reason, send_id, posted_at)
                yield SpooledOutcome(number, recipient_key, resend_of, row_ref, *known)
            if not page:
                return
            after = page[-1][0]

    def stage(self, pages: Iterable[Sequence[Cells]]) -> None:
        """
        Store finished rows of the results table on disk, replacing earlier ones.

        :param pages: the rows, which may be read from this spool meanwhile.
        """
        self._db.execute("DELETE FROM staged")
        for page in pages:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT INTO staged (cells) VALUES (?)", [(json.dumps(row),) for row in page])
            self._db.execute("COMMIT")

    def staged(self) -> Iterator[Cells]:
        """Read the finished rows, in pages."""
        after = 0
        while True:
            page = self._db.execute(
                "SELECT number, cells FROM staged WHERE number > ? ORDER BY number LIMIT ?", (after, _PAGE)
            ).fetchall()
            for _, cells in page:
                yield json.loads(cells)
            if not page:
                return
            after = page[-1][0]


def _cells(row: BatchRow) -> Cells:
    """Return the values that ``_INSERT`` stores for a row."""
    send = row.send
    known = (row.recipient_key or "", row.resend_of or "", row.row_ref or "")
    if send is None:
        return (row.number, _INVALID, *known, *_NO_ITEM, "", "", "", "", "", row.problem or "")
    item = KINDS[send.kind].item_cells(send)
    kind, text = _WORDS[send.kind], to_json(send, exclude_none=True).decode()
    if_mailed = row.if_mailed or ""
    left_out = if_mailed if row.left_out else ""
    country = row.country or ""
    return (row.number, _NOT_REACHED, *known, *item, kind, country, if_mailed, left_out, text, "")


def _values(item: Item) -> list[str | None]:
    return [getattr(item, name) for name in ITEM_FIELDS]


def _send(text: str, kind: str, delivery: str | None) -> AnySend:
    """Parse a stored send, and add its campaign's delivery, which was read later."""
    of_kind = KINDS[Kind(kind)]
    send: AnySend = of_kind.model.model_validate_json(text)
    return send if delivery is None else of_kind.with_delivery(send, Delivery(delivery))
