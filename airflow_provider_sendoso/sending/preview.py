"""Determines what a batch would send, by reading the ledger without writing to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, State
from airflow_provider_sendoso.models import Item, RowOutcome
from airflow_provider_sendoso.models.spending import NO_LIMITS, SpendingLimits
from airflow_provider_sendoso.sending.capping import capped_rows
from airflow_provider_sendoso.sending.jobs import Job, Result, capped_result, chunks, payload_hash, send_key
from airflow_provider_sendoso.sending.sketch import Sketch

_MODULUS = 2**256
_SKETCH = ":"
"""Parts a fingerprint's hash, which alone decides, from its sketch, which says in which rows two of them differ."""


@dataclass
class Preview:
    """
    What a try would send.

    :param made: the sends that the batch has made, or may have made, in all its tries, counted by gift or campaign.
    :param to_send: the sends that this try would make, or might make, counted likewise. A send of unknown outcome that
        is made again once its absence is proven is one of them.
    :param fingerprint: hash and sketch of ``to_send`` and of what this batch has posted in earlier tries, whatever the
        order of the rows. It is the same in all tries of a batch with the same rows, and in the dry run before it.
    :param left_out: numbers of the rows that are not counted, and that could become free while the batch runs (another
        run is posting the send, say, and Sendoso refuses it). No limit was checked for them, so the try must not post
        them.
    :param of_another: the rows whose recipient was sent another gift in this scope, counted by the gift that was sent.
    :param posts: whether any row may be posted. Where none may, a held row of this batch is left out as well.
    """

    made: Counter[Item]
    to_send: Counter[Item] = field(default_factory=Counter)
    fingerprint: str = ""
    left_out: set[int] = field(default_factory=set)
    of_another: Counter[Item] = field(default_factory=Counter)
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
    limits: SpendingLimits = NO_LIMITS,
) -> Preview:
    """
    Determine what a sender would do with every row, without claiming any.

    :param ledger: the ledger, which is only read.
    :param batch: the rows' batch, which the ledger need not know.
    :param jobs: the rows, in order; each makes a different send.
    :param record: takes the result that a row would have; ``not_reached`` for a row that would be posted.
    :param resend_absent: whether sends of unknown outcome are sent again once they are proven not to have gone out.
    :param limits: with ``min_days_between_gifts``; a row that it forbids is left out.
    """
    seen = Preview(ledger.sends.perhaps_sent(batch))
    total, sketch = 0, Sketch()
    held_here = set()
    for chunk in chunks(jobs):
        by_key = {send_key(ledger, batch, job): job for job in chunk}
        capped = capped_rows(ledger, batch, by_key, limits)
        known = ledger.sends.read(list(by_key))
        for key, job in by_key.items():
            if key in capped:
                record(capped_result(job, capped[key], limits))
                seen.left_out.add(job.number)
                continue
            content = payload_hash(ledger, job)
            found = known.get(key)
            outcome = RowOutcome.NOT_REACHED if found is None else found.outcome_for(batch.batch_id, content)
            open_or_refused = outcome in (RowOutcome.HELD, RowOutcome.REFUSED)
            reason = found.why if found is not None and open_or_refused else None
            mine = found is not None and found.batch_id == batch.batch_id and outcome is not RowOutcome.NOT_REACHED
            absent = resend_absent and outcome is RowOutcome.HELD
            again = absent and not mine
            if found is not None and found.state is State.SENT and found.item != job.send.item:
                seen.of_another[found.item] += 1
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
                sketch.add(key, digest)
    if not seen.posts:
        seen.left_out |= held_here
    seen.fingerprint = f"{total:064x}{_SKETCH}{sketch.dump()}"
    return seen


def hash_of(fingerprint: str) -> str:
    """
    Return the part of a fingerprint that decides whether two are the same.

    :param fingerprint: of a preview, or its hash alone.
    """
    return fingerprint.partition(_SKETCH)[0]


def say_differences(approved: str, seen: Preview, ledger: Ledger, batch: Batch, jobs: Iterable[Job]) -> str:
    """
    Say in which rows what would be sent differs from what was approved.

    :param approved: the fingerprint of the approved preview, or its hash alone.
    :param seen: what would be sent now.
    :param ledger: the ledger.
    :param batch: the rows' batch.
    :param jobs: the rows, for their names.
    """
    before, now = (Sketch.load(one.partition(_SKETCH)[2]) for one in (approved, seen.fingerprint))
    if before is None or now is None:
        return "Which rows differ is not known, for only the hash of the approved fingerprint was given."
    counts = f"Approved were {before.rows} rows, now there are {now.rows}"
    found = now.since(before)
    if found is None:
        return f"{counts}; too many differ to name them."
    names = {
        key: job.name
        for job in jobs
        if (key := send_key(ledger, batch, job)[:16]) in found.new | found.gone | found.changed
    }
    sent_since = found.gone & names.keys()
    told = {
        "new": found.new,
        "changed": found.changed,
        "sent or held since, or not to be sent any more": sent_since,
        "gone": found.gone - sent_since,
    }
    return f"{counts}: {'; '.join(_counted(what, keys, names) for what, keys in told.items() if keys)}."


def _counted(what: str, keys: set[str], names: dict[str, str]) -> str:
    named = ", ".join(names[key] for key in sorted(keys) if key in names)
    return f"{len(keys)} {what}{f' ({named})' if named else ''}"
