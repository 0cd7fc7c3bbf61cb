"""Resolves sends whose outcome is not known, after a search at Sendoso or a person's decision, and records who did."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.schema import db_now, resolutions, sends
from airflow_provider_sendoso.ledger.spending import doubt
from airflow_provider_sendoso.ledger.statements import status_columns
from airflow_provider_sendoso.models import StatusReport, tracking_code

OPEN = (State.UNKNOWN, State.HELD)
"""The states in which nobody knows whether a gift has gone out."""

_AGAIN = {(State.REFUSED, State.READY), (State.READY, State.SENT)}
"""The transitions that can be decided for sends that are not open."""

LONGEST_NAME = 190
LONGEST_WHY = 500


@dataclass(frozen=True)
class Resolution:
    """
    One decision about a send whose outcome was not known.

    :param from_state: ``UNKNOWN`` or ``HELD``.
    :param to_state: ``SENT``, or ``READY`` for a send that is known not to have gone out.
    :param resolved_by: who decided; ``reconcile`` for the search at Sendoso.
    :param resolved_at: epoch seconds, on the database's clock.
    """

    send_key: str
    from_state: State
    to_state: State
    send_id: str | None
    resolved_by: str
    why: str
    resolved_at: float


class Resolutions:
    """
    Resolves UNKNOWN and HELD sends, and records each resolution.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def resolve(
        self,
        record: Record,
        to_state: State,
        *,
        resolved_by: str,
        why: str,
        send_id: str | None = None,
        report: StatusReport | None = None,
    ) -> bool:
        """
        Turn a send into SENT, or into READY to be sent again, and record who decided it and why.

        Besides UNKNOWN and HELD sends, a REFUSED one can become READY, once the cause of the refusal is mended; and one
        that was resolved as READY can become SENT as long as nobody has claimed it, because the decision was a mistake.
        A send that its process may still be posting cannot become READY: its lease has to lapse first.

        :param record: the send as it was read; if it has changed since, nothing is done.
        :param to_state: ``SENT`` or ``READY``.
        :param resolved_by: a person's name, or ``reconcile``; cut at 190 characters.
        :param why: cut at 500 characters; never personal data.
        :param send_id: Sendoso's id of the gift that was found.
        :param report: the status of the gift that was found.
        :return: ``False`` if the send has changed, or a process may still be posting it; then nothing was written.
        """
        if to_state not in (State.SENT, State.READY):
            raise ValueError(f"a send is resolved to SENT or READY, not {to_state}")
        as_read = [
            sends.c.send_key == record.send_key,
            sends.c.state == record.state,
            sends.c.attempt == record.attempt,
        ]
        if to_state is State.READY and record.state in OPEN:
            as_read.append(sends.c.lease_until <= db_now())
        values: dict[str, Any] = {"state": to_state, "finished_at": db_now()}
        if to_state is State.SENT:
            values |= {"send_id": send_id, "reason": None}
            in_tracker = record.kind is not None and record.kind.in_tracker
            if in_tracker and send_id is not None and tracking_code(send_id) is None:
                values["bound_id"] = send_id  # the id was found in the list of campaign sends
        if report is not None:
            values |= status_columns(report)
        resolution_id = uuid.uuid4().hex
        written = {
            "resolution_id": resolution_id,
            "send_key": record.send_key,
            "attempt": record.attempt,
            "from_state": record.state,
            "to_state": to_state,
            "send_id": send_id,
            "resolved_by": resolved_by[:LONGEST_NAME],
            "why": why[:LONGEST_WHY],
        }

        decided = select(resolutions.c.attempt, resolutions.c.to_state).where(resolutions.c.send_key == record.send_key)

        def work(connection: Connection) -> bool:
            if not (record.state in OPEN or (record.state, to_state) in _AGAIN):
                return False
            if record.state is State.READY:
                newest = connection.execute(decided.order_by(resolutions.c.resolved_at.desc())).first()
                if newest is None or tuple(newest) != (record.attempt, State.READY):
                    return False  # the send was not posted, or was refused: no decision is needed
                doubt(self._database, connection, record.account)
            if connection.execute(update(sends).where(*as_read).values(**values)).rowcount == 1:
                connection.execute(resolutions.insert().values(**written, resolved_at=db_now()))
                return True
            # If the commit's acknowledgement was lost, the repeated work finds here what it has written.
            mine = select(resolutions.c.send_key).where(resolutions.c.resolution_id == resolution_id)
            return connection.execute(mine).first() is not None

        return self._database.run(work)

    def hold(self, records: Sequence[Record]) -> None:
        """
        Turn UNKNOWN sends that were looked for and not found into HELD ones.

        :param records: the sends as they were read; sends that have changed since are left alone.
        """

        def work(connection: Connection) -> None:
            for record in sorted(records, key=lambda record: record.send_key):
                as_read = (
                    sends.c.send_key == record.send_key,
                    sends.c.state == State.UNKNOWN,
                    sends.c.attempt == record.attempt,
                )
                connection.execute(update(sends).where(*as_read).values(state=State.HELD))

        self._database.run(work)

    def history(self, send_key: str) -> list[Resolution]:
        """
        Read all resolutions of a send, the oldest first.

        :param send_key: the key of the send.
        """
        query = select(resolutions).where(resolutions.c.send_key == send_key).order_by(resolutions.c.resolved_at)
        rows = self._database.read(lambda connection: connection.execute(query).fetchall())
        return [resolution_of(row) for row in rows]


def resolution_of(row: Any) -> Resolution:
    """
    Make a decision of a row.

    :param row: of ``sendoso_resolutions``.
    """
    of = {field.name: getattr(row, field.name) for field in fields(Resolution)}
    return Resolution(**of | {"from_state": State(of["from_state"]), "to_state": State(of["to_state"])})
