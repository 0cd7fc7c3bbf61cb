"""Connects the pure rules of ``differences.py`` with the ledger, which stores the cursor, and with the session.

A cursor and the events that it has returned are written together, with the name of the task's run that received them.
So the retry of a killed try, or a cleared run, receives the same events again.
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
"""Number of runs whose events are stored for a later try."""

_DIGEST = 16


def cursor_key(*parts: str) -> str:
    """
    Build a cursor's key in the ledger: the readable parts, and a hash that makes the key unique.

    :param parts: the parts of the name.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGEST]
    return f"{'/'.join(parts)[: LONGEST_NAME - _DIGEST - 1]}#{digest}"


def check_host(question: Question, base_url: str) -> None:
    """
    Refuse to wait for statuses that the host never reports.

    :param question: the question of the poll.
    :param base_url: the connection's base URL.
    :raises SendosoConfigError: on the vendor's sandbox, if all statuses are beyond ``processing``.
    """
    if question.statuses:
        Goal(tuple(question.statuses), ()).check_host(base_url)


@dataclass(frozen=True)
class Position:
    """
    The stored state of a wait: the cursor, and the reports that were returned to runs.

    :param cursor: the cursor of the last reading.
    :param handed: reports by run, in the order in which they were returned.
    """

    cursor: Cursor = field(default_factory=Cursor)
    handed: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_text(cls, text: str | None) -> Position:
        """
        Parse a stored position.

        :param text: the result of :meth:`as_text`; ``None`` stands for a new position.
        :raises SendosoError: if another version of this provider has written it.
        """
        if text is None:
            return cls()
        kept = json.loads(text)
        return cls(Cursor.from_json(kept["cursor"]), kept["handed"])

    def as_text(self) -> str:
        """Return the position as JSON text."""
        return json.dumps({"cursor": self.cursor.as_json(), "handed": self.handed}, separators=(",", ":"))


class EventWait:
    """
    One task's wait for events, with its cursor in the ledger.

    :meth:`recall` and :meth:`conclude` block while they read and write the ledger; the other methods do not block.

    :param hook: the hook, with its connections resolved.
    :param question: the object to poll, and what counts as an event.
    :param cursor_name: the cursor's name, unique within account and object.
    :param run: name of the task's run that receives the events, the same for all tries.
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
        Read the position from the ledger.

        :return: the report that an earlier try of this run received, if there is one.
        :raises SendosoError: if the ledger cannot be read.
        """
        kept = self._hook.ledger.cursors.read(self._key)
        self._version, self._position = kept.version, Position.from_text(kept.text)
        return self._position.handed.get(self._run)

    def begin(self) -> Generator[Request, Answer, Reading]:
        """Begin the poll that resumes from the position that :meth:`recall` has read."""
        return poll(self._position.cursor, self._question)

    def conclude(self, reading: Reading) -> dict[str, Any] | None:
        """
        Write the new position into the ledger, and return the new events.

        :param reading: the reading that :meth:`begin` returned.
        :return: the report of the events, if there are any.
        :raises SendosoError: if the ledger could not be written; then the next poll finds the same events.
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
            log.warning(
                "Another run has advanced the cursor %s meanwhile, and has taken the events that it found.", self._key
            )
            return None
        return report


def complain(question: Question, taken: Taken) -> None:
    """
    Log how many sends a cursor no longer watches.

    :param question: the question of the poll.
    :param taken: the result of :meth:`Cursor.take`.
    """
    if taken.given_up:
        log.warning("%d %s are not watched any more: too old, or too many.", taken.given_up, question.object)
    if taken.gone:
        log.warning("%d %s that were watched are not in the list any more.", taken.gone, question.object)
