"""The account's pace: one row that hands out slots to the whole deployment, on the database's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import bindparam, case, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import Update

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.group_commit import GroupCommit
from airflow_provider_sendoso.ledger.schema import db_now, pace
from airflow_provider_sendoso.models.slot_commit import SlotCommit

_SENDING = 2.0
"""Seconds after a send's slot during which polls leave most of the rate to sends."""

_EMPTY = {"tat": 0.0, "slot": 0.0, "send_at": 0.0, "poll_tat": 0.0, "poll_slot": 0.0}


class LedgerPace:
    """
    Hands out one account's slots.

    :param database: the ledger's database.
    :param account: the account whose rate is limited.
    :param interval: seconds between two slots.
    :param poll_share: while sends are waiting, polls get at most one of this many slots.
    """

    def __init__(self, database: Database, account: str, interval: float, poll_share: int) -> None:
        self._database = database
        self._together = GroupCommit(database.once, at_once=self._take_each)
        self._account = account
        self._this_row = pace.c.account == account
        # Built once: these statements run ten times a second, and building them costs more than running them.
        self._interval = interval
        self._take = {poll: self._take_slots(poll=poll) for poll in (True, False)}
        is_free = pace.c.tat <= db_now()
        of_account = pace.c.account == bindparam("this_account")
        self._this = {"this_account": account}
        self._take_free = (
            update(pace).where(of_account, is_free).values(slot=db_now(), send_at=db_now(), tat=db_now() + interval)
        )
        self._sending = select(pace.c.send_at > db_now() - _SENDING).where(self._this_row)
        turn = _later(pace.c.poll_tat, db_now())
        self._line_up = self._step(pace.c.poll_slot, poll_slot=turn, poll_tat=turn + poll_share * interval)

    @property
    def lead(self) -> float:
        """Seconds that a commit takes, where that is too long to be left out of account."""
        return 0.0

    def queue(self) -> float:
        """Queue a poll; return the seconds until its turn, 0 while no sends are waiting."""

        def work(connection: Connection) -> float:
            if not connection.execute(self._sending).scalar():
                return 0.0
            return self._run(connection, self._line_up)

        return max(0.0, self._database.run(work))

    def reserve(self, *, poll: bool) -> float:
        """Take the account's next slot; return the seconds until that slot, negative if it is over."""
        return self._seconds_until(self._take[poll])

    def take(self, send: SlotCommit) -> bool:
        """
        Take a slot for a send if one is free now.

        :param send: commits the send as POSTING in the slot's transaction, perhaps together with other sends. If it
            raises, the slot is not taken.
        :return: ``False`` if no slot is free now; then nothing is done.
        """

        def work(connection: Connection) -> bool:
            if connection.execute(self._take_free, self._this).rowcount != 1:
                return False
            send.commit_posting(connection)
            return True

        return self._database.run(work, first=partial(self._together.once, work, send.row, send))

    def _take_each(self, connection: Connection, sends: Sequence[SlotCommit]) -> Sequence[bool]:
        free = connection.execute(self._take_free, [self._this] * len(sends)).rowcount
        if free:
            sends[0].commit_all(connection, sends[:free])
        return [number < free for number in range(len(sends))]

    def push_back(self, seconds: float) -> None:
        """Block all requests of the account for a number of seconds."""
        push = self._step(pace.c.slot, tat=_later(pace.c.tat, db_now() + seconds))
        self._database.run(lambda connection: self._run(connection, push))

    def _seconds_until(self, step: list[Executable]) -> float:
        """Take slots; return the seconds until the first of them."""

        def work(connection: Connection) -> float:
            return max(0.0, self._run(connection, step)) + time.monotonic()

        # The commit takes time as well, and so does this thread until it runs again.
        return self._commit(work) - time.monotonic()

    def _commit(self, work: Callable[[Connection], float]) -> float:
        return self._database.run(work)

    def _take_slots(self, *, poll: bool, count: int = 1, ahead: float = 0.0) -> list[Executable]:
        """
        Build the statements that take the next slots.

        :param poll: whether they are for polls.
        :param count: how many slots, one after the other.
        :param ahead: seconds from now before which the first of them does not come up.
        """
        slot = _later(pace.c.tat, db_now() + ahead if ahead else db_now())
        for_sends = {} if poll else {"send_at": slot}
        return self._step(pace.c.slot, slot=slot, **for_sends, tat=slot + count * self._interval)

    def _step(self, due: Any, **values: Any) -> list[Executable]:
        """Build the statements that update the row, and then read the seconds until ``due``."""
        move = self._move(**values)
        # A number of seconds rather than a moment, measured after the row was locked: no two clocks are compared.
        left = due - db_now()
        if self._database.dialect == "postgresql":
            return [move.returning(left)]  # saves a round trip
        return [move, select(left).where(self._this_row)]

    def _move(self, **values: Any) -> Update:
        # Ordered, because MySQL assigns one column after the other, and a later expression sees the new values.
        return update(pace).where(self._this_row).ordered_values(*((pace.c[name], values[name]) for name in values))

    def _run(self, connection: Connection, step: list[Executable]) -> float:
        left = _last_scalar(connection, step)
        if left is None:
            self._database.insert_ignore(connection, pace, [{"account": self._account, **_EMPTY}])
            left = _last_scalar(connection, step)
        return float(left)


def _last_scalar(connection: Connection, step: list[Executable]) -> Any:
    *moves, asks = step
    for move in moves:
        if connection.execute(move).rowcount == 0:
            return None  # no such row; before the next statement another process may insert it, and take a slot
    return connection.execute(asks).scalar()


def _later(first: Any, second: Any) -> Any:
    return case((first > second, first), else_=second)
