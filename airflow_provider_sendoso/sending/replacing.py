"""Whether a gift may be replaced: only one that failed or came back, and only once."""

from __future__ import annotations

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import get_send_request
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.models import SendStatus
from airflow_provider_sendoso.sending.scanning import TrackerScanner

_REPLACEABLE = (SendStatus.FAILED, SendStatus.RETURNED)


def check_replaceable(session: SendosoSession, ledger: Ledger, account: str, send_id: str) -> tuple[str, str | None]:
    """
    Say why a send may not be replaced, or ``None`` if it may; asks Sendoso for a status that the ledger lacks.

    That there is at most one replacement is not asked here: its key in the ledger is the old send's id.

    :param session: calls Sendoso.
    :param ledger: has to know the send.
    :param account: whose send it is.
    :param send_id: the old send's id.
    :return: the id by which the replacement is named, for a campaign's send has two; and why it may not be made.
    :raises SendosoError: if Sendoso or the ledger does not answer.
    """
    record = ledger.sends.find(account, send_id)
    if record is None:
        return send_id, f"resend_of names the send {send_id!r}, which the ledger does not know"
    name = record.send_id or send_id
    status = record.status
    if status not in _REPLACEABLE:
        try:
            if record.item.touch_id is not None:
                status = TrackerScanner(session, ledger, session.config.timeout).status_of(record)
            else:
                send = read_send(session.read(get_send_request(send_id)).json)
                status = send.status if send else None
        except SendosoNotFoundError:
            return name, f"resend_of names the send {send_id!r}, which Sendoso does not know"
        if status is not None:
            ledger.sends.note_status(account, send_id, status)
    if status in _REPLACEABLE:
        return name, None
    return name, f"resend_of names the send {send_id!r}, which is {status}: only failed and returned ones are replaced"
