"""Determines what a batch would send, by reading the ledger without writing to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import Item, RowOutcome
from airflow_provider_sendoso.sending.jobs import Job, Result, chunks, payload_hash, send_key

_MODULUS = 2**256


@dataclass
class Preview:
    """
    What a try would do.

    :param made: what the batch has sent, or may have, in all its tries, counted by what was sent.
    :param to_send: the rows that would be posted, or may be, likewise: what is sent again if it is proven not to have
        gone out is one of them.
    :param fingerprint: of these and of the rows that this batch has posted in earlier tries, in whatever order the rows
        came; the same over all tries of a batch whose rows are the same, and for the dry run before it.
    :param left_out: numbers of the rows that are not counted, and that could become free while the batch runs: what
        another run is posting may be turned away, say. No limit was checked for them, so they are not to be posted.
    :param posts: whether any row may be posted. Where none may, a held row of this batch is left out as well.
    """

    made: Counter[Item]
    to_send: Counter[Item] = field(default_factory=Counter)
    fingerprint: str = ""
    left_out: set[int] = field(default_factory=set)
    posts: bool = False

    @property
    def sends(self) -> int:
        """The sends of the batch, those already made included."""
        return (self.made + self.to_send).total()


def preview(
    ledger: Ledger,
    batch: Batch,
    jobs: Iterable[Job],
    record: Callable[[Result], None],
    *,
    resend_absent: bool = False,
) -> Preview:
    """
    Evaluate every row like a sender, without claiming any.

    :param ledger: is only read.
    :param batch: whose rows they are; it need not be known to the ledger.
    :param jobs: in order; no two that make the same send.
    :param record: takes what would become of a row; ``not_reached`` are those that would be posted.
    :param resend_absent: whether sends of unknown outcome are sent again once they are proven not to have gone out.
    """
    seen = Preview(ledger.sends.perhaps_sent(batch))
    total = 0
    held_here = set()
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
            absent = resend_absent and outcome is RowOutcome.HELD
            again = absent and not mine
            seen.posts = seen.posts or absent or outcome is RowOutcome.NOT_REACHED
            record(Result(job.number, outcome, reason, send_key=key))
            if again or outcome is RowOutcome.NOT_REACHED:
                seen.to_send[job.send.item] += 1
            elif mine and outcome is RowOutcome.HELD:
                held_here.add(job.number)
            elif open_or_refused:
                seen.left_out.add(job.number)
            if mine or again or outcome is RowOutcome.NOT_REACHED:
                # A sum, because a query without ORDER BY may return its rows in another order each time.
                digest = ledger.identity.digest("fingerprint", key, content)
                total = (total + int(digest, 16)) % _MODULUS
    if not seen.posts:
        seen.left_out |= held_here
    seen.fingerprint = f"{total:064x}"
    return seen
