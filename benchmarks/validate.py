"""How long a million rows take to be read, validated and spooled, beside what one would write without this package.

The rows come from a real cursor (SQLite's). Ours: the reader and the spool of ``BatchSendOperator``, and the check of
addresses against a catalogue. Theirs: a plain pydantic model for each row of the same cursor, kept nowhere. Both run in
this one process, by turns, so that the ratio holds where the seconds do not. Run it with

    python benchmarks/validate.py --rows 1000000
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import BaseModel, Field, ValidationError

from airflow_provider_sendoso.batch.catalogue import Catalogue
from airflow_provider_sendoso.batch.row_reader import BatchRowReader, Layout
from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.batch.validation import check_gifts
from airflow_provider_sendoso.models import Gift, RowOutcome
from airflow_provider_sendoso.warehouse.queries import columns_of, rows_of

LIMIT = 30.0
"""Seconds for a million rows."""

COLUMNS = (
    *("customer_id", "first_name", "last_name", "email", "company", "title"),
    *("address_line1", "city", "state", "postal_code", "country", "metadata_segment", "notes"),
)


@contextmanager
def people(rows: int) -> Iterator[sqlite3.Cursor]:
    """A query's result: one row in fifty is invalid, one in ten is not ASCII, one in a hundred is a duplicate."""
    sql = """
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
        SELECT n, CASE WHEN n % 10 = 0 THEN 'Zoë' ELSE 'Ada' END, 'Lovelace' || n,
               CASE WHEN n % 50 = 0 THEN NULL ELSE 'ada' || (n - (n % 100 = 1 AND n > 1)) || '@example.com' END,
               'Engines & Co', 'Countess', n || ' St James''s Square', 'London', NULL,
               CASE WHEN n % 100 = 7 THEN NULL ELSE 'SW1Y 4JH' END, 'gb', 'gold', 'left alone'
        FROM numbers
    """
    connection = sqlite3.connect(":memory:")
    cursor = connection.execute(sql, (rows,))
    cursor.row_factory = None
    yield Renamed(cursor)
    connection.close()


class Renamed:
    """The cursor, with the names that a table would give its columns."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.description = [(name, None, None, None, None, None, None) for name in COLUMNS]
        self.fetchmany = cursor.fetchmany


def ours(rows: int) -> int:
    """Read, validate and spool; return how many may be sent."""
    arguments = {"gift_id": "gift-mug", "message": "Thank you, {first_name}, for all that you did for us this year."}
    with people(rows) as cursor, BatchSpool() as spool:
        reader = BatchRowReader(columns_of(cursor), Layout(arguments, row_ref="customer_id"))
        spool.fill(reader.read(number, cells) for number, cells in enumerate(rows_of(cursor), 1))
        mug = Gift.model_validate({"id": "gift-mug", "category": "swag"})
        check_gifts(spool, Catalogue(lambda: [mug]), own_gift=True)
        return spool.counts()[RowOutcome.NOT_REACHED]


class PlainAddress(BaseModel):
    line1: str
    city: str
    state: str | None
    postal_code: str
    country: str = Field(pattern="^[A-Za-z]{2}$")


class PlainRow(BaseModel):
    first_name: str
    last_name: str
    email: str = Field(pattern=r"^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$")
    company: str | None
    title: str | None
    address: PlainAddress
    message: str = Field(max_length=2000)
    metadata: dict[str, str]


def plain(rows: int) -> int:
    """What one would write: a model for each row; return how many are valid."""
    valid = 0
    with people(rows) as cursor:
        for cells in rows_of(cursor):
            row = dict(zip(COLUMNS, cells, strict=True))
            try:
                PlainRow(
                    first_name=row["first_name"],
                    last_name=row["last_name"],
                    email=row["email"],
                    company=row["company"],
                    title=row["title"],
                    address=PlainAddress(
                        line1=row["address_line1"],
                        city=row["city"],
                        state=row["state"],
                        postal_code=row["postal_code"],
                        country=row["country"],
                    ),
                    message=f"Thank you, {row['first_name']}, for all that you did for us this year.",
                    metadata={"segment": row["metadata_segment"]},
                )
            except ValidationError:
                continue
            valid += 1
    return valid


def seconds(work: Callable[[int], int], rows: int) -> tuple[float, float, int]:
    """Run it once: seconds on the clock, seconds of processor, and what it returned."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work(rows)
    return time.perf_counter() - clock, time.process_time() - processor, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=1, help="the best of so many is taken, as other work disturbs")
    asked = parser.parse_args()
    best: dict[str, tuple[float, float, int]] = {}
    for _ in range(asked.turns):
        for name, work in (("ours: validated and spooled", ours), ("a plain model per row", plain)):
            taken = seconds(work, asked.rows)
            best[name] = min(best.get(name, taken), taken)
    for name, (clock, processor, valid) in best.items():
        each = 1e6 * clock / asked.rows
        print(f"{name:30} {clock:7.2f} s ({processor:.2f} s of processor), {each:.1f} µs a row, {valid} valid")
    (clock, _, _), (other, _, _) = best.values()
    limit = LIMIT * asked.rows / 1_000_000
    print(f"ratio {clock / other:.2f}; {asked.rows} rows in {clock:.1f} s, at most {limit:.1f} s wanted")
    return 0 if clock < limit or asked.rows < 1_000_000 else 1  # a few rows are no measurement


if __name__ == "__main__":
    sys.exit(main())
