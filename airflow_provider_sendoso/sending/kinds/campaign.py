"""Gifts of a campaign: ``POST /api/v3/send`` (published).

The answer has a tracking code and no id, and a campaign send has no metadata. In the Send Tracker's list, a send of
unknown outcome is recognised by recipient, campaign and time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_provider_sendoso.client.answers import read_campaign_send
from airflow_provider_sendoso.client.endpoints import (
    Request,
    campaign_send_request,
)
from airflow_provider_sendoso.client.reads import Reads, active_touches
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tracker import CLOCKS_APART, Tracked, Tracker
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.models import CampaignSend, Delivery, Kind, Send, StatusReport
from airflow_provider_sendoso.models.checks import campaign_problem, mail_problem, unknown_touch
from airflow_provider_sendoso.sending.kinds.base import SendKind
from airflow_provider_sendoso.sending.scanning import LONGEST_SCAN, Scan, Scanner, for_so_long

_WITNESSES = 100
"""The number of newest accepted sends that are looked for: a list that shows none of them proves nothing absent."""


class CampaignKind(SendKind[CampaignSend]):
    """The gift of a campaign, which Sendoso also calls a touch."""

    model = CampaignSend
    named_by = "touch_id"
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


class TrackerScanner:
    """
    Looks for campaign sends in the Send Tracker's list, and binds the accepted sends that it meets to their rows.

    :param session: calls Sendoso.
    :param ledger: knows the sends.
    :param latest: seconds after its POST began at which a send may still appear.
    """

    known_by = "recipient, campaign and time"

    def __init__(self, session: SendosoSession, ledger: Ledger, latest: float) -> None:
        self._session = session
        self._ledger = ledger
        self._latest = latest

    def statuses_of(self, records: Sequence[Record]) -> dict[str, StatusReport]:
        """
        Read the delivery statuses of accepted sends, in one walk.

        :param records: the sends, of one account; those that are not yet bound to a row of the list are bound.
        :return: the statuses by send key; sends that the list does not show are left out.
        """
        [account] = {record.account for record in records}
        tracker = self._walked([tracked(record) for record in records], account, for_so_long(LONGEST_SCAN))
        others = self._ledger.bindings.perhaps_sent(account, {str(record.email_hash) for record in records})
        assigned = tracker.assign(self._taken(tracker, account), self._latest, map(tracked, others))
        statuses: dict[str, StatusReport] = {}
        for record in records:
            send = tracker.seen.get(record.send_key) or assigned.get(record.send_key)
            if send is None:
                continue
            if record.bound_id is None:
                self._ledger.bindings.bind(record.send_key, send.id)
            if send.report is not None:
                statuses[record.send_key] = send.report
        return statuses

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool, stop: Callable[[], bool]) -> Scan:
        """Walk through the list; unless all of it is wanted, only as far as it can hold the sends."""
        [account] = {record.account for record in unresolved.values()}
        hashes = {record.email_hash for record in unresolved.values() if record.email_hash is not None}
        wanted = [tracked(record) for record in unresolved.values()]
        # Other sends to the same recipients, of any scope, have rows in the list as well, which must not be bound to
        # these sends. A send of another kind proves nothing, because the list may not show its kind.
        others = {record.send_key: record for record in self._ledger.bindings.perhaps_sent(account, hashes)}
        if whole:
            others |= {record.send_key: record for record in self._ledger.bindings.newest(account, _WITNESSES)}
        oldest = 0.0 if whole else min(send.posted_at for send in wanted) - CLOCKS_APART - self._latest
        elsewhere = [
            tracked(record)
            for key, record in others.items()
            if key not in unresolved and record.email_hash and (record.posted_at or 0.0) >= oldest
        ]
        witnesses = [send for send in elsewhere if send.accepted and others[send.name].kind is Kind.CAMPAIGN]
        tracker = self._walked([*wanted, *elsewhere], account, stop, whole=whole)
        taken = self._taken(tracker, account)
        # Read again after the list: a send that was posted meanwhile may have a row in it, which is not another send's.
        meanwhile = [
            tracked(record)
            for record in self._ledger.bindings.perhaps_sent(account, hashes)
            if record.send_key not in unresolved and (record.posted_at or 0.0) >= oldest
        ]
        scan = Scan()
        assigned = tracker.assign(taken, self._latest, meanwhile)
        for witness in witnesses:
            if witness.name in assigned:
                self._ledger.bindings.bind(witness.name, assigned[witness.name].id)
                taken.add(assigned[witness.name].id)
        for key in unresolved:
            if key in assigned:
                scan.found[key] = {assigned[key].id: assigned[key]}
        if tracker.complete and any(witness.name in tracker.seen.keys() | assigned.keys() for witness in witnesses):
            scan.absent = {send.name for send in wanted if not tracker.may_hold(send, taken)}
        return scan

    def _walked(
        self, sends: Sequence[Tracked], account: str, stop: Callable[[], bool], *, whole: bool = False
    ) -> Tracker:
        """Walk through the list."""
        tracker = Tracker(
            sends,
            lambda email: self._ledger.email_hash(account, email),
            whole=whole,
            stop=stop,
        )
        self._session.walk(tracker.walk())
        return tracker

    def _taken(self, tracker: Tracker, account: str) -> set[str]:
        """Return the ids among those met that are bound to sends already."""
        ids = (row_id for rows in tracker.candidates.values() for row_id in rows)
        return self._ledger.bindings.bound_among(account, ids)


def tracked(record: Record) -> Tracked:
    """
    Return the values by which a campaign send is recognised in the Send Tracker's list.

    :param record: the send.
    """
    return Tracked(
        record.send_key,
        str(record.item.touch_id),
        str(record.email_hash),
        record.posted_at or 0.0,
        record.bound_id,
        record.state is State.SENT,
    )
