"""The warehouse: a PostgreSQL database with the people, those whom each DAG run invites, and the shard each is in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from cluster.settings import INVITED, PEOPLE, RUNS, SHARDS
from demo.services import Postgres
from soak.recipients import Batch, scopes

_DATABASE = "warehouse"


class Warehouse:
    """
    The people.

    :param server: has the database.
    :param chance: decides who is invited to what.
    """

    def __init__(self, server: Postgres, chance: random.Random) -> None:
        self._server = server
        self._scopes = scopes(chance, PEOPLE, INVITED, RUNS, all_kinds=False, limited=False)
        self._everybody: dict[str, set[str]] = {}
        with server.database(_DATABASE) as database:
            database.execute(
                "CREATE TABLE people "
                "(email text PRIMARY KEY, first_name text, last_name text, gift_id text, touch_id int)"
            )
            database.execute("CREATE TABLE invited (run_id text, email text, shard int, PRIMARY KEY (run_id, email))")

    @property
    def connection(self) -> dict[str, Any]:
        """The database as an Airflow connection."""
        return self._server.airflow_connection(_DATABASE)

    def batches(self) -> Iterator[Batch]:
        """Make the DAG runs of one scope after the other, without end."""
        for scope in self._scopes:
            with self._server.database(_DATABASE) as database:
                database.cursor().executemany(
                    "INSERT INTO people VALUES (%s, %s, %s, %s, %s)", [row[:5] for row in scope.people]
                )
            for batch in scope.batches:
                self._invite(batch)
                yield batch

    def everybody(self) -> list[Batch]:
        """Make a last DAG run for each scope, over all who were invited to it."""
        batches = [Batch(f"{scope}-last", scope, sorted(emails)) for scope, emails in self._everybody.items()]
        for batch in batches:
            self._invite(batch)
        return batches

    def _invite(self, batch: Batch) -> None:
        self._everybody.setdefault(batch.dedupe_scope, set()).update(batch.emails)
        rows = [(batch.run_id, email, number % SHARDS) for number, email in enumerate(batch.emails)]
        with self._server.database(_DATABASE) as database:
            database.cursor().executemany("INSERT INTO invited VALUES (%s, %s, %s)", rows)
