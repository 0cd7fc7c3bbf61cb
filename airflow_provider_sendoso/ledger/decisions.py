"""A person's decisions about sends whose outcome is not known: selects the sends, and records the decision.

``ledger resolve`` and :class:`~airflow_provider_sendoso.operators.ledger.ResolveHeldOperator` both use this module.
It calls Sendoso for nothing: a decision changes the ledger, and the next run acts on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.resolutions import LONGEST_WHY, OPEN
from airflow_provider_sendoso.models import ITEM_FIELDS, LONGEST_ID
from airflow_provider_sendoso.models.identity import same_name

RESOLUTIONS = {"sent": State.SENT, "not_sent": State.READY}
"""The possible decisions, and the state that each gives a send."""

SHORTEST_PREFIX = 8
"""The fewest digits to which a send key may be shortened, provided that no other key begins with them."""

_NAMED = 20
"""The most sends that a report names; the others are counted."""

_KEY = re.compile(f"[0-9a-f]{{{SHORTEST_PREFIX},64}}")

_NOTHING = "Nothing was changed."


@dataclass(frozen=True)
class Decision:
    """
    What a person has found out about sends.

    :param to_state: ``SENT``, or ``READY`` for what did not go out.
    :param why: the person's reason.
    :param resolved_by: the person's name.
    :param send_id: Sendoso's id of the one gift that was found.
    """

    to_state: State
    why: str
    resolved_by: str
    send_id: str | None = None

    @classmethod
    def parse(cls, resolution: Any, *, why: Any, resolved_by: Any, send_id: Any = None) -> Decision:
        """
        Check a decision before anything is looked up.

        :param resolution: a key of :data:`RESOLUTIONS`.
        :param why: required.
        :param resolved_by: required.
        :param send_id: only for ``sent``.
        :raises SendosoConfigError: for a decision that is incomplete or contradicts itself.
        """
        to_state = RESOLUTIONS.get(str(resolution))
        if to_state is None:
            raise SendosoConfigError(f"The resolution is {resolution!r}; use 'sent' or 'not_sent'. {_NOTHING}")
        why, resolved_by = _text(why), _text(resolved_by)
        if why is None or resolved_by is None:
            raise SendosoConfigError(f"A decision is recorded with its reason and its author: say both. {_NOTHING}")
        if len(why) > LONGEST_WHY:
            raise SendosoConfigError(f"The reason is longer than {LONGEST_WHY} characters. {_NOTHING}")
        send_id = _text(send_id)
        if send_id is not None and to_state is not State.SENT:
            raise SendosoConfigError(f"What was not sent has no send id. {_NOTHING}")
        if send_id is not None and len(send_id) > LONGEST_ID:
            raise SendosoConfigError(f"The send id is longer than {LONGEST_ID} characters. {_NOTHING}")
        return cls(to_state, why, resolved_by, send_id)


@dataclass(frozen=True)
class Tally:
    """
    The result of a decision.

    :param decision: the decision.
    :param resolved: number of sends for which it was recorded.
    :param changed: the sends that are no longer open, or have changed since they were read, as they are now.
    :param in_flight: the sends that a process may still be posting.
    """

    decision: Decision
    resolved: int
    changed: tuple[Record, ...]
    in_flight: tuple[Record, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the counts; there is no personal data in them."""
        return {
            "resolution": next(word for word, state in RESOLUTIONS.items() if state is self.decision.to_state),
            "resolved": self.resolved,
            "skipped": len(self.changed) + len(self.in_flight),
            "changed": len(self.changed),
            "in_flight": len(self.in_flight),
        }

    def lines(self) -> list[str]:
        """Return the report: what was recorded, what was not and why, and what happens next."""
        sent = self.decision.to_state is State.SENT
        said = [f"Resolved as {'sent' if sent else 'not sent'}: {_count(self.resolved)}."]
        if self.resolved and not sent:
            said.append("The next run that has them among its rows sends them: clear or run the task again.")
        elif self.resolved and self.decision.send_id is None:
            said.append("They count as sent. Without a send id no sensor can follow them.")
        if self.changed:
            stands = [f"{record.send_key} is {record.state}" for record in self.changed]
            said.append(f"Skipped, not open or changed meanwhile: {_count(len(self.changed))}: {_some(stands)}.")
        if self.in_flight:
            left = max(record.lease_left for record in self.in_flight)
            keys = [record.send_key for record in self.in_flight]
            said.append(
                f"Skipped, for their process may still be posting them: {_count(len(keys))}: {_some(keys)}. Their "
                f"leases lapse within {max(left, 1):.0f} s; resolve them then."
            )
        return said

    def failure(self) -> SendosoError | None:
        """Return the error of a decision that changed nothing, or that can be completed a little later."""
        if self.in_flight:
            return SendosoError(" ".join(self.lines()))
        if not self.resolved:
            return SendosoConfigError(" ".join(self.lines()))
        return None


def find(
    ledger: Ledger,
    account: str,
    states: Sequence[State] = OPEN,
    *,
    batch_id: str | None = None,
    dedupe_scope: str | None = None,
    reason: str | None = None,
) -> Iterator[Record]:
    """
    Read the sends of an account in some states.

    :param ledger: the ledger.
    :param account: the account of the sends.
    :param states: by default those in which nobody knows whether a gift has gone out.
    :param batch_id: only those of a batch.
    :param dedupe_scope: only those of a scope.
    :param reason: only those with this reason.
    :raises SendosoConfigError: for a batch or scope that the ledger does not know.
    """
    dedupe_scope = None if dedupe_scope is None else same_name(dedupe_scope)
    known = batch_id is None or ledger.sends.batch_exists(account, batch_id)
    known = known and (dedupe_scope is None or ledger.sends.scope_exists(account, dedupe_scope))
    narrowed = {"batch_id": batch_id, "dedupe_scope": dedupe_scope, "reason": reason}
    where = {name: value for name, value in narrowed.items() if value is not None}
    if not known:
        raise SendosoConfigError(_not_known(ledger, account, _named(where)))
    # Without this, nobody could decide about the sends of a killed process until the next run claims them.
    ledger.sends.lapse(account=account)
    return ledger.sends.records(*states, account=account, **where)


def states_named(words: Sequence[str] | None) -> Sequence[State]:
    """
    Read states as people write them.

    :param words: in upper or lower case; none or an empty list means those in which a send is open.
    :raises SendosoConfigError: for a word that is no state.
    """
    known = {state.value: state for state in State}
    if not all(word.upper() in known for word in words or ()):
        raise SendosoConfigError(f"state takes one or more of {', '.join(name.lower() for name in known)}. {_NOTHING}")
    return [known[word.upper()] for word in words] if words else OPEN


def read(ledger: Ledger, account: str, send_keys: Sequence[str]) -> list[Record]:
    """
    Read the sends with these keys, in any state.

    :param ledger: the ledger.
    :param account: the account of the sends.
    :param send_keys: whole, or so many of their first digits that no other send begins with them.
    :raises SendosoConfigError: for one that names no send, or more than one.
    """
    ledger.sends.lapse(account=account)
    records: dict[str, Record] = {}
    for given in send_keys:
        prefix = given.strip().lower()
        if not _KEY.fullmatch(prefix):
            # The message does not repeat the text, because it may be an address that was pasted by mistake.
            raise SendosoConfigError(
                f"A send key is 64 hexadecimal digits, or the first {SHORTEST_PREFIX} or more of them; one that was "
                f"given is not. {_NOTHING}"
            )
        found = ledger.sends.read_prefix(account, prefix)
        if not found:
            raise SendosoConfigError(_not_known(ledger, account, f"send_key={prefix}"))
        if len(found) > 1:
            raise SendosoConfigError(f"{len(found)} send keys begin with {prefix}; give more of its digits. {_NOTHING}")
        records[found[0].send_key] = found[0]
    return list(records.values())


def select(
    ledger: Ledger,
    account: str,
    *,
    send_keys: Sequence[str] = (),
    batch_id: str | None = None,
    dedupe_scope: str | None = None,
    reason: str | None = None,
    states: Sequence[State] = OPEN,
) -> list[Record]:
    """
    Read the sends that a decision is about: those with some keys, or all that are open in a batch or a scope.

    :param ledger: the ledger.
    :param account: the account of the sends.
    :param send_keys: as for :func:`read`; these sends need not be open.
    :param batch_id: instead of keys: all open sends of this batch.
    :param dedupe_scope: instead of keys: all open sends of this scope.
    :param reason: narrows a batch or a scope.
    :param states: of a batch or a scope, the sends in these states.
    :raises SendosoConfigError: for none or more than one of the three, and if there is no such send.
    """
    check_selection(send_keys=send_keys, batch_id=batch_id, dedupe_scope=dedupe_scope, reason=reason)
    if send_keys:
        return read(ledger, account, send_keys)
    records = list(find(ledger, account, states, batch_id=batch_id, dedupe_scope=dedupe_scope, reason=reason))
    if not records:
        given = {"batch_id": batch_id, "dedupe_scope": dedupe_scope, "reason": reason}
        where = _named({name: value for name, value in given.items() if value is not None})
        are = " or ".join(states)
        raise SendosoConfigError(f"No send with {where} is {are}: there is nothing to decide. {_NOTHING}")
    return records


def check_selection(
    *, send_keys: Sequence[str], batch_id: str | None, dedupe_scope: str | None, reason: str | None
) -> None:
    """
    Check the arguments of :func:`select` before anything is looked up.

    :raises SendosoConfigError: for none or more than one of keys, batch and scope, or a reason for keys.
    """
    if [bool(send_keys), batch_id is not None, dedupe_scope is not None].count(True) != 1:
        raise SendosoConfigError(
            f"Say which sends are meant: by their send keys, by batch, or by scope; exactly one of these. {_NOTHING}"
        )
    if send_keys and reason is not None:
        raise SendosoConfigError(f"reason narrows a batch or a scope; send keys name their sends. {_NOTHING}")


def resolve(ledger: Ledger, records: Sequence[Record], decision: Decision) -> Tally:
    """
    Record a decision for each send, each in a transaction of its own.

    Called again after a failure, it skips the sends that are resolved already.

    :param ledger: the ledger.
    :param records: the sends as they were read; one that has changed since is not resolved.
    :param decision: the decision about all of them.
    :raises SendosoConfigError: for a send id with more than one send, or the id of another send; nothing was changed.
    """
    if decision.send_id is not None:
        _check_send_id(ledger, records, decision.send_id)
    resolved = 0
    changed: list[Record] = []
    in_flight: list[Record] = []
    for record in records:
        if ledger.resolutions.resolve(
            record,
            decision.to_state,
            resolved_by=decision.resolved_by,
            why=decision.why,
            send_id=decision.send_id,
        ):
            resolved += 1
            continue
        now = ledger.sends.read([record.send_key])[record.send_key]
        as_read = now.state in OPEN and (now.state, now.attempt) == (record.state, record.attempt)
        (in_flight if as_read or now.state is State.POSTING else changed).append(now)
    return Tally(decision, resolved, tuple(changed), tuple(in_flight))


def describe(ledger: Ledger, record: Record) -> dict[str, Any]:
    """
    Return what a person needs to know about a send; the ledger does not store the recipient.

    :param ledger: the ledger that has the send.
    :param record: the send.
    """
    return {
        "send_key": record.send_key,
        "state": record.state.value,
        "reason": record.reason,
        "row_ref": record.row_ref,
        "kind": record.kind,
        **{name: getattr(record.item, name) for name in ITEM_FIELDS},
        "posted_at": moment(record.posted_at),
        "dedupe_scope": record.dedupe_scope,
        "batch_id": record.batch_id,
        "airflow_key": ledger.airflow_key(record.send_key),
        "send_id": record.send_id,
        "bound_id": record.bound_id,
        "status": record.status,
        "status_word": record.status_word,
        "resend_of": record.resend_of,
        "attempt": record.attempt,
        "in_flight": record.state in (*OPEN, State.POSTING) and record.lease_left > 0,
    }


def as_lines(described: dict[str, Any]) -> list[str]:
    """
    Format a send as the lines of a list.

    :param described: the result of :func:`describe`.
    """
    names = ("kind", "row_ref", *ITEM_FIELDS, "posted_at", "send_id", "resend_of")
    details = [f"{name} {described[name]}" for name in names if described[name] is not None]
    still = ["its process may still be posting it"] if described["in_flight"] else []
    where = f"scope {described['dedupe_scope']!r}, batch {described['batch_id']}"
    return [
        f"{described['send_key']}  {described['state']}  {described['reason'] or ''}".rstrip(),
        f"    {', '.join(details + still)}",
        f"    {where}, airflow_key {described['airflow_key']}",
    ]


def moment(epoch: float | None) -> str | None:
    """
    Write a moment of the database's clock in UTC.

    :param epoch: seconds since 1970.
    """
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")


def _check_send_id(ledger: Ledger, records: Sequence[Record], send_id: str) -> None:
    if len(records) != 1:
        raise SendosoConfigError(
            f"A send id is one gift's, and {len(records)} sends are meant: resolve them one by one. {_NOTHING}"
        )
    other = ledger.sends.find(records[0].account, send_id)
    if other is not None and other.send_key != records[0].send_key:
        raise SendosoConfigError(
            f"The send id {send_id} is that of another send already, {other.send_key} in scope "
            f"{other.dedupe_scope!r}: the gift that was found is somebody else's. {_NOTHING}"
        )


def _not_known(ledger: Ledger, account: str, what: str) -> str:
    return (
        f"The ledger {ledger.identity.ledger_uuid} knows no {what} of the account {account!r}. Is it the ledger that "
        f"the gifts were sent with? {_NOTHING}"
    )


def _named(where: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in where.items())


def _text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _count(number: int) -> str:
    return f"{number} send{'' if number == 1 else 's'}"


def _some(items: Sequence[str]) -> str:
    more = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")
