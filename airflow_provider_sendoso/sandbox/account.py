"""The gift sends that an account has accepted. Plain Python: no sockets, and the clock is passed in."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.sandbox.journal import Journal
from airflow_provider_sendoso.sandbox.statuses import STATUSES, iso, status_of, status_updates


@dataclass(frozen=True)
class Send:
    """
    One accepted send: in the real world, a gift and a charge.

    :param id: the remote id
    :param body: the ``send`` object of the request, unchanged
    :param accepted_at: wall-clock epoch seconds
    :param client_id: the client that has sent it
    :param finished: a status that was forced, and the time when it was
    """

    id: str
    body: dict[str, Any]
    accepted_at: float
    client_id: str
    finished: tuple[str, float] | None = None

    @property
    def duplicate_key(self) -> tuple[str, str]:
        """Return a value that two sends share if they are the same gift to the same person."""
        return self.body["gift_id"], self.body["email"].casefold()


class Account:
    """
    Accepts gift sends, stores them, and returns their statuses.

    :param step: seconds from one status to the next
    :param clock: returns the time in epoch seconds
    :param journal: the file that stores sends over a restart, if any
    """

    def __init__(self, step: float, clock: Callable[[], float], journal: Journal | None = None) -> None:
        self._step = step
        self._clock = clock
        self._journal = journal
        self._sends: dict[str, Send] = {}
        for record in journal.read() if journal else ():
            send = _from_record(record)
            self._sends[send.id] = send

    def accept(self, body: dict[str, Any], client_id: str) -> Send:
        """
        Store a valid send. A repeated send is a new send: "Sendoso does not handle duplicate payloads" (published).

        :param body: the request's ``send`` object
        :param client_id: the client that has sent it
        """
        return self._store(Send(f"send-{secrets.token_hex(6)}", body, self._clock(), client_id))

    def finish(self, send_id: str, status: str) -> Send:
        """
        Force a send's status; it stays there.

        :param send_id: the id of an accepted send
        :param status: one of the six, or another published word
        :raises ValueError: if there is no such status
        :raises KeyError: if there is no such send
        """
        if SendStatus.from_word(status) is None:
            raise ValueError(f"{status!r} is none of {', '.join(STATUSES)}, and no published word for one")
        return self._store(replace(self._sends[send_id], finished=(status, self._clock())))

    def sends(self) -> list[Send]:
        """Return every send, oldest first."""
        return list(self._sends.values())

    def find(self, send_id: str) -> Send | None:
        """
        Find a send by its id.

        :param send_id: the id of the send
        """
        return self._sends.get(send_id)

    def describe(self, send: Send, now: float | None = None) -> dict[str, Any]:
        """
        Return a send as the API shows it; the shape is inferred from the published list of campaign sends.

        :param send: a send of this account
        :param now: epoch seconds; the present if left out
        """
        updates = self._updates(send, self._clock() if now is None else now)
        body = send.body
        return {
            "id": send.id,
            "send_gid": gid_of(send.id),
            "gift_id": body["gift_id"],
            "variant_id": body.get("variant_id"),
            "status": updates[-1][0],
            "created_at": iso(send.accepted_at),
            "recipient": {"name": f"{body['first_name']} {body['last_name']}", "email": body["email"]},
            "metadata": body.get("metadata") or {},
            "status_updates": [{"status": status, "occurred_at": iso(when)} for status, when in updates],
        }

    def changes(self) -> list[tuple[str, list[tuple[str, float]]]]:
        """Return, for the webhooks, the ``send_gid`` and the statuses of every send."""
        now = self._clock()
        return [(gid_of(send.id), self._updates(send, now)) for send in self._sends.values()]

    def counts(self) -> dict[str, int]:
        """Count the sends by status; all six statuses are in the result."""
        now = self._clock()
        found = Counter(status_of(self._updates(send, now)[-1][0]) for send in self._sends.values())
        return {status: found[status] for status in STATUSES}

    def duplicates(self) -> dict[tuple[str, str], int]:
        """Count the sends of the same gift to the same e-mail, where there is more than one."""
        counts = Counter(send.duplicate_key for send in self._sends.values())
        return {key: count for key, count in counts.items() if count > 1}

    def clear(self) -> None:
        """Delete every send, also from the journal."""
        self._sends.clear()
        if self._journal:
            self._journal.clear()

    def _store(self, send: Send) -> Send:
        # A send whose status was forced is written a second time; the last line with an id is valid.
        if self._journal:
            self._journal.append(asdict(send))
        self._sends[send.id] = send
        return send

    def _updates(self, send: Send, now: float) -> list[tuple[str, float]]:
        return status_updates(send.body["email"], send.accepted_at, self._step, now, send.finished)


def gid_of(send_id: str | int) -> str:
    """
    Return the id by which webhooks name a send; that it differs from its other id, and that gift sends have one, is
    inferred.

    :param send_id: its id
    """
    return f"sandbox-{send_id}"


def _from_record(record: dict[str, Any]) -> Send:
    try:
        send = Send(**record)
    except TypeError as error:
        raise ValueError("the state file holds something else than sends") from error
    return replace(send, finished=(send.finished[0], send.finished[1])) if send.finished else send
