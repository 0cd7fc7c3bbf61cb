"""What became of sends of unknown outcome: looked for in Sendoso's list of sends by the mark in their metadata.

The list of gift sends, and that it shows their metadata, is inferred. So not being there proves nothing by itself:
only after the settle time, and when two complete lists that do show marks are without it, is a send known to be
absent. Everything else that is not found is held, and a later run looks again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from airflow_provider_sendoso.client.answers import read_send
from airflow_provider_sendoso.client.endpoints import list_sends_request
from airflow_provider_sendoso.client.pages import Pages
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import SendosoApiError, SendosoConnectionError, SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.resolutions import OPEN
from airflow_provider_sendoso.ledger.sends import Record, State
from airflow_provider_sendoso.models import METADATA_KEY, Send

log = logging.getLogger(__name__)

RECONCILE = "reconcile"
"""Who resolved it, in the ledger's record of resolutions."""

_LONGEST_SCAN = 300.0
"""Seconds for one walk through the list; beyond, what was not found yet is held."""

_CLOCKS_APART = 3600.0
"""Seconds by which Sendoso's clock and the ledger's may differ."""


@dataclass
class _Scan:
    """One walk through the list of sends: the marks in it, what was found by them, and whether it was whole."""

    marks: set[str] = field(default_factory=set)
    found: dict[str, dict[str, Send]] = field(default_factory=dict)
    complete: bool = False

    def proves_absent(self, mark: str) -> bool:
        # A list that shows no marks at all says nothing about any.
        return self.complete and bool(self.marks) and mark not in self.marks


class Reconciler:
    """
    Looks for the unknown sends of one scope.

    :param session: calls Sendoso; its reads leave most of the rate to sends.
    :param ledger: remembers.
    :param account: whose sends they are.
    :param dedupe_scope: the scope.
    :param settle_time: seconds after the last moment at which a POST can have been received, after which a send that
        is not in the list will not appear in it any more.
    """

    def __init__(
        self, session: SendosoSession, ledger: Ledger, account: str, dedupe_scope: str, settle_time: float
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._scope = {"account": account, "dedupe_scope": dedupe_scope}
        self._settled_after = session.config.timeout + settle_time

    def run(self, *, prove: bool = False) -> dict[str, Record]:
        """
        Look for every send of the scope whose outcome is not known, once.

        :param prove: whether to find out which of them are proven not to have gone out.
        :return: those, by send key, as they are now: the proof is worth nothing for any later POST of the same send.
        :raises SendosoLedgerError: if the ledger does not answer; a Sendoso that does not is only logged.
        """
        self._ledger.sends.lapse(**self._scope)
        unresolved = {
            self._ledger.airflow_key(record.send_key): record
            for record in self._ledger.sends.records(*OPEN, **self._scope)
        }
        if not unresolved:
            return {}
        log.info("Looking for %d sends of unknown outcome in Sendoso.", len(unresolved))
        # Settled before the list is read, not while it is.
        settled = {mark for mark, record in unresolved.items() if prove and self.settles_in(record) <= 0}
        try:
            scan = self._scan(unresolved, whole=bool(settled))
            missing = self._take_found(unresolved, scan)
            absent = {mark for mark in settled & missing.keys() if scan.proves_absent(mark)}
            if absent:
                scan = self._scan(missing, whole=True)
                missing = self._take_found(missing, scan)
                absent = {mark for mark in absent if scan.proves_absent(mark)}
        except SendosoNotFoundError:
            log.warning("This Sendoso has no list of sends; %d sends are held for a person.", len(unresolved))
            missing, absent = unresolved, set()
        except (SendosoApiError, SendosoConnectionError) as error:
            log.warning("Sends of unknown outcome could not be looked for: %s", error)
            return {}
        self._ledger.resolutions.hold([record for record in missing.values() if record.state is State.UNKNOWN])
        crash_point("reconciled")
        log.info("Found %d, held %d, proven absent %d.", len(unresolved) - len(missing), len(missing), len(absent))
        return {missing[mark].send_key: replace(missing[mark], state=State.HELD) for mark in absent}

    def settles_in(self, record: Record) -> float:
        """
        Return the seconds until the absence of a send can be proven, not positive once it can.

        :param record: the send; not before its process counts as dead.
        """
        posted_ago = record.posted_ago if record.posted_ago is not None else 0.0
        return max(self._settled_after - posted_ago, record.lease_left)

    def _take_found(self, unresolved: Mapping[str, Record], scan: _Scan) -> dict[str, Record]:
        """Resolve what a walk has found, and return the rest."""
        missing = {}
        for mark, record in unresolved.items():
            sends = list(scan.found.get(mark, {}).values())
            if len(sends) == 1:
                self._ledger.resolutions.resolve(
                    record,
                    State.SENT,
                    resolved_by=RECONCILE,
                    why="found in Sendoso's list of sends by its mark",
                    send_id=sends[0].id,
                    status=sends[0].status,
                )
                crash_point("found")
                continue
            if sends:
                log.error("Send key %s is in Sendoso %d times.", record.send_key, len(sends))
            missing[mark] = record
        return missing

    def _scan(self, unresolved: Mapping[str, Record], *, whole: bool) -> _Scan:
        """Walk through the list, newest first if it is; unless all of it is wanted, until it can hold no more."""
        scan = _Scan()
        give_up = time.monotonic() + _LONGEST_SCAN
        oldest = min(record.posted_at or 0.0 for record in unresolved.values()) - _CLOCKS_APART
        pages = Pages(list_sends_request(), "sends", until_empty=whole)
        last: float | None = None
        newest_first = True
        while not pages.done:
            for item in pages.read(self._session.read(pages.next_request()).json):
                self._note(scan, item, unresolved)
                created = _created_at(item)
                newest_first &= created is not None and (last is None or created <= last)
                last = created
            if not whole:
                past = newest_first and last is not None and last < oldest
                if past or len(scan.found) == len(unresolved):
                    return scan
            if time.monotonic() > give_up:
                log.warning("Sendoso's list of sends is too long to be read within %.0f s.", _LONGEST_SCAN)
                return scan
        scan.complete = not pages.repeated
        return scan

    def _note(self, scan: _Scan, item: Mapping[str, Any], unresolved: Mapping[str, Record]) -> None:
        metadata = item.get("metadata")
        mark = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
        if not isinstance(mark, str):
            return
        scan.marks.add(mark)
        if mark in unresolved:
            send = read_send(item)
            if send is not None:
                scan.found.setdefault(mark, {})[send.id] = send


def _created_at(item: Mapping[str, Any]) -> float | None:
    text = item.get("created_at")
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None
