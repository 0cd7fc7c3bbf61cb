"""Finds the rows whose person was sent something of the account too recently, before they are claimed."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.models.spending import SpendingLimits
from airflow_provider_sendoso.sending.jobs import Job, payload_hash
from airflow_provider_sendoso.sending.kinds import kind_of


def capped_rows(ledger: Ledger, batch: Batch, by_key: Mapping[str, Job], limits: SpendingLimits) -> dict[str, float]:
    """
    Return the rows that ``min_days_between_gifts`` forbids to post now; the ledger is only read.

    A replacement is never one of them, nor is a row whose own send has gone out or may have.

    :param ledger: the ledger.
    :param batch: the rows' batch.
    :param by_key: the rows by send key, at most a few dozen.
    :param limits: the limits.
    :return: by send key, when the person was last sent something, in epoch seconds.
    """
    days = limits.min_days_between_gifts
    if not days or not by_key:
        return {}
    people = {
        key: ledger.email_hash(batch.account, kind_of(job.send).email(job.send))
        for key, job in by_key.items()
        if job.resend_of is None
    }
    last = ledger.budget.last_gifts(batch.account, set(people.values()), days)
    suspects = {key: last[person] for key, person in people.items() if person in last}
    known = ledger.sends.read(list(suspects)) if suspects else {}
    return {
        key: last_gift
        for key, last_gift in suspects.items()
        if key not in known
        or known[key].outcome_for(batch.batch_id, payload_hash(ledger, by_key[key])) is RowOutcome.NOT_REACHED
    }
