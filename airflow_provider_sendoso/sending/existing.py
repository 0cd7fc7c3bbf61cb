"""Checks that Sendoso knows the send id that a person gives for a resolved send."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models.kinds import tracking_code
from airflow_provider_sendoso.sending.kinds import KINDS


def check_send_id(session: SendosoSession, ledger: Ledger, record: Record, send_id: str) -> None:
    """
    Refuse a send id that Sendoso does not know, because the send would count as sent under a misspelt id.

    A tracking code is accepted unchecked, because the API finds no send by its tracking code (published).

    :param session: calls Sendoso.
    :param ledger: knows the send.
    :param record: the send that is to get the id.
    :param send_id: the id that the person gives.
    :raises SendosoConfigError: if Sendoso does not know it; nothing was changed.
    :raises SendosoError: if Sendoso does not answer; nothing was changed.
    """
    if record.kind is None or tracking_code(send_id) is not None:
        return
    named = replace(record, send_id=send_id, bound_id=send_id if record.kind.in_tracker else None)
    found = KINDS[record.kind].statuses(session, ledger, [named])
    # A send in the list has a status; the status of a gift that is read by its id may be one that this release does not
    # know.
    if record.send_key not in found or (record.kind.in_tracker and found[record.send_key] is None):
        raise SendosoConfigError(
            f"Sendoso does not know the send id {send_id!r}. Copy it from Sendoso, or resolve the send without an id: "
            "it then counts as sent and no sensor can follow it. Nothing was changed."
        )
