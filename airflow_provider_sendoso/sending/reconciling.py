"""Looks for sends of unknown outcome in Sendoso's lists of sends (``scanning.py``).

That a list does not hold a send does not prove that it was not sent. This is proven only if, after the settle time, two
complete lists do not hold the send, and do hold other sends of this ledger. A send that is neither found nor proven
absent is held, and a later run looks for it again.

Tasks of one scope share their searches through the ledger (``ledger/looks.py``): one walks, the others wait for it or
go on, and what it has found, held and proven serves all of them for a while.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.crashpoints import crash_point
from airflow_provider_sendoso.exceptions import SendosoApiError, SendosoConnectionError, SendosoNotFoundError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.clocks import elapsed
from airflow_provider_sendoso.ledger.looks import Look, Turn
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.resolutions import OPEN
from airflow_provider_sendoso.models import Kind, Send, on_hold_warning
from airflow_provider_sendoso.sending.kinds import KINDS
from airflow_provider_sendoso.sending.posting import longest_post
from airflow_provider_sendoso.sending.scanning import LONGEST_SCAN, Scan, Scanner, for_so_long

log = logging.getLogger(__name__)

_SERVES = 60.0
"""Seconds after its beginning for which a search serves other tasks of the scope, for the sends that it looked for."""

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
        self._settled_after = longest_post(session.config.timeout) + settle_time
        self._client = ledger.client_hash(session.config.client)

    def run(self, *, prove: bool = False, wait: Callable[[], bool] | None = None) -> dict[str, Record]:
        """
        Look once for every send of the scope whose outcome is not known, unless another task has just done so.

        :param prove: whether to determine which of them are proven absent.
        :param wait: waits a moment for another task that is looking, and returns whether to wait on; ``None`` if its
            result is not waited for.
        :return: the present records of the absent sends, by send key; the proof does not hold for a later POST of the
            same send.
        :raises SendosoLedgerError: if the ledger does not answer; if Sendoso does not answer, that is only logged.
        """
        self._ledger.sends.lapse(**self._scope)
        unresolved = self._open()
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
                absent |= self._share(name, mine, scanner, prove, wait)
        return absent

    def _open(self) -> list[Record]:
        return list(self._ledger.sends.records(*OPEN, **self._scope))

    def _name(self, kind: Kind) -> str:
        """Return the name of a search in the ledger: what one client finds in one list says nothing of another's."""
        return self._ledger.identity.digest("look", *self._scope.values(), kind.value, self._client)[:32]

    def _share(
        self,
        kind: Kind,
        unresolved: Mapping[str, Record],
        scanner: Scanner,
        prove: bool,
        wait: Callable[[], bool] | None,
    ) -> dict[str, Record]:
        """Look for sends, or take what another task has found that looked for them."""
        name, looks = self._name(kind), self._ledger.looks
        while unresolved:
            last = looks.last(name)
            # The settle time has to be over before the list is read.
            settled = self._settled(unresolved) if prove else set()
            if self._serves(last, unresolved, settled):
                log.info("%d %s of unknown outcome were just looked for.", len(unresolved), KINDS[kind].plural)
                return {key: replace(unresolved[key], state=State.HELD) for key in settled & set(last.absent)}
            if not last.busy:
                turn = looks.begin(name, last)
                if turn is not None:
                    return self._look_for(unresolved, settled, KINDS[kind].plural, scanner, turn)
            elif wait is None or not wait():
                return {}
            unresolved = {record.send_key: record for record in self._open() if record.kind is kind}
        return {}

    def _settled(self, unresolved: Mapping[str, Record]) -> set[str]:
        left = {key: self.settles_in(record) for key, record in unresolved.items()}
        return {key for key, seconds in left.items() if seconds is not None and seconds <= 0}

    def _serves(self, last: Look, unresolved: Mapping[str, Record], settled: set[str]) -> bool:
        """
        Return whether the last search says all that a search now could say.

        It has to have looked for each of these sends, after its present POST; and where absence is to be proven, it has
        to have waited at least as long as this task would before it read its two lists.
        """
        if last.began_ago is None or last.began_ago > _SERVES:
            return False
        looked_for = all(
            record.state is State.HELD and last.looked_for.get(key) == record.attempt
            for key, record in unresolved.items()
        )
        proves = settled <= set(last.settled) and last.settled_after >= self._settled_after
        return looked_for and (proves or not settled)

    def _hold(self, unresolved: Sequence[Record], what: str, why: str) -> None:
        """Hold sends that cannot be looked for, so that a person decides about them."""
        if unresolved:
            log.info("%d %s are held: %s.", len(unresolved), what, why)
            self._ledger.resolutions.hold([record for record in unresolved if record.state is State.UNKNOWN])

    def _look_for(
        self, unresolved: Mapping[str, Record], settled: set[str], what: str, scanner: Scanner, turn: Turn
    ) -> dict[str, Record]:
        log.info("Looking for %d %s of unknown outcome in Sendoso.", len(unresolved), what)
        looked_for = {key: record.attempt for key, record in unresolved.items()}
        absent: set[str]
        missing: Mapping[str, Record]
        try:
            scan = scanner.scan(unresolved, whole=bool(settled), stop=for_so_long(LONGEST_SCAN, turn.keep))
            missing = self._take_found(unresolved, scan, scanner)
            absent = {key for key in settled & missing.keys() if scan.proves_absent(key)}
            if absent:
                scan = scanner.scan(missing, whole=True, stop=for_so_long(LONGEST_SCAN, turn.keep))
                missing = self._take_found(missing, scan, scanner)
                absent = {key for key in absent & missing.keys() if scan.proves_absent(key)}
        except SendosoNotFoundError:
            log.warning("This Sendoso has no list of %s; %d are held for a person.", what, len(unresolved))
            missing, absent, looked_for = unresolved, set(), {}
        except (SendosoApiError, SendosoConnectionError) as error:
            log.warning("Sends of unknown outcome could not be looked for: %s", error)
            turn.end({})
            return {}
        self._ledger.resolutions.hold([record for record in missing.values() if record.state is State.UNKNOWN])
        turn.end(looked_for, settled, absent, self._settled_after)
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
