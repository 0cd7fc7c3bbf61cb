"""Gifts of a campaign: ``POST /api/v3/send`` (published).

The answer has a tracking code and no id, and a campaign send has no metadata. In the Send Tracker's list, a send of
unknown outcome is recognised by recipient, campaign and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_provider_sendoso.client.answers import read_campaign_send
from airflow_provider_sendoso.client.endpoints import (
    Request,
    campaign_send_request,
)
from airflow_provider_sendoso.client.reads import Reads, active_touches
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record
from airflow_provider_sendoso.models import CampaignSend, Delivery, Send, StatusReport
from airflow_provider_sendoso.models.checks import campaign_problem, mail_problem, unknown_touch
from airflow_provider_sendoso.sending.kinds.base import SendKind
from airflow_provider_sendoso.sending.kinds.tracking import TrackerScanner
from airflow_provider_sendoso.sending.scanning import Scanner


class CampaignKind(SendKind[CampaignSend]):
    """The gift of a campaign, which Sendoso also calls a touch."""

    model = CampaignSend
    named_by = "touch_id"
    columns = ("message", "touch_id")
    plural = "campaign sends"

    def request(self, send: CampaignSend, *, airflow_key: str | None, via_from: str) -> Request:
        """Build the POST; it has no field for the ledger's mark."""
        return campaign_send_request(send, via_from)

    def read(self, send: CampaignSend, body: Any) -> Send | None:
        """Read the answer: a tracking code."""
        return read_campaign_send(body)

    def no_field_for(self, names: str) -> SendosoConfigError:
        """Return the message that refuses arguments."""
        return SendosoConfigError(
            f"{names}: not with touch_id, for a campaign send has no such field. Nothing was sent."
        )

    def email(self, send: CampaignSend) -> str:
        """Return the recipient's e-mail address."""
        return send.recipient.email

    def shaped(self, send: CampaignSend, reads: Reads) -> CampaignSend:
        """Read the campaign: whether its gifts go by e-mail or by post decides the shape of the request (published)."""
        touch = reads.find_touch(send.touch_id)
        problem = campaign_problem(send, touch, datetime.now(UTC)) if touch else None
        if touch is None:
            problem = unknown_touch(send.touch_id, active_touches(reads))
        if problem is not None or touch is None:
            raise SendosoConfigError(f"The send is not valid: {problem} (campaign {send.touch_id}). Nothing was sent.")
        return send.model_copy(update={"delivery": touch.delivery})

    def with_delivery(self, send: CampaignSend, delivery: Delivery) -> CampaignSend:
        """Return the send with the delivery, from which the shape of the request follows (published)."""
        return send.model_copy(update={"delivery": delivery})

    def problem_by_post(self, send: CampaignSend) -> str | None:
        """Return what a parcel lacks: a name, an address, or a phone number."""
        return mail_problem(send)

    def country(self, send: CampaignSend) -> str | None:
        """Return the country of the recipient's address."""
        return None if send.recipient.address is None else send.recipient.address.country

    def scanner(self, session: SendosoSession, ledger: Ledger, latest: float) -> Scanner:
        """Look for recipient, campaign and time in the Send Tracker's list."""
        return TrackerScanner(session, ledger, latest)

    def statuses(
        self, session: SendosoSession, ledger: Ledger, records: Sequence[Record]
    ) -> dict[str, StatusReport | None]:
        """Look for all sends in one walk through the Send Tracker's list."""
        try:
            found = TrackerScanner(session, ledger, session.config.timeout).statuses_of(records)
        except SendosoNotFoundError:
            found = {}  # this Sendoso has no such list
        return {record.send_key: found.get(record.send_key) for record in records}
