"""The table of eGift links in the author's database: one row for each recipient who has a link in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Integer, String

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.encryption import LinkCipher
from airflow_provider_sendoso.ledger.records import Batch, Record, State
from airflow_provider_sendoso.ledger.schema import LONGEST_SCOPE
from airflow_provider_sendoso.models import LONGEST_ID, LONGEST_LINK, LONGEST_TEXT, Kind
from airflow_provider_sendoso.sending.jobs import Job, chunks, send_key
from airflow_provider_sendoso.sending.kinds import kind_of
from airflow_provider_sendoso.warehouse.batch_table import BatchTable
from airflow_provider_sendoso.warehouse.tables import MOMENT, ROWS, Cells, moment

if TYPE_CHECKING:
    from airflow_provider_sendoso.batch.spool import BatchSpool

COLUMNS = (
    *("batch_id", "dedupe_scope", "row_number", "row_ref", "recipient_key_hash"),
    *("email", "egift_link", "send_id", "sent_at"),
)
_KEY, _LINK = COLUMNS.index("recipient_key_hash"), COLUMNS.index("egift_link")

_NAMED = 20
"""The most sends that an error or a log line names; it only counts further ones."""

_LONGEST_REF = 250


class LinksTable(BatchTable):
    """
    One table of eGift links behind a hook; looks nothing up before it is used.

    :param hook: the hook of the author's connection.
    :param table: the table's name, as SQL of that database writes it.
    :raises SendosoConfigError: if the text is not the name of a table.
    """

    what = "links table"
    column_names = COLUMNS

    def _columns(self) -> list[Column[Any]]:
        return [
            Column("batch_id", String(32), primary_key=True),
            Column("dedupe_scope", String(LONGEST_SCOPE), nullable=False),
            Column("row_number", Integer, nullable=False),
            Column("row_ref", String(_LONGEST_REF)),
            Column("recipient_key_hash", String(64), primary_key=True),
            Column("email", String(LONGEST_TEXT), nullable=False),
            Column("egift_link", String(LONGEST_LINK), nullable=False),
            Column("send_id", String(LONGEST_ID)),
            Column("sent_at", MOMENT),
        ]

    def _samples(self, batch: Batch) -> list[Cells]:
        ids = (batch.batch_id, batch.dedupe_scope)
        longest = ("x" * _LONGEST_REF, "x" * 64, "x" * LONGEST_TEXT, "x" * LONGEST_LINK, "x" * LONGEST_ID)
        return [(*ids, 1, *longest, moment(0.0)), (*ids, 2, "é🎁", "y", "x", "x", None, None)]

    def _why(self, error: Exception) -> str:
        # Databases quote the values they refuse, and here these are addresses and links.
        return f"{type(error).__name__}, whose words are not shown because they may hold a link"


@dataclass
class Links:
    """
    The result of writing the links of a batch.

    :param written: number of rows in the table.
    :param without: rows whose send has no link: another gift, or a send that a person has resolved as sent.
    :param unreadable: rows whose link was encrypted under another client secret.
    """

    written: int = 0
    without: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def write_links(table: LinksTable, batch: Batch, spool: BatchSpool, ledger: Ledger, cipher: LinkCipher) -> Links:
    """
    Rewrite a batch's rows from the ledger, in constant memory.

    Rows of an earlier try whose link can no longer be decrypted stay in the table.

    :param table: the links table.
    :param batch: the batch.
    :param spool: the batch's rows.
    :param ledger: the ledger, which is read before the table's transaction begins.
    :param cipher: decrypts the links.
    :return: the result.
    :raises SendosoResultsError: if the table could not be written.
    :raises SendosoLedgerError: if the ledger could not be read; the table is as it was.
    """
    links = Links()
    # Staged encrypted, as in the ledger, because the spool is a file.
    spool.stage(_rows(batch, spool, ledger, cipher, links))
    key = COLUMNS[_KEY] if links.unreadable else None
    table.rewrite(batch.batch_id, lambda: (_decrypted(cipher, row) for row in spool.staged()), key)
    return links


def why_unreadable(links: Links, conn_id: str) -> SendosoConfigError | None:
    """
    Build the error that names the links that cannot be decrypted, and says what to do.

    :param links: the result for a batch.
    :param conn_id: the connection whose client secret has changed.
    """
    if not links.unreadable:
        return None
    return SendosoConfigError(
        f"{len(links.unreadable)} eGift links could not be written into the links table: "
        f"{some(links.unreadable)}. They were made, and are in the ledger, encrypted under another client secret than "
        f"the connection {conn_id!r} has now. Nothing is lost: all other links are in the table, with what earlier "
        "tries have written, and no second link is made. Run the task once more with the old client secret, or look "
        "these up in Sendoso."
    )


def some(names: Sequence[str]) -> str:
    """
    Join the first few names, and count the others.

    :param names: any number of names.
    """
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _rows(batch: Batch, spool: BatchSpool, ledger: Ledger, cipher: LinkCipher, links: Links) -> Iterator[list[Cells]]:
    for page in chunks(spool.jobs(), ROWS):
        keys = [send_key(ledger, batch, job) for job in page]
        records = ledger.sends.read(keys)
        found = ((job, records[key]) for job, key in zip(page, keys, strict=True) if key in records)
        rows = [row for job, record in found if (row := _row(batch, job, record, cipher, links)) is not None]
        links.written += len(rows)
        yield rows


def _row(batch: Batch, job: Job, record: Record, cipher: LinkCipher, links: Links) -> Cells | None:
    if record.state is not State.SENT or record.kind is not Kind.LINK:
        return None
    if record.link_ciphertext is None:
        links.without.append(job.name)
        return None
    if cipher.decrypt(record.send_key, record.link_ciphertext) is None:
        links.unreadable.append(f"{job.name}, send key {record.send_key[:12]}")
        return None
    return (
        *(batch.batch_id, batch.dedupe_scope, job.number, job.row_ref, record.send_key),
        *(
            kind_of(job.send).email(job.send),
            record.link_ciphertext,
            record.bound_id or record.send_id,
            moment(record.posted_at),
        ),
    )


def _decrypted(cipher: LinkCipher, row: Cells) -> Cells:
    link = cipher.decrypt(str(row[_KEY]), str(row[_LINK]))
    return (*row[:_LINK], link, *row[_LINK + 1 :])
