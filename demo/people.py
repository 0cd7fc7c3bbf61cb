"""
The warehouse of the demo: a table of 25 invented customers, two of whom cannot be sent a mug.

C-1007 has no e-mail address, which the provider sees for itself; C-1015 has no postal address, so Sendoso refuses.
"""

from __future__ import annotations

import csv
from pathlib import Path

import psycopg
from psycopg import sql

_FILE = Path(__file__).with_name("champions.csv")


def read_people() -> list[dict[str, str]]:
    """Read the 25 people as they are in the table ``champions``."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill_warehouse(database: psycopg.Connection) -> None:
    """
    Make the table ``champions`` anew.

    :param database: the warehouse.
    """
    columns = [sql.SQL("{} text").format(sql.Identifier(name)) for name in read_people()[0]]
    with database.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS champions")
        cursor.execute(sql.SQL("CREATE TABLE champions ({})").format(sql.SQL(", ").join(columns)))
        with cursor.copy("COPY champions FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(_FILE.read_bytes())
    database.commit()
