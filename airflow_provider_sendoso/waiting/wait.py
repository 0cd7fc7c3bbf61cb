"""One wait, between the pure rules of ``waiting.py``, the ledger that remembers, and whichever session asks.

What is read is written to the ledger as it comes, and what the ledger knows is not asked again: so a restarted
triggerer, the next try and a rescheduled sensor go on where the last one was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from dataclasses import replace

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.tracker import Tracked
from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import SendProgress
from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.waiting.goal import Goal
from airflow_provider_sendoso.waiting.rounds import look
from airflow_provider_sendoso.waiting.watch import Watch

log = logging.getLogger(__name__)

_WRITE_AFTER = 5.0
"""Seconds of answers that may be lost with the process, and are then asked for again."""


class Wait:
    """
    The sends that are waited for, and the round that is due.

    :meth:`recall` and :meth:`write` block while they read and write the ledger; nothing else here does.

    :param hook: with its connections resolved.
    :param goal: what is waited for.
    :param every: seconds between two rounds.
    :param send_ids: the sends, or
    :param list_id: a list of them in the ledger, or
    :param batch_id: a batch, or
    :param dedupe_scope: a scope: these two may grow while they are waited for.
    """

    def __init__(
        self,
        hook: SendosoHook,
        goal: Goal,
        every: float,
        *,
        send_ids: Sequence[str] | None = None,
        list_id: str | None = None,
        batch_id: str | None = None,
        dedupe_scope: str | None = None,
    ) -> None:
        self.hook = hook
        self.goal = goal
        self.every = every
        self.watch = Watch(digest=lambda email: hook.ledger.email_hash(hook.config.account, email))
        self.named = send_ids is not None or list_id is not None
        self._send_ids = send_ids
        self._list_id = list_id
        self._where = {"batch_id": batch_id, "dedupe_scope": dedupe_scope}
        self._recalled = False
        self._up_to_date = False
        self._due: list[str] = []
        self._keys: dict[str, str] = {}
        self._written_at = time.monotonic()

    def recall(self) -> list[str]:
        """
        Read from the ledger which sends they are and how far they have come.

        :return: the sends that are due.
        :raises SendosoError: if that cannot be read.
        """
        now = time.time()
        self._up_to_date = False
        if not self.named:
            recorded = self.hook.recorded_sends(**self._where)
        elif not self._recalled:
            send_ids = self._send_ids if self._send_ids is not None else self.hook.kept_list(str(self._list_id))
            self.watch.add(send_ids, now)
            recorded = self.hook.recorded_among(send_ids)
        else:
            recorded = iter(())
        not_followed = len(self.watch.not_followed)
        for known in recorded:
            self._track(known, now)
            status = SendStatus(known.status) if known.status else None
            asked_at = None if known.noted_ago is None else now - known.noted_ago
            self.watch.recall(known.send_id, status, now - known.made_ago, asked_at)
        if len(self.watch.not_followed) > not_followed:
            log.warning(
                "%d sends cannot be looked for in Sendoso: eGift links whose id nobody has noted, or sends of a "
                "kind that only a newer release of this provider knows. For them the status in the ledger counts.",
                len(self.watch.not_followed),
            )
        self._recalled = self._up_to_date = True
        self._due = self.watch.due(self.goal, now, self.every)
        return self._due

    def begin(self) -> Generator[Request, Answer, None]:
        """Begin the round of those that :meth:`recall` said are due."""
        return look(self.watch, self._due)

    @property
    def has_news(self) -> bool:
        """Whether it is time for :meth:`write`."""
        return bool(self.watch.news) and time.monotonic() - self._written_at > _WRITE_AFTER

    def write(self) -> None:
        """Write into the ledger what was read; if it does not answer, the next time will do."""
        self._written_at = time.monotonic()
        news: dict[str, SendStatus] = {}
        try:
            self._bind()
            news, self.watch.news = self.watch.news, {}
            if news:
                self.hook.note_statuses(news)
        except SendosoLedgerError as error:
            log.warning("%d statuses are not in the ledger yet: %s", len(news), error)
            self.watch.news = news | self.watch.news

    def _track(self, known: SendProgress, now: float) -> None:
        """Remember how a send is looked for: by its id, in the Send Tracker's list, or by nothing."""
        kind = known.kind
        if kind is None or (kind.in_tracker and not kind.is_bound and known.bound_id is None):
            self.watch.not_followed.add(known.send_id)
            return
        self.watch.not_followed.discard(known.send_id)
        if not kind.in_tracker or known.touch_id is None or known.email_hash is None:
            return
        self._keys[known.send_id] = known.send_key
        self.watch.tracked[known.send_id] = Tracked(
            known.send_id, known.touch_id, known.email_hash, now - known.made_ago, known.bound_id
        )

    def _bind(self) -> None:
        """Note in the ledger which rows of the Send Tracker's list are which sends, and what these say."""
        # Here, because a DAG file may import the trigger, and with it this; what sends is most of its cost.
        from airflow_provider_sendoso.sending.kinds.campaign import tracked

        walked, self.watch.walked = self.watch.walked, []
        for tracker in walked:
            account, bindings = self.hook.config.account, self.hook.ledger.bindings
            taken = bindings.bound_among(account, (row_id for rows in tracker.candidates.values() for row_id in rows))
            hashes = {email_hash for email_hash, _ in tracker.candidates}
            names = {send_key: send_id for send_id, send_key in self._keys.items()}
            # By the names that they have here, if they have one: the others' rows are not to be taken for these.
            others = [
                replace(tracked(record), name=names.get(record.send_key, record.send_key))
                for record in bindings.perhaps_sent(account, hashes)
            ]
            for name, send in tracker.assign(taken, self.hook.config.timeout, others).items():
                mine = self.watch.tracked.get(name)
                if mine is None:
                    continue
                if bindings.bind(self._keys[name], send.id):
                    self.watch.tracked[name] = replace(mine, bound_id=send.id)
                    self.watch.note(name, send.status, time.time())
                else:
                    self._recalled = False  # somebody else has bound it meanwhile: the ledger knows to what

    def is_over(self) -> bool:
        """
        Say whether all sends are settled.

        :raises SendosoError: if nothing has answered for too many rounds.
        """
        self.watch.check()
        return self._up_to_date and not self.watch.open(self.goal)

    def complain(self) -> None:
        """Log that the last round failed, if it did."""
        if self.watch.dead_rounds:
            log.warning("Could not look at the sends, %d times in a row: %s", self.watch.dead_rounds, self.watch.error)
