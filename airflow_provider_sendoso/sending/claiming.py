"""The claims of one try on the sends of its batch: taken in chunks, renewed, and given back."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping

from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, Record, State, Wanted
from airflow_provider_sendoso.ledger.tries import ThisTry
from airflow_provider_sendoso.models import Item
from airflow_provider_sendoso.sending.jobs import Job, payload_hash, send_key
from airflow_provider_sendoso.sending.kinds import kind_of
from airflow_provider_sendoso.sending.reconciling import RECONCILE

log = logging.getLogger(__name__)


class Claims:
    """
    Claims sends for one try of one batch.

    :param ledger: the ledger.
    :param batch: the batch of the rows.
    :param lease: seconds that a claim lasts without being renewed.
    :param client: the hash of the client that sends.
    :param this_try: the try of the task.
    """

    def __init__(self, ledger: Ledger, batch: Batch, lease: float, client: str, this_try: ThisTry) -> None:
        self._ledger = ledger
        self._sends = ledger.sends
        self._batch = batch
        self._lease = lease
        self._client = client
        self._this_try = this_try
        self._owner = uuid.uuid4().hex
        self._renewed_at = time.monotonic()
        self.proven_absent: dict[str, Record] = {}
        """By send key, the sends that are to be sent again, because two complete lists were without them."""
        self.differing = 0
        """Rows whose gift was sent to the same recipient before, with another content."""
        self.of_another = Counter[Item]()
        """Rows whose recipient was sent another gift in this scope, by the gift that was sent."""

    def send_key(self, job: Job) -> str:
        """
        Return the key of a row's send.

        :param job: the row.
        """
        return send_key(self._ledger, self._batch, job)

    def payload_hash(self, job: Job) -> str:
        """
        Return the hash of what a row sends.

        :param job: the row.
        """
        return payload_hash(self._ledger, job)

    def take(self, by_key: Mapping[str, Job], left_out: Container[int]) -> dict[str, Claim | Record]:
        """
        Claim what is free.

        :param by_key: the rows, by the keys of their sends.
        :param left_out: numbers of rows that are looked up and not claimed.
        :return: by send key, a claim, or the record of a send that is not free; a row that is left out and has no
            record is missing.
        :raises SendosoLedgerError: if the ledger does not answer.
        """
        wanted = {key: self._wanted(key, job) for key, job in by_key.items() if job.number not in left_out}
        found = self._take(wanted.values())
        if len(wanted) < len(by_key):
            found |= self._sends.read(list(by_key.keys() - wanted.keys()))
        absent = [key for key in self.proven_absent.keys() & wanted.keys() if self._reopen(self.proven_absent.pop(key))]
        if absent:
            crash_point("reopened")
            found |= self._take([wanted[key] for key in absent])
        for key, claim in found.items():
            if isinstance(claim, Record) and claim.state is State.SENT and key in wanted:
                if claim.item != wanted[key].item:
                    self.of_another[claim.item] += 1
                else:
                    self.differing += claim.payload_hash != wanted[key].payload_hash
        return found

    def read(self, jobs: Iterable[Job]) -> list[tuple[Job, Record]]:
        """
        Read the records of rows.

        :param jobs: the rows; each has a record.
        """
        by_key = {self.send_key(job): job for job in jobs}
        records = self._sends.read(list(by_key))
        return [(job, records[key]) for key, job in by_key.items()]

    def renew_if_due(self) -> None:
        """
        Renew the leases of all claims, once in a third of a lease.

        :raises SendosoSupersededError: if a newer try of the same task has begun.
        """
        if time.monotonic() - self._renewed_at > self._lease / 3:
            self._this_try.check()
            self._sends.renew(self._owner, self._lease)
            self._renewed_at = time.monotonic()

    def reopen(self, refused: Collection[Claim]) -> None:
        """
        Free sends that were refused.

        :param refused: their claims.
        """
        self._sends.reopen(list(refused))

    def release(self) -> None:
        """Give back the claims that were not posted; an error is logged, because the claims lapse in any case."""
        try:
            self._sends.release(self._owner)
            crash_point("released")
        except SendosoLedgerError as error:
            log.warning("Claims could not be given back and lapse within %.0f s: %s", self._lease, error)

    def _take(self, wanted: Iterable[Wanted]) -> dict[str, Claim | Record]:
        supersedes = self._this_try.begun
        return self._sends.claim(self._batch, self._owner, self._lease, list(wanted), supersedes=supersedes)

    def _reopen(self, proven_absent: Record) -> bool:
        """Release a send that was proven absent, unless it has changed since."""
        return self._ledger.resolutions.resolve(
            proven_absent, State.READY, resolved_by=RECONCILE, why="not in two complete lists after the settle time"
        )

    def _wanted(self, key: str, job: Job) -> Wanted:
        return Wanted(
            key,
            self.payload_hash(job),
            job.send.item,
            job.row_ref,
            job.resend_of,
            self._ledger.email_hash(self._batch.account, kind_of(job.send).email(job.send)),
            self._client,
            kind=job.send.kind,
        )
