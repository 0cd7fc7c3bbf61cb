"""Lists of the send ids that a deferred sensor waits for, under a name: the trigger's arguments hold the name alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import lists
from airflow_provider_sendoso.ledger.statements import now_on

_SPARE = 86_400.0
"""Seconds for which a list is kept after it expires, for a triggerer that is late."""


class SendLists:
    """
    Stores lists of send ids.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, send_ids: Sequence[str], seconds: float) -> str:
        """
        Store a list, and delete the expired ones, which nothing else does.

        Each call makes a new name, because two waits for the same sends end at different times.

        :param send_ids: the ids that Sendoso has given the sends.
        :param seconds: for how long the list will be read.
        :return: the name of the list.
        """
        list_id = uuid.uuid4().hex
        text = json.dumps(list(send_ids), separators=(",", ":"))

        def work(connection: Connection) -> None:
            now = now_on(connection)
            row = {"list_id": list_id, "send_ids": text, "keep_until": now + seconds + _SPARE}
            self._database.insert_ignore(connection, lists, [row])
            connection.execute(delete(lists).where(lists.c.keep_until < now))

        self._database.run(work)
        return list_id

    def known_for(self, name: str, seconds: float) -> float:
        """
        Return for how many seconds a name has been known; a new name is known from now on.

        :param name: at most 32 characters.
        :param seconds: for how long the name will be asked for.
        """

        def work(connection: Connection) -> float:
            now = now_on(connection)
            row = {"list_id": name, "send_ids": json.dumps([now]), "keep_until": now + seconds + _SPARE}
            self._database.insert_ignore(connection, lists, [row])
            text = connection.execute(select(lists.c.send_ids).where(lists.c.list_id == name)).scalar_one()
            connection.execute(delete(lists).where(lists.c.keep_until < now))
            return max(0.0, now - float(json.loads(text)[0]))

        return self._database.run(work)

    def read(self, list_id: str) -> list[str]:
        """
        Read a list.

        :param list_id: the name that :meth:`keep` has returned.
        :raises SendosoLedgerError: if there is no such list; the sensor's next try stores it again.
        """
        query = select(lists.c.send_ids).where(lists.c.list_id == list_id)
        text = self._database.read(lambda connection: connection.execute(query).scalar())
        if text is None:
            raise SendosoLedgerError(f"The list of sends {list_id} is not in this ledger, or not any more.")
        return [str(send_id) for send_id in json.loads(text)]
