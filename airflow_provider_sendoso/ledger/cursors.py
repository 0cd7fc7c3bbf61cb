"""Cursors: texts under a name that only the process that read the present one can replace.

How far an event sensor has read one of Sendoso's lists is stored as a cursor; so are which try of a task began last
(``tries.py``) and the last search for a scope's sends of unknown outcome (``looks.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import cursors, db_now
from airflow_provider_sendoso.ledger.statements import now_on

LONGEST_NAME = 190
"""Characters of a cursor's name: the longest text that every database can have as a key."""


@dataclass(frozen=True)
class Kept:
    """
    A cursor as the ledger stores it.

    :param version: the number of times that the cursor was written; 0 if it never was.
    :param text: the text that was written last; ``None`` if the cursor was never written.
    :param age: seconds since then, on the database's clock.
    """

    version: int
    text: str | None
    age: float = field(default=0.0, compare=False)


class Cursors:
    """
    Reads and writes cursors.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, name: str) -> Kept:
        """
        Read a cursor.

        :param name: at most :data:`LONGEST_NAME` characters.
        """
        query = select(cursors.c.version, cursors.c.position, cursors.c.updated_at).where(cursors.c.name == name)

        def work(connection: Connection) -> Kept:
            row = connection.execute(query).first()
            return Kept(0, None) if row is None else Kept(row[0], row[1], now_on(connection) - row[2])

        return self._database.read(work)

    def write(self, name: str, version: int, text: str) -> bool:
        """
        Write a cursor, unless another process has written it since it was read.

        :param name: at most :data:`LONGEST_NAME` characters.
        :param version: the version of the cursor that was read.
        :param text: the text to store.
        :return: whether the text was written, by this call or by an earlier call with the same text.
        """

        def work(connection: Connection) -> bool:
            if version == 0:
                now = now_on(connection)
                new = {"name": name, "version": 1, "position": text, "updated_at": now}
                self._database.insert_ignore(connection, cursors, [new])
            else:
                there = (cursors.c.name == name) & (cursors.c.version == version)
                values = {"version": version + 1, "position": text, "updated_at": db_now()}
                connection.execute(update(cursors).where(there).values(values))
            # A commit whose acknowledgement was lost is repeated, and finds the text that it has written.
            found = select(cursors.c.version, cursors.c.position).where(cursors.c.name == name)
            row = connection.execute(found).one()
            return bool(row.version == version + 1 and row.position == text)

        return self._database.run(work)
