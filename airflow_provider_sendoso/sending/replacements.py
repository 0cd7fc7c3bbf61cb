"""Decides whether a send may be replaced: it has failed or come back, for the same recipient, and only once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Record
from airflow_provider_sendoso.models import SendStatus, StatusReport
from airflow_provider_sendoso.sending.jobs import Job
from airflow_provider_sendoso.sending.kinds import KINDS, kind_of

_REPLACEABLE = (SendStatus.FAILED, SendStatus.RETURNED)


@dataclass(frozen=True)
class Replaceable:
    """
    Whether a send may be replaced.

    :param name: the id under which the ledger stores its replacement; a campaign send has two ids.
    :param problem: why it may not; ``None`` if it may.
    :param first: if the send is a replacement itself, the original send; its key contains the recipient.
    """

    name: str
    problem: str | None = None
    first: Record | None = None

    def problem_for(self, ledger: Ledger, batch: Batch, job: Job) -> str | None:
        """
        Say why a row may not replace the send.

        The row must be for the same recipient, or somebody who has their gift would get a second one. The recipient is
        the same if the e-mail address, the recipient key or the ``row_ref`` is the same; the last two allow a wrong
        address to be corrected.

        :param ledger: knows the send.
        :param batch: whose row it is.
        :param job: the row.
        """
        if self.problem is not None or self.first is None:
            return self.problem
        key = ledger.send_key(batch.account, self.first.dedupe_scope, job.recipient_key)
        address = ledger.email_hash(batch.account, kind_of(job.send).email(job.send))
        same_ref = job.row_ref is not None and job.row_ref == self.first.row_ref
        if same_ref or self.first.send_key == key or self.first.email_hash == address:
            return None
        return (
            f"resend_of names the send {self.name!r}, which was for another recipient, by address, row_ref and "
            f"{batch.recipient_key}: a replacement goes to the same one. Where the address was corrected, send it "
            "without resend_of"
        )


def check_replaceable(
    session: SendosoSession, ledger: Ledger, account: str, send_ids: Iterable[str]
) -> dict[str, Replaceable]:
    """
    Decide which sends may be replaced, by what Sendoso says of them now.

    The ledger's status counts only where Sendoso does not know the send any more, or says no status: a manager may have
    approved a send since, or sent an eGift that had bounced again.

    The ledger itself ensures that a send is replaced once: the replacement's key is made of the old send's id.

    :param session: calls Sendoso.
    :param ledger: has to know the sends.
    :param account: whose they are.
    :param send_ids: the old sends' ids.
    :return: the answers, by these ids.
    :raises SendosoError: if Sendoso or the ledger does not answer.
    """
    records = {send_id: ledger.sends.find(account, send_id) for send_id in send_ids}
    asked = {record.send_key: record for record in records.values() if record}
    reports: dict[str, StatusReport | None] = {}
    for name, kind in KINDS.items():
        if mine := [record for record in asked.values() if record.kind is name]:
            reports |= kind.statuses(session, ledger, mine)
    answers: dict[str, Replaceable] = {}
    for send_id, record in records.items():
        named = send_id if record is None else record.send_id or send_id
        answers[send_id] = Replaceable(named, _problem(send_id, record, reports), _first(ledger, record))
        if record is not None and (report := reports.get(record.send_key)) is not None:
            ledger.sends.note_status(account, send_id, report)
    return answers


def _first(ledger: Ledger, record: Record | None) -> Record | None:
    """Follow a chain of replacements back to the original send."""
    while record is not None and record.resend_of is not None:
        record = ledger.sends.find(record.account, record.resend_of)
    return record


def _problem(send_id: str, record: Record | None, reports: Mapping[str, StatusReport | None]) -> str | None:
    """Say why a send may not be replaced."""
    names = f"resend_of names the send {send_id!r}"
    if record is None:
        return f"{names}, which the ledger does not know"
    if record.kind is None:
        return f"{names}, a kind of send that this release does not know: replace it with the release that has sent it"
    report = reports.get(record.send_key)
    if report is None:
        if record.status in _REPLACEABLE:
            return None
        if record.send_key not in reports:
            return f"{names}, which Sendoso does not know"
        return f"{names}, whose status Sendoso does not say: only failed and returned ones are replaced"
    if report.status in _REPLACEABLE:
        return None
    if report.on_hold:
        return (
            f"{names}, which is on hold at Sendoso ({report.word!r}): once a manager approves it in the Send Tracker, "
            "it goes out beside its replacement. Cancel it there first"
        )
    return f"{names}, which is {report.status}: only failed and returned ones are replaced"
