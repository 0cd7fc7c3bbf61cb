"""The hook's reads from the ledger, for sensors and triggers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import SendProgress
from airflow_provider_sendoso.ledger.tries import ThisTry
from airflow_provider_sendoso.models import StatusReport


class Recorded(ABC):
    """Base of the hook: reads from the ledger, and writes to it, the sends of an account and their statuses."""

    @property
    @abstractmethod
    def config(self) -> ClientConfig:
        """The connection, resolved."""

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """The connection's ledger."""

    @property
    @abstractmethod
    def _ledger(self) -> Ledger | None:
        """The ledger; ``None`` if the connection has none."""

    @property
    def rare_poll(self) -> float | None:
        """
        Seconds after which a send is looked at that no webhook has named; ``None`` where none can be heard of.

        Webhooks are heard of where the connection has their secret, and a ledger, in which the receiver stores them.
        """
        config = self.config
        return config.poll_with_webhooks if config.webhook_secret and self._ledger is not None else None

    def recorded_send_ids(self, *, batch_id: str | None = None, dedupe_scope: str | None = None) -> list[str]:
        """
        Read from the ledger the ids of the sends of a batch or of a scope.

        :param batch_id: a batch's id, as its operator returned it; exactly one of ``batch_id`` and ``dedupe_scope``.
        :param dedupe_scope: a scope of this connection's account.
        :raises SendosoConfigError: if the ledger does not know the batch or scope.
        """
        return [send.send_id for send in self.recorded_sends(batch_id=batch_id, dedupe_scope=dedupe_scope)]

    def recorded_sends(self, *, batch_id: str | None = None, dedupe_scope: str | None = None) -> Iterator[SendProgress]:
        """
        Read from the ledger the sends of a batch or of a scope, with the last status that is known of each.

        :param batch_id: a batch's id, as its operator returned it; exactly one of ``batch_id`` and ``dedupe_scope``.
        :param dedupe_scope: a scope of this connection's account.
        :return: a lazy iterator, which reads the ledger page by page.
        :raises SendosoConfigError: if the ledger does not know the batch or scope.
        """
        sends = self.ledger.sends
        if batch_id is not None:
            where = {"batch_id": batch_id, "account": self.config.account}
            known = sends.batch_exists(**where)
        else:
            where = {"account": self.config.account, "dedupe_scope": str(dedupe_scope)}
            known = sends.scope_exists(**where)
        if not known:
            raise SendosoConfigError(
                f"The ledger {self.ledger.identity.ledger_uuid} knows no {', '.join(map('='.join, where.items()))}. "
                "Is it the ledger that the batch was sent with?"
            )
        return sends.progress(**where)

    def recorded_among(self, send_ids: Iterable[str]) -> Iterator[SendProgress]:
        """
        Read from the ledger the last known status of those sends that it knows; without a ledger, yield nothing.

        :param send_ids: Sendoso's ids.
        """
        if self._ledger is None:
            return iter(())
        return self._ledger.sends.progress_of(self.config.account, send_ids)

    def note_statuses(self, statuses: Mapping[str, str | StatusReport], age: float = 0.0) -> None:
        """
        Write statuses into the ledger for those sends that it knows; without a ledger, do nothing.

        :param statuses: by send id, one of the six, or with Sendoso's words for it :attr:`Send.report
            <airflow_provider_sendoso.models.Send.report>`.
        :param age: seconds since the first of them was read; what another wait has noted since is not set back.
        :raises SendosoLedgerError: if the ledger's database does not answer.
        """
        if self._ledger is not None:
            reports = {
                send_id: status if isinstance(status, StatusReport) else StatusReport.of(status)
                for send_id, status in statuses.items()
            }
            self._ledger.sends.note_statuses(self.config.account, reports, age)

    def note_gids(self, gids: Mapping[str, str]) -> None:
        """
        Write into the ledger by which ids webhooks name sends; without a ledger, do nothing.

        :param gids: the ``send_gid`` by send id.
        :raises SendosoLedgerError: if the ledger's database does not answer.
        """
        if self._ledger is not None:
            self._ledger.wakeups.note_gids(self.config.account, gids)

    def keep_list(self, send_ids: Sequence[str], seconds: float) -> str | None:
        """
        Store a list of sends in the ledger, so that a trigger's arguments need not hold it.

        :param send_ids: the list.
        :param seconds: how long the list is needed.
        :return: the list's id; ``None`` without a ledger.
        """
        return None if self._ledger is None else self._ledger.send_lists.keep(send_ids, seconds)

    def waited(self, name: str, seconds: float) -> float:
        """
        Return how many seconds ago the ledger first recorded a wait; record a new wait now.

        :param name: the wait's name, at most 32 characters.
        :param seconds: how long the wait may last.
        :return: 0 without a ledger.
        """
        return 0.0 if self._ledger is None else self._ledger.send_lists.known_for(name, seconds)

    def begin_try(self, this_try: ThisTry, ti: Any) -> None:
        """
        Let a try supersede the earlier tries of its task instance, as far as the connection has a ledger.

        :param this_try: the try of this process.
        :param ti: the task instance; where it has no ``run_id``, as in a unit test, nothing is done.
        :raises SendosoSupersededError: if a later try has begun.
        """
        if self._ledger is not None and isinstance(getattr(ti, "run_id", None), str):
            number = getattr(ti, "try_number", None)
            this_try.begin(
                self._ledger.tries, task_hash(self.config, *ids_of(ti)), number if isinstance(number, int) else 0
            )

    def kept_list(self, list_id: str) -> list[str]:
        """
        Read a list of sends that :meth:`keep_list` has stored in the ledger.

        :param list_id: the id that :meth:`keep_list` returned.
        :raises SendosoLedgerError: if the ledger does not hold the list.
        """
        return self.ledger.send_lists.read(list_id)


def ids_of(ti: Any) -> tuple[str, str, str, int]:
    """Return the ids that name a task instance in all its tries; an index of -1: it is not mapped."""
    return ti.dag_id, ti.task_id, ti.run_id, ti.map_index if isinstance(ti.map_index, int) else -1


def task_hash(config: ClientConfig, *ids: str | int) -> str:
    """
    Return the name of a task instance in the ledger: 32 hexadecimal digits.

    :param config: the connection, which has the account and the deployment.
    :param ids: those that name the task instance, and others for something of it.
    """
    parts = (config.account, config.deployment or "", *map(str, ids))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
