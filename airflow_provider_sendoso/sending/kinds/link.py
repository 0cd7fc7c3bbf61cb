"""eGift links of a campaign: ``POST /api/v3/send/generate_egift_links`` (published).

Sendoso sends nothing; the answer holds the link, which whoever has it can redeem. No list shows which links were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_sendoso.client.answers import read_egift_link
from airflow_provider_sendoso.client.endpoints import Request, egift_links_request
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tracker import Tracker
from airflow_provider_sendoso.exceptions import SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import EgiftLinkSend, Send, StatusReport
from airflow_provider_sendoso.sending.kinds.base import SendKind
from airflow_provider_sendoso.sending.kinds.tracking import tracked


class LinkKind(SendKind[EgiftLinkSend]):
    """An eGift link."""

    model = EgiftLinkSend
    named_by = "touch_id"
    plural = "eGift links"
    why_not_looked_for = "Sendoso's list shows no links"

    def request(self, send: EgiftLinkSend, *, airflow_key: str | None, via_from: str) -> Request:
        """Build the POST for one link."""
        return egift_links_request(send.touch_id, [send.email], via_from)

    def read(self, send: EgiftLinkSend, body: Any) -> Send | None:
        """Read whether the link was made; the link itself must not be part of an outcome or a result."""
        return None if read_egift_link(body, send.email) is None else Send.without_id()

    def secret(self, send: EgiftLinkSend, body: Any) -> str | None:
        """Return the link."""
        made = read_egift_link(body, send.email)
        return None if made is None else made.link

    def email(self, send: EgiftLinkSend) -> str:
        """Return the recipient's e-mail address."""
        return send.email

    def statuses(
        self, session: SendosoSession, ledger: Ledger, records: Sequence[Record]
    ) -> dict[str, StatusReport | None]:
        """Look in the Send Tracker's list for the ids that a person has recorded; nothing else identifies a link."""
        noted = [tracked(record) for record in records if record.bound_id is not None]
        tracker = Tracker(noted, str)
        if noted:
            with suppress(SendosoNotFoundError):  # this Sendoso has no such list
                session.walk(tracker.walk())
        found = {name: send.report for name, send in tracker.seen.items()}
        return {record.send_key: found.get(record.send_key) for record in records}
