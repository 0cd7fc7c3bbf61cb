"""Looks for sends of unknown outcome in Sendoso's lists of sends (``scanning.py``).

That a list does not hold a send does not prove that it was not sent. This is proven only if, after the settle time, two
complete lists do not hold the send, and do hold other sends of this ledger. A send that is neither found nor proven
absent is held, and a later run looks for it again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import SendosoApiError, SendosoConnectionError, SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.clocks import elapsed
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.resolutions import OPEN
from airflow_provider_sendoso.models import Send, on_hold_warning
from airflow_provider_sendoso.sending.kinds import KINDS
from airflow_provider_sendoso.sending.scanning import Scan, Scanner

log = logging.getLogger(__name__)

RECONCILE = "reconcile"
"""The name of this search in the ledger's record of who has resolved a send."""


class Reconciler:
    """
    Looks for the unknown sends of one scope.

    :param session: calls Sendoso; its reads leave most of the rate to sends.
    :param ledger: the ledger.
    :param account: the account of the sends.
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
        self._client = ledger.client_hash(session.config.client)

    def run(self, *, prove: bool = False) -> dict[str, Record]:
        """
        Look once for every send of the scope whose outcome is not known.

        :param prove: whether to determine which of them are proven absent.
        :return: the present records of the absent sends, by send key; the proof does not hold for a later POST of the
            same send.
        :raises SendosoLedgerError: if the ledger does not answer; if Sendoso does not answer, that is only logged.
        """
        self._ledger.sends.lapse(**self._scope)
        unresolved = list(self._ledger.sends.records(*OPEN, **self._scope))
        absent: dict[str, Record] = {}
        self._hold(
            [record for record in unresolved if record.kind is None],
            "sends of a kind that only a newer release of this provider knows",
            "this release cannot look for them",
        )
        for name, kind in KINDS.items():
            mine = {record.send_key: record for record in unresolved if record.kind is name}
            scanner = kind.scanner(self._session, self._ledger, self._settled_after)
            if scanner is None:
                self._hold(list(mine.values()), f"{kind.plural} of unknown outcome", kind.why_not_looked_for)
            elif mine:
                absent |= self._look_for(mine, kind.plural, scanner, prove)
        return absent

    def _hold(self, unresolved: Sequence[Record], what: str, why: str) -> None:
        """Hold sends that cannot be looked for, so that a person decides about them."""
        if unresolved:
            log.info("%d %s are held: %s.", len(unresolved), what, why)
            self._ledger.resolutions.hold([record for record in unresolved if record.state is State.UNKNOWN])

    def _look_for(
        self, unresolved: Mapping[str, Record], what: str, scanner: Scanner, prove: bool
    ) -> dict[str, Record]:
        log.info("Looking for %d %s of unknown outcome in Sendoso.", len(unresolved), what)
        # The settle time has to be over before the list is read.
        left = {key: self.settles_in(record) for key, record in unresolved.items() if prove}
        settled = {key for key, seconds in left.items() if seconds is not None and seconds <= 0}
        absent: set[str]
        missing: Mapping[str, Record]
        try:
            scan = scanner.scan(unresolved, whole=bool(settled))
            missing = self._take_found(unresolved, scan, scanner)
            absent = {key for key in settled & missing.keys() if scan.proves_absent(key)}
            if absent:
                scan = scanner.scan(missing, whole=True)
                missing = self._take_found(missing, scan, scanner)
                absent = {key for key in absent & missing.keys() if scan.proves_absent(key)}
        except SendosoNotFoundError:
            log.warning("This Sendoso has no list of %s; %d are held for a person.", what, len(unresolved))
            missing, absent = unresolved, set()
        except (SendosoApiError, SendosoConnectionError) as error:
            log.warning("Sends of unknown outcome could not be looked for: %s", error)
            return {}
        self._ledger.resolutions.hold([record for record in missing.values() if record.state is State.UNKNOWN])
        crash_point("reconciled")
        log.info("Found %d, held %d, proven absent %d.", len(unresolved) - len(missing), len(missing), len(absent))
        return {key: replace(missing[key], state=State.HELD) for key in absent}

    def settles_in(self, record: Record) -> float | None:
        """
        Return the seconds until the absence of a send can be proven, not positive once it can.

        Both the database's clock and this process's own have to show that the settle time is over, as either may jump.

        :param record: the send; its absence cannot be proven while its lease lasts.
        :return: ``None`` for a kind of send that nothing looks for, and for a send that another client has claimed: it
            may belong to another organisation at Sendoso, whose sends this one's list does not show.
        """
        if record.kind is None or not KINDS[record.kind].is_looked_for or record.client not in (None, self._client):
            return None
        posted_ago = record.posted_ago if record.posted_ago is not None else 0.0
        if record.posted_mark is not None:
            posted_ago = min(posted_ago, elapsed(record.posted_mark))
        return max(self._settled_after - posted_ago, record.lease_left)

    def _take_found(self, unresolved: Mapping[str, Record], scan: Scan, scanner: Scanner) -> dict[str, Record]:
        """Resolve the sends that a walk has found, and return the others."""
        missing, on_hold = {}, list[Send]()
        for key, record in unresolved.items():
            sends = list(scan.found.get(key, {}).values())
            if len(sends) == 1:
                self._ledger.resolutions.resolve(
                    record,
                    State.SENT,
                    resolved_by=RECONCILE,
                    why=f"found in Sendoso's list of sends by its {scanner.known_by}",
                    send_id=sends[0].id,
                    report=sends[0].report,
                )
                crash_point("found")
                on_hold += [send for send in sends if send.on_hold]
                continue
            if sends:
                log.error("Send key %s is in Sendoso %d times.", record.send_key, len(sends))
            missing[key] = record
        if on_hold:
            words = Counter(str(send.report.word) for send in on_hold if send.report)
            log.warning("%s", on_hold_warning(words, [send.id for send in on_hold]))
        return missing
