"""What a batch would send, without sending it: read from the ledger, and leaving no trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.sending.jobs import Job, Result, chunks, payload_hash, send_key

_MODULUS = 2**256


@dataclass
class Preview:
    """
    What a try would do.

    :param to_send: rows that would be posted.
    :param mine: rows that this batch has posted in earlier tries: sent, refused, or of unknown outcome.
    :param fingerprint: of both together, in whatever order the rows came; the same over all tries of a batch whose
        rows are the same, and for the dry run before it.
    """

    to_send: int = 0
    mine: int = 0
    fingerprint: str = ""


def preview(
    ledger: Ledger, batch: Batch, jobs: Iterable[Job], record: Callable[[Result], None], charged: Callable[[Job], None]
) -> Preview:
    """
    Look at every row as a sender would, without claiming any.

    :param ledger: is only read.
    :param batch: whose rows they are; it need not be known to the ledger.
    :param jobs: in order; no two that make the same send.
    :param record: takes what would become of a row; ``not_reached`` are those that would be posted.
    :param charged: takes each row that would be posted, or was by this batch and may have gone out: what costs money.
    """
    seen = Preview()
    total = 0
    for chunk in chunks(jobs):
        by_key = {send_key(ledger, batch, job): job for job in chunk}
        known = ledger.sends.read(list(by_key))
        for key, job in by_key.items():
            content = payload_hash(ledger, job)
            found = known.get(key)
            outcome = RowOutcome.NOT_REACHED if found is None else found.outcome_for(batch.batch_id, content)
            open_or_refused = outcome in (RowOutcome.HELD, RowOutcome.REFUSED)
            reason = found.why if found is not None and open_or_refused else None
            mine = found is not None and found.batch_id == batch.batch_id and outcome is not RowOutcome.NOT_REACHED
            record(Result(job.number, outcome, reason, send_key=key))
            if mine or outcome is RowOutcome.NOT_REACHED:
                # A sum, because the rows of a query without ORDER BY come in another order every time.
                digest = ledger.identity.digest("fingerprint", key, content)
                total = (total + int(digest, 16)) % _MODULUS
                seen.mine += mine
                seen.to_send += not mine
                if outcome is not RowOutcome.REFUSED:
                    charged(job)
    seen.fingerprint = f"{total:064x}"
    return seen
