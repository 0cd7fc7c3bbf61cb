"""Jobs (rows to be sent) and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol, TypeVar

from airflow_provider_sendoso.exceptions import SendosoApiError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import NOTHING, AnySend, Item, RowOutcome, row_name
from airflow_provider_sendoso.models.spending import SpendingLimits

T = TypeVar("T")

CHUNK = 50
"""Rows claimed at once; a killed run leaves that many claimed until their lease expires."""


@dataclass(frozen=True)
class Job:
    """
    One row to be sent.

    :param number: the number of the row, from 1.
    :param recipient_key: the value that identifies the recipient within the scope, normalised.
    :param send: what to send to whom.
    :param row_ref: the value of a column that the DAG's author declared not personal.
    :param resend_of: the id of the send that this one replaces.
    """

    number: int
    recipient_key: str = field(repr=False)
    send: AnySend = field(repr=False)
    row_ref: str | None = None
    resend_of: str | None = None

    @property
    def name(self) -> str:
        """The row in a log line or an error."""
        return row_name(self.number, self.row_ref)


@dataclass(frozen=True)
class Result:
    """
    The result of a row; a later result of the same row replaces an earlier one.

    :param number: the number of the row.
    :param outcome: one of the eight outcomes of a row.
    :param reason: a short code, like ``http_422``.
    :param words: the API's message, in which ``<field>`` replaces the row's own values.
    :param item: the gift or campaign; for a send that the ledger knew already, the one in the ledger.
    :param posted_at: epoch seconds of the POST: from the ledger, or by this process's clock if this try has posted it.
    :param send_key: the send's name in the ledger; commands take its beginning.
    :param posted: whether this try posted the send.
    :param error: the exception that a refusal stands for.
    :param bound_id: the id of a campaign send in Sendoso's list of sends.
    :param tracking_url: reads the address at which the send can be followed, if the answer to this try's POST names
        one.
    """

    number: int
    outcome: RowOutcome
    reason: str | None = None
    words: str = ""
    send_id: str | None = None
    item: Item = NOTHING
    posted_at: float | None = None
    send_key: str | None = None
    posted: bool = False
    error: SendosoApiError | None = None
    tracking_url: Callable[[], str | None] = field(default=lambda: None, repr=False)
    bound_id: str | None = None


def capped_result(job: Job, last_gift: float, limits: SpendingLimits) -> Result:
    """
    Return the result of a row whose person was sent something too recently.

    :param job: the row.
    :param last_gift: when, in epoch seconds.
    :param limits: the limits, with ``min_days_between_gifts``.
    """
    days = limits.min_days_between_gifts or 0.0
    free = datetime.fromtimestamp(last_gift, UTC) + timedelta(days=days)
    words = f"this person was sent a gift less than {days:g} days ago; another may be sent after {free:%Y-%m-%d}"
    return Result(job.number, RowOutcome.CAPPED, "min_days_between_gifts", words)


class Recipient(Protocol):
    """The part of a row that determines the key of its send."""

    @property
    def recipient_key(self) -> str | None:
        """The value that identifies the recipient within the scope, normalised."""

    @property
    def resend_of(self) -> str | None:
        """The id of the send that this row replaces."""


def send_key(ledger: Ledger, batch: Batch, row: Recipient) -> str:
    """
    Return the key of the send that a row of a batch makes.

    :param ledger: has the hash key.
    :param batch: the row's batch.
    :param row: the row, which has a recipient key.
    """
    return ledger.send_key(batch.account, batch.dedupe_scope, row.recipient_key or "", row.resend_of)


def payload_hash(ledger: Ledger, job: Job) -> str:
    """
    Return the hash of a row's content, by which a changed content is detected.

    :param ledger: has the hash key.
    :param job: the row.
    """
    return ledger.payload_hash(job.send.model_dump_json())


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """
    Cut an iterable into lists.

    :param items: the items.
    :param size: the length of each list but the last.
    """
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk
