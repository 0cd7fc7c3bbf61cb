"""Events, between the pure rules of ``differences.py``, the ledger that keeps the cursor, and whichever session reads.

The cursor and what it has brought are written at once, under the name of the task's run that got it: a try that was
killed with its events in hand is given the same ones again, and so is a run that is cleared.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.events.differences import Cursor, Question, Reading, Taken, poll
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.cursors import LONGEST_NAME
from airflow_provider_sendoso.waiting.goal import Goal

log = logging.getLogger(__name__)

MOST_HANDED = 5
"""Runs whose events are kept for their next try."""

_DIGEST = 16


def cursor_key(*parts: str) -> str:
    """
    Name a cursor in the ledger: readable, and by a hash of its parts not to be taken for another.

    :param parts: of the name.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGEST]
    return f"{'/'.join(parts)[: LONGEST_NAME - _DIGEST - 1]}#{digest}"


def check_host(question: Question, base_url: str) -> None:
    """
    Refuse to wait for statuses that never come.

    :param question: what is asked.
    :param base_url: the connection's.
    :raises SendosoConfigError: on the vendor's sandbox, for statuses beyond ``processing``.
    """
    if question.statuses:
        Goal(tuple(question.statuses), ()).check_host(base_url)


@dataclass(frozen=True)
class Position:
    """
    What is kept: how far a list was read, and what it has brought whom.

    :param cursor: of the last reading.
    :param handed: reports by run, the last of them last.
    """

    cursor: Cursor = field(default_factory=Cursor)
    handed: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_text(cls, text: str | None) -> Position:
        """
        Read what was kept.

        :param text: of :meth:`as_text`; ``None``: nothing yet.
        :raises SendosoError: for what a newer version of this provider has written.
        """
        if text is None:
            return cls()
        kept = json.loads(text)
        return cls(Cursor.from_json(kept["cursor"]), kept["handed"])

    def as_text(self) -> str:
        """Return what to keep."""
        return json.dumps({"cursor": self.cursor.as_json(), "handed": self.handed}, separators=(",", ":"))


class EventWait:
    """
    One task's wait for events; its cursor is in the ledger.

    :meth:`recall` and :meth:`conclude` block while they read and write the ledger; nothing else here does.

    :param hook: with its connections resolved.
    :param question: what is asked.
    :param cursor_name: whose cursor it is, within the account and the object.
    :param run: who gets the events: the same for all tries of a task's run.
    """

    def __init__(self, hook: SendosoHook, question: Question, cursor_name: str, run: str) -> None:
        self._hook = hook
        self._question = question
        self._key = cursor_key(question.object, hook.config.account, cursor_name)
        self._run = run
        self._version = 0
        self._position = Position()

    def recall(self) -> dict[str, Any] | None:
        """
        Read from the ledger how far the list was read.

        :return: what this run was handed by an earlier try.
        :raises SendosoError: if that cannot be read.
        """
        kept = self._hook.ledger.cursors.read(self._key)
        self._version, self._position = kept.version, Position.from_text(kept.text)
        return self._position.handed.get(self._run)

    def begin(self) -> Generator[Request, Answer, Reading]:
        """Begin the poll that goes on from there."""
        return poll(self._position.cursor, self._question)

    def conclude(self, reading: Reading) -> dict[str, Any] | None:
        """
        Write into the ledger what was read, and say what of it is new.

        :param reading: of :meth:`begin`.
        :return: the report of the events, if there are any.
        :raises SendosoError: if it could not be written; then the next poll finds the same events.
        """
        taken = self._position.cursor.take(self._question, reading, time.time())
        complain(self._question, taken)
        report = taken.report(self._question) if taken.events else None
        position = replace(self._position, cursor=taken.cursor)
        if report is not None:
            last = list(self._position.handed.items())[1 - MOST_HANDED :]
            position = replace(position, handed={**dict(last), self._run: report})
        if position == self._position:
            return None
        if not self._hook.ledger.cursors.write(self._key, self._version, position.as_text()):
            log.warning("Another run has moved the cursor %s on meanwhile; what it found is its own.", self._key)
            return None
        return report


def complain(question: Question, taken: Taken) -> None:
    """
    Log what a cursor does not follow any more.

    :param question: what is asked.
    :param taken: what a reading has brought.
    """
    if taken.given_up:
        log.warning("%d %s are not watched any more: too old, or too many.", taken.given_up, question.object)
    if taken.gone:
        log.warning("%d %s that were watched are not in the list any more.", taken.gone, question.object)
