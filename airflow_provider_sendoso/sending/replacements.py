"""Whether a gift may be replaced: only one that failed or came back, and only once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import get_send_request
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.sending.kinds.campaign import TrackerScanner

_REPLACEABLE = (SendStatus.FAILED, SendStatus.RETURNED)


@dataclass(frozen=True)
class Replaceable:
    """
    Whether a send may be replaced.

    :param name: the id by which the replacement is named, for a campaign's send has two.
    :param problem: why it may not; ``None`` if it may.
    """

    name: str
    problem: str | None = None


def check_replaceable(
    session: SendosoSession, ledger: Ledger, account: str, send_ids: Iterable[str]
) -> dict[str, Replaceable]:
    """
    Say which sends may be replaced; asks Sendoso for statuses that the ledger lacks, for all campaign sends at once.

    That there is at most one replacement is not asked here: its key in the ledger is the old send's id.

    :param session: calls Sendoso.
    :param ledger: has to know the sends.
    :param account: whose they are.
    :param send_ids: the old sends' ids.
    :return: the answers, by these ids.
    :raises SendosoError: if Sendoso or the ledger does not answer.
    """
    records = {send_id: ledger.sends.find(account, send_id) for send_id in send_ids}
    of_campaigns = [record for record in records.values() if record is not None and _is_campaigns(record)]
    statuses = _campaign_statuses(session, ledger, of_campaigns)
    answers: dict[str, Replaceable] = {}
    for send_id, record in records.items():
        if record is None:
            answers[send_id] = Replaceable(
                send_id, f"resend_of names the send {send_id!r}, which the ledger does not know"
            )
            continue
        name, status = record.send_id or send_id, record.status
        if status not in _REPLACEABLE:
            try:
                status = statuses.get(record.send_key) if _is_campaigns(record) else _status(session, send_id)
            except SendosoNotFoundError:
                answers[send_id] = Replaceable(
                    name, f"resend_of names the send {send_id!r}, which Sendoso does not know"
                )
                continue
            if status is not None:
                ledger.sends.note_status(account, send_id, status)
        answers[send_id] = Replaceable(name, _problem(send_id, status))
    return answers


def _is_campaigns(record: Record) -> bool:
    return record.kind is not None and record.kind.in_tracker


def _campaign_statuses(session: SendosoSession, ledger: Ledger, records: list[Record]) -> dict[str, SendStatus]:
    asked = {record.send_key: record for record in records if record.status not in _REPLACEABLE}
    if not asked:
        return {}
    try:
        return TrackerScanner(session, ledger, session.config.timeout).statuses_of(list(asked.values()))
    except SendosoNotFoundError:
        return {}  # this Sendoso has no such list


def _status(session: SendosoSession, send_id: str) -> SendStatus | None:
    send = read_send(session.read(get_send_request(send_id)).json)
    return send.status if send else None


def _problem(send_id: str, status: str | None) -> str | None:
    if status in _REPLACEABLE:
        return None
    what = f"which is {status}" if status else "whose status Sendoso does not say"
    return f"resend_of names the send {send_id!r}, {what}: only failed and returned ones are replaced"
