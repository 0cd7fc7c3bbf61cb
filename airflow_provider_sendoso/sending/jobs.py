"""Jobs (rows to be sent) and their results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar

from airflow_provider_sendoso.exceptions import SendosoApiError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models import NOTHING, AnySend, Item, RowOutcome, row_name

T = TypeVar("T")

CHUNK = 50
"""Rows claimed at once; a killed run leaves that many claimed until their lease expires."""


@dataclass(frozen=True)
class Job:
    """
    One row to be sent.

    :param number: of the row, from 1.
    :param recipient_key: what identifies the recipient within the scope, normalised.
    :param send: what to send to whom.
    :param row_ref: a column that its author declared not personal.
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

    :param number: of the row.
    :param outcome: one of the seven.
    :param reason: a short code, like ``http_422``.
    :param words: what the API said, the row's own values replaced by ``<field>``.
    :param item: what was sent; for a send that the ledger knew already, what it knows.
    :param posted_at: epoch seconds.
    :param send_key: the send's name in the ledger; commands take its beginning.
    :param posted: whether this try posted it.
    :param error: what a refusal means as an exception.
    :param bound_id: of a campaign send, the id that it has in Sendoso's list of sends.
    :param tracking_url: where a send that this try posted can be followed, if the answer says so.
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
    tracking_url: str | None = None
    bound_id: str | None = None


class Recipient(Protocol):
    """The part of a row that determines the key of its send."""

    @property
    def recipient_key(self) -> str | None:
        """What identifies the recipient within the scope, normalised."""

    @property
    def resend_of(self) -> str | None:
        """The id of the send that this row replaces."""


def send_key(ledger: Ledger, batch: Batch, row: Recipient) -> str:
    """
    Make the key of the send that a row of a batch makes.

    :param ledger: has the hash key.
    :param batch: the row's batch.
    :param row: the row; it has a recipient key.
    """
    return ledger.send_key(batch.account, batch.dedupe_scope, row.recipient_key or "", row.resend_of)


def payload_hash(ledger: Ledger, job: Job) -> str:
    """
    Hash what a row sends, to tell whether its content has changed.

    :param ledger: has the hash key.
    :param job: the row.
    """
    return ledger.payload_hash(job.send.model_dump_json())


def chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """
    Cut a stream into lists.

    :param items: any number.
    :param size: how many to a list.
    """
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk
