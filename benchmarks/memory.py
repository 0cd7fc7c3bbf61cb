"""How much more memory a batch of a million rows takes than one of a thousand, at its peak.

Each batch runs in a process of its own: rows from a real cursor (SQLite's, over a file) are read, validated and
spooled, their addresses checked, the jobs handed one by one to a sender that sends nothing, and its results recorded.
What is compared is the highest resident size of each process, less what it had when it had imported Airflow and this
package.
Run it with

    python benchmarks/memory.py --rows 1000000
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

LIMIT = 50.0
"""MiB that a million rows may take more than a thousand."""

FEW = 1000


def resident() -> float:
    """This process's resident size now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Peak:
    """The highest resident size since the start, looked at often: the system's own figure cannot be reset."""

    def __init__(self) -> None:
        self.before = self.highest = resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            self.highest = max(self.highest, resident())

    def end(self) -> float:
        self._stop.set()
        self._thread.join()
        return max(self.highest, resident()) - self.before


def make_people(path: str, rows: int) -> None:
    sql = """
        CREATE TABLE people AS
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})
        SELECT n AS customer_id, 'Zoë' AS first_name, 'Lovelace' || n AS last_name,
               'zoe' || n || '@example.com' AS email, n || ' St James''s Square' AS address_line1,
               CASE WHEN n % 10 THEN 'London' END AS city, 'SW1Y 4JH' AS postal_code, 'GB' AS country
        FROM numbers
    """
    connection = sqlite3.connect(path)
    connection.executescript(sql.format(rows=int(rows)))
    connection.close()


def work(path: str) -> None:
    """One batch; prints the MiB that it took and how many rows it sent."""
    import airflow_provider_sendoso.operators.sendoso  # noqa: F401  # Airflow, and all that a task imports
    from airflow_provider_sendoso.batch.catalogue import Catalogue
    from airflow_provider_sendoso.batch.row_reader import BatchRowReader, Layout
    from airflow_provider_sendoso.batch.spool import BatchSpool
    from airflow_provider_sendoso.batch.validation import check_gifts
    from airflow_provider_sendoso.models import Gift, RowOutcome
    from airflow_provider_sendoso.sending import Result
    from airflow_provider_sendoso.warehouse.queries import columns_of, rows_of

    peak = Peak()
    layout = Layout({"gift_id": "gift-mug", "message": "Thank you, {first_name}."}, row_ref="customer_id")
    mug = Gift.model_validate({"id": "gift-mug", "category": "swag"})
    connection = sqlite3.connect(path)
    with BatchSpool() as spool:
        cursor = connection.execute("SELECT * FROM people")
        reader = BatchRowReader(columns_of(cursor), layout)
        spool.fill(reader.read(number, cells) for number, cells in enumerate(rows_of(cursor), 1))
        connection.close()
        check_gifts(spool, Catalogue(lambda: [mug]), own_gift=True)
        for job in spool.jobs():
            spool.record(Result(job.number, RowOutcome.SENT, send_id=f"send-{job.number}", posted_at=1.0))
        sent = spool.counts()[RowOutcome.SENT]
    print(f"{peak.end():.1f} {sent}")


def measure(rows: int) -> float:
    """Run one batch in a process of its own; return its MiB."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "people.db")
        make_people(path, rows)
        environment = os.environ | {"AIRFLOW_HOME": directory, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        command = [sys.executable, __file__, "--work", path]
        output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    mib, sent = output.split()[-2:]
    print(f"{rows:9} rows, {sent} sent: {float(mib):6.1f} MiB above Airflow's own")
    return float(mib)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work)
        return 0
    few, many = measure(FEW), measure(asked.rows)
    print(f"{many - few:.1f} MiB more, at most {LIMIT:.0f} wanted")
    return 0 if many - few < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
