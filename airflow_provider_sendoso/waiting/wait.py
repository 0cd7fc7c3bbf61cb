"""One wait: connects the pure rules of ``watch.py`` with the ledger, which stores statuses, and with the session.

Statuses are written to the ledger as they are read, and a status that the ledger holds is not read again. So a
restarted triggerer, the next try and a rescheduled sensor resume the wait.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.tracker import NO_TOUCH, Tracked
from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import SendProgress
from airflow_provider_sendoso.ledger.wakeups import Wakeup
from airflow_provider_sendoso.models import StatusReport, on_hold_warning
from airflow_provider_sendoso.waiting.goal import Goal
from airflow_provider_sendoso.waiting.rounds import look
from airflow_provider_sendoso.waiting.wakeups import Ear
from airflow_provider_sendoso.waiting.watch import Watch

log = logging.getLogger(__name__)

_WRITE_AFTER = 5.0
"""Seconds between two writes to the ledger; if the process dies, the answers since the last write are read again."""


class Wait:
    """
    The sends of a wait, and the round that is due. Exactly one of the last four parameters is given.

    :meth:`recall`, :meth:`listen` and :meth:`write` block while they read and write the ledger; the other methods do
    not block.

    :param hook: the hook, with its connections resolved.
    :param goal: the goal of the wait.
    :param every: seconds between two rounds.
    :param send_ids: the sends' ids.
    :param list_id: id of a list of sends in the ledger.
    :param batch_id: a batch; it may grow during the wait.
    :param dedupe_scope: a scope; it may grow during the wait.
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
        self._said_not_listed = False
        self._ear: Ear | None = None

    def recall(self) -> list[str]:
        """
        Read the sends and their statuses from the ledger, and with webhooks which of the sends these have named.

        :return: the sends that are due.
        :raises SendosoError: if the ledger cannot be read.
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
            asked_at = None if known.noted_ago is None else now - known.noted_ago
            self.watch.recall(known.send_id, known.report, now - known.made_ago, asked_at)
        if len(self.watch.not_followed) > not_followed:
            log.warning(
                "%d sends cannot be looked for in Sendoso: eGift links whose id nobody has noted, or sends of a "
                "kind that only a newer release of this provider knows. For them the status in the ledger counts.",
                len(self.watch.not_followed),
            )
        self._recall_gids()
        self.watch.wake(self.listen(), now)
        self._recalled = self._up_to_date = True
        self._due = self.watch.due(self.goal, now, self.every)
        return self._due

    def _recall_gids(self) -> None:
        """Read by which ids webhooks name the sends that are new to this wait, where there are webhooks."""
        self.watch.rare = self.hook.rare_poll
        if self.watch.rare is None:
            return
        new = [send_id for send_id, send in self.watch.sends.items() if not send.named and not send.sought]
        for send_id, gid in self.hook.ledger.wakeups.gids(self.hook.config.account, new).items():
            self.watch.recall_gid(send_id, gid)

    def listen(self) -> list[Wakeup]:
        """
        Read from the ledger which sends webhooks have named since the last call.

        :return: nothing where the connection receives no webhooks.
        :raises SendosoLedgerError: if the ledger cannot be read.
        """
        rare = self.hook.rare_poll
        if rare is None:
            return []
        if self._ear is None:
            # What was named before a send's last check is of no interest, and after so long every send is checked.
            self._ear = Ear(self.hook.ledger, self.hook.config.account, reach=rare + 2 * self.every)
        return self._ear.listen()

    def recall_woken(self, wakeups: Iterable[Wakeup]) -> list[str]:
        """
        Take only the sends that webhooks have named for the next round, without reading the ledger.

        Once no send is open, :meth:`recall` has to tell whether there are more by now.

        :param wakeups: what was heard since the last call.
        :return: the sends that are due.
        """
        now = time.time()
        self._up_to_date = False
        self.watch.wake(wakeups, now)
        self._due = self.watch.due_woken(self.goal, now)
        return self._due

    @property
    def has_open(self) -> bool:
        """Whether the status of a send that the wait knows can still change the result."""
        return bool(self.watch.open(self.goal))

    def begin(self) -> Generator[Request, Answer, None]:
        """Begin the round for the sends that :meth:`recall` returned."""
        return look(self.watch, self._due)

    @property
    def has_news(self) -> bool:
        """Whether it is time for :meth:`write`."""
        return bool(self.watch.news) and time.monotonic() - self._written_at > _WRITE_AFTER

    def write(self) -> None:
        """Write the statuses that were read into the ledger; if that fails, the next call writes them."""
        self._written_at = time.monotonic()
        news: dict[str, StatusReport] = {}
        try:
            self._bind()
            news, self.watch.news = self.watch.news, {}
            if news:
                self.hook.note_statuses(news, self.watch.age_of(news, time.time()))
            if gids := self.watch.new_gids:
                self.hook.note_gids(gids)
                self.watch.new_gids = {}
        except SendosoLedgerError as error:
            log.warning("%d statuses are not in the ledger yet: %s", len(news), error)
            self.watch.news = news | self.watch.news

    def _track(self, known: SendProgress, now: float) -> None:
        """Record how a send is looked for: by its id, in the Send Tracker's list, or not at all."""
        kind = known.kind
        if kind is None or (kind.in_tracker and not kind.is_bound and known.list_id is None):
            self.watch.not_followed.add(known.send_id)
            return
        self.watch.not_followed.discard(known.send_id)
        if not kind.in_tracker or known.email_hash is None:
            return
        self._keys[known.send_id] = known.send_key
        self.watch.tracked[known.send_id] = Tracked(
            known.send_id, known.touch_id or NO_TOUCH, known.email_hash, now - known.made_ago, known.list_id
        )

    def _bind(self) -> None:
        """Bind rows of the Send Tracker's list to sends in the ledger, and record their statuses."""
        # Imported here, because a DAG file may import this module through the trigger, and ``sending`` is heavy.
        from airflow_provider_sendoso.sending.kinds.tracking import tracked

        walked, self.watch.walked = self.watch.walked, []
        for tracker in walked:
            account, bindings = self.hook.config.account, self.hook.ledger.bindings
            taken = bindings.bound_among(account, (row_id for rows in tracker.candidates.values() for row_id in rows))
            hashes = {email_hash for email_hash, _ in tracker.candidates}
            names = {send_key: send_id for send_id, send_key in self._keys.items()}
            # The other sends that may match, under their names in this wait: their rows must not be bound to this
            # wait's sends.
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
                    self.watch.note(name, send.report, time.time())
                    self.watch.learn(name, send.gid)
                else:
                    self._recalled = False  # another process has bound it: read the binding from the ledger

    def is_over(self) -> bool:
        """
        Return whether all sends are settled.

        :raises SendosoError: after too many rounds without an answer.
        """
        self.watch.check()
        return self._up_to_date and not self.watch.open(self.goal)

    def complain(self) -> None:
        """Log that the last round failed, if it did, and which sends Sendoso has put on hold."""
        put_on_hold, self.watch.put_on_hold = self.watch.put_on_hold, []
        words = self.watch.on_hold() if put_on_hold else {}
        if on_hold := [send_id for send_id in put_on_hold if send_id in words]:
            log.warning("%s", on_hold_warning(Counter(words[send_id] for send_id in on_hold), on_hold))
        if self.watch.not_listed and not self._said_not_listed:
            self._said_not_listed = True
            log.warning(
                "%d sends are not in Sendoso's list of sends under their ids. That it shows sends of the marketplace "
                "and of SmartSend is not published. While it does not, they cannot be followed, and this wait ends "
                "with the sensor's timeout: with soft_fail=True the task is then skipped.",
                len(self.watch.not_listed),
            )
        if self.watch.dead_rounds:
            log.warning("Could not look at the sends, %d times in a row: %s", self.watch.dead_rounds, self.watch.error)
