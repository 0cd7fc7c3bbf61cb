"""Looks for sends in the Send Tracker's list (published), and binds accepted campaign sends to their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tracker import CLOCKS_APART, NO_TOUCH, Tracked, Tracker
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.models import Kind, StatusReport
from airflow_provider_sendoso.sending.scanning import LONGEST_SCAN, Scan, for_so_long

_WITNESSES = 100
"""The number of newest accepted sends that are looked for: a list that shows none of them proves nothing absent."""


class TrackerScanner:
    """
    Looks for campaign sends in the Send Tracker's list, and binds the accepted sends that it meets to their rows.

    :param session: calls Sendoso.
    :param ledger: knows the sends.
    :param latest: seconds after its POST began at which a send may still appear.
    """

    known_by = "recipient, campaign and time"
    kind = Kind.CAMPAIGN

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
        by_id = self.kind.answers_with_id
        others = {
            record.send_key: record for record in self._ledger.bindings.perhaps_sent(account, hashes, gifts=by_id)
        }
        if whole:
            others |= {
                record.send_key: record for record in self._ledger.bindings.newest(account, self.kind, _WITNESSES)
            }
        oldest = 0.0 if whole else min(send.posted_at for send in wanted) - CLOCKS_APART - self._latest
        elsewhere = [
            tracked(record)
            for key, record in others.items()
            if key not in unresolved and record.email_hash and (record.posted_at or 0.0) >= oldest
        ]
        witnesses = [send for send in elsewhere if send.accepted and others[send.name].kind is self.kind]
        tracker = self._walked([*wanted, *elsewhere], account, stop, whole=whole)
        taken = self._taken(tracker, account)
        # Read again after the list: a send that was posted meanwhile may have a row in it, which is not another send's.
        meanwhile = [
            tracked(record)
            for record in self._ledger.bindings.perhaps_sent(account, hashes, gifts=by_id)
            if record.send_key not in unresolved and (record.posted_at or 0.0) >= oldest
        ]
        accepted = [send for send in (*elsewhere, *meanwhile) if by_id and send.bound_id]
        taken |= {str(send.bound_id) for send in accepted}
        scan = Scan()
        assigned = tracker.assign(taken, self._latest, meanwhile)
        for witness in witnesses:
            if witness.name in assigned:
                self._ledger.bindings.bind(witness.name, assigned[witness.name].id)
                taken.add(assigned[witness.name].id)
        # Where an accepted send is not shown under its id, a row of the same recipient may be its own.
        rows = {send.id for send in tracker.seen.values()} | {
            row for some in tracker.candidates.values() for row in some
        }
        hidden = {send.key for send in accepted if send.bound_id not in rows}
        for send in wanted:
            if send.name in assigned and send.key not in hidden:
                scan.found[send.name] = {assigned[send.name].id: assigned[send.name]}
        shown = tracker.seen.keys() | (set() if by_id else assigned.keys())
        if tracker.complete and any(witness.name in shown for witness in witnesses):
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


class ListedSendScanner(TrackerScanner):
    """
    Looks for sends without a campaign, whose answer has the id under which the list may show them (inferred).

    A row of the right recipient and time is taken only if the list shows, by their ids, all accepted sends of this
    ledger that it may belong to instead. Absence is proven only by a list that shows an accepted send of this kind.

    :param kind: the kind of the sends.
    :param session: calls Sendoso.
    :param ledger: knows the sends.
    :param latest: seconds after its POST began at which a send may still appear.
    """

    known_by = "recipient and time"

    def __init__(self, kind: Kind, session: SendosoSession, ledger: Ledger, latest: float) -> None:
        super().__init__(session, ledger, latest)
        self.kind = kind


def tracked(record: Record) -> Tracked:
    """
    Return the values by which a send is recognised in the Send Tracker's list.

    :param record: the send.
    """
    return Tracked(
        record.send_key,
        record.item.touch_id or NO_TOUCH,
        str(record.email_hash),
        record.posted_at or 0.0,
        record.list_id,
        record.state is State.SENT,
    )
