"""Walks through Sendoso's lists of sends, for sends of unknown outcome.

A gift send is known again by the ledger's mark in its metadata; that there is a list of gift sends, and that it shows
their metadata, is inferred. A campaign send has no metadata: it is known again by recipient, campaign and time in the
Send Tracker's list (published).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import list_sends_request
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tracker import CLOCKS_APART, Descent, Tracked, Tracker
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.models import LINK, METADATA_KEY, Send, SendStatus

log = logging.getLogger(__name__)

_LONGEST_SCAN = 300.0
"""Seconds for one walk through the list; beyond, what was not found yet is held."""

_WITNESSES = 100
"""Sends known to have gone out that a list has to show one of, before what it does not show means anything."""


@dataclass
class Scan:
    """
    What one walk has found, by send key.

    :param found: the sends of Sendoso's that each may be, by their ids.
    :param absent: the keys that the list is without, where it was whole and shows sends of ours.
    """

    found: dict[str, dict[str, Send]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def proves_absent(self, send_key: str) -> bool:
        """
        Say whether the list is without a send; twice so, it has not gone out.

        :param send_key: of the send.
        """
        return send_key in self.absent


class Scanner(Protocol):
    """Looks for one kind of sends."""

    what: str
    """The kind, for the log."""
    known_by: str
    """How they are known again, for the ledger's record."""

    def takes(self, record: Record) -> bool:
        """Say whether a send is of this kind."""

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool) -> Scan:
        """Walk through the list, for the sends of these keys; to its end, if something is to be proven."""


class MarkScanner:
    """
    Looks for gift sends by their marks.

    :param session: calls Sendoso.
    :param ledger: knows the marks.
    """

    what = "gift send"
    known_by = "mark"

    def __init__(self, session: SendosoSession, ledger: Ledger) -> None:
        self._session = session
        self._ledger = ledger

    def takes(self, record: Record) -> bool:
        """Say whether a send is a gift send."""
        return record.item.touch_id is None

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool) -> Scan:
        """Walk through the list, newest first if it is; unless all of it is wanted, until it can hold no more."""
        scan = Scan()
        keys = {self._ledger.airflow_key(send_key): send_key for send_key in unresolved}
        marks = set[str]()
        give_up = time.monotonic() + _LONGEST_SCAN
        oldest = min(record.posted_at or 0.0 for record in unresolved.values()) - CLOCKS_APART
        pages = Pages(list_sends_request(), "sends", until_empty=whole)
        descent = Descent()
        while not pages.done:
            for item in pages.read(self._session.read(pages.next_request()).json):
                mark = _mark(item)
                if mark is not None:
                    marks.add(mark)
                    send = read_send(item) if mark in keys else None
                    if send is not None:
                        scan.found.setdefault(keys[mark], {})[send.id] = send
                descent.see(item)
            if not whole and (descent.is_past(oldest) or len(scan.found) == len(unresolved)):
                return scan
            if time.monotonic() > give_up:
                log.warning("Sendoso's list of sends is too long to be read within %.0f s.", _LONGEST_SCAN)
                return scan
        if not pages.repeated and marks:  # a list that shows no marks at all says nothing about any
            scan.absent = {key for mark, key in keys.items() if mark not in marks}
        return scan


class TrackerScanner:
    """
    Looks for campaign sends in the Send Tracker, and binds those that are known to have gone out on the way.

    :param session: calls Sendoso.
    :param ledger: knows the sends.
    :param latest: seconds after its POST began at which a send may still appear.
    """

    what = "campaign send"
    known_by = "recipient, campaign and time"

    def __init__(self, session: SendosoSession, ledger: Ledger, latest: float) -> None:
        self._session = session
        self._ledger = ledger
        self._latest = latest

    def takes(self, record: Record) -> bool:
        """Say whether a send is a campaign's; not one that makes a link, for the list shows no links."""
        return record.item.touch_id is not None and record.kind != LINK

    def statuses_of(self, records: Sequence[Record]) -> dict[str, SendStatus]:
        """
        Read how far sends that were accepted have come, in one walk.

        :param records: the sends, of one account; they are bound to their rows in the list where they were not.
        :return: by send key; without those of which the list does not say.
        """
        [account] = {record.account for record in records}
        tracker = self._walked([tracked(record) for record in records], account)
        others = self._ledger.bindings.perhaps_sent(account, {str(record.email_hash) for record in records})
        assigned = tracker.assign(self._taken(tracker, account), self._latest, map(tracked, others))
        statuses: dict[str, SendStatus] = {}
        for record in records:
            send = tracker.seen.get(record.send_key) or assigned.get(record.send_key)
            if send is None:
                continue
            if record.bound_id is None:
                self._ledger.bindings.bind(record.send_key, send.id)
            if send.status is not None:
                statuses[record.send_key] = send.status
        return statuses

    def scan(self, unresolved: Mapping[str, Record], *, whole: bool) -> Scan:
        """Walk through the list; unless all of it is wanted, until it can hold no more."""
        [account] = {record.account for record in unresolved.values()}
        hashes = {record.email_hash for record in unresolved.values() if record.email_hash is not None}
        wanted = [tracked(record) for record in unresolved.values()]
        # What else has gone out to the same recipients, or may have, in whatever scope, has rows there, too, which are
        # not to be taken for these.
        others = {record.send_key: record for record in self._ledger.bindings.perhaps_sent(account, hashes)}
        if whole:
            others |= {record.send_key: record for record in self._ledger.bindings.newest(account, _WITNESSES)}
        oldest = 0.0 if whole else min(send.posted_at for send in wanted) - CLOCKS_APART - self._latest
        elsewhere = [
            tracked(record)
            for key, record in others.items()
            if key not in unresolved and record.email_hash and (record.posted_at or 0.0) >= oldest
        ]
        witnesses = [send for send in elsewhere if send.accepted]
        tracker = self._walked([*wanted, *elsewhere], account, whole=whole)
        taken = self._taken(tracker, account)
        scan = Scan()
        assigned = tracker.assign(taken, self._latest)
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

    def _walked(self, sends: Sequence[Tracked], account: str, *, whole: bool = False) -> Tracker:
        """Walk through the list."""
        give_up = time.monotonic() + _LONGEST_SCAN
        tracker = Tracker(
            sends,
            lambda email: self._ledger.email_hash(account, email),
            whole=whole,
            stop=lambda: time.monotonic() > give_up,
        )
        self._session.walk(tracker.walk())
        return tracker

    def _taken(self, tracker: Tracker, account: str) -> set[str]:
        """Return the ids among those met that are bound to sends already."""
        ids = (row_id for rows in tracker.candidates.values() for row_id in rows)
        return self._ledger.bindings.bound_among(account, ids)


def tracked(record: Record) -> Tracked:
    """
    Say by what a campaign send is known again in the Send Tracker's list.

    :param record: the send; its key is its name.
    """
    return Tracked(
        record.send_key,
        str(record.item.touch_id),
        str(record.email_hash),
        record.posted_at or 0.0,
        record.bound_id,
        record.state is State.SENT,
    )


def _mark(item: Mapping[str, Any]) -> str | None:
    metadata = item.get("metadata")
    mark = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
    return mark if isinstance(mark, str) else None
