"""What the server has accepted against what the ledger says, recipient by recipient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import PERHAPS_SENT, Record, State
from airflow_provider_sendoso.ledger.resolutions import Resolution
from airflow_provider_sendoso.models import METADATA_KEY, TRACKING, normalise_key
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.account import Send
from airflow_provider_sendoso.sandbox.tracker import CampaignSend
from soak.ledgers import LedgerDatabase
from soak.recipients import Batch
from soak.settings import ACCOUNT, POSTS

Accepted = Send | CampaignSend

_WHY_NOT = (State.REFUSED, State.UNKNOWN, State.HELD)
"""What may stand in the ledger for a recipient who was sent nothing."""


@dataclass
class Verdict:
    """
    The result for all recipients.

    :param counts: what is to be reported.
    :param duplicates: recipients who were sent more than one gift, with all that is known of each.
    :param lost: recipients whose gift the ledger and the server do not agree about.
    :param passed: scopes of which more was sent than their limit allows.
    """

    counts: dict[str, int] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)


def judge(sandbox: Sandbox, database: LedgerDatabase, batches: Iterable[Batch]) -> Verdict:
    """
    Compare server and ledger for every recipient of every batch.

    :param sandbox: the server.
    :param database: the ledger's.
    :param batches: all of them.
    """
    engine = database.engine()
    ledger = Ledger(engine)
    limits = {batch.dedupe_scope: batch.scope_max_sends for batch in batches}
    went_out = Counter(record.dedupe_scope for record in ledger.sends.records(*PERHAPS_SENT, account=ACCOUNT))
    used_up = {scope for scope, most in limits.items() if went_out[scope] >= most}
    # A batch that ends at its limit leaves what a killed process was posting to whoever looks next: so this looks.
    for scope in used_up:
        ledger.sends.lapse(account=ACCOUNT, dedupe_scope=scope)
    records = {record.send_key: record for record in ledger.sends.records(*State, account=ACCOUNT)}
    accepted: defaultdict[str, list[Accepted]] = defaultdict(list)
    for send in _accepted(sandbox):
        accepted[send.body["email"]].append(send)
    verdict = Verdict()
    history: list[Resolution] = []
    scopes_of: defaultdict[str, set[str]] = defaultdict(set)
    for batch in batches:
        for email in batch.emails:
            scopes_of[email].add(batch.dedupe_scope)
    # Whoever is invited in two scopes may have been sent the gift in either: only the ledger can tell.
    at_server = Counter(
        scope for email, scopes in scopes_of.items() if len(scopes) == 1 for scope in scopes for _ in accepted[email]
    )
    for scope, most in limits.items():
        if (sent := max(went_out[scope], at_server[scope])) > most:
            verdict.passed.append(f"{scope} was sent {sent}, with scope_max_sends={most}")
    for email, scopes in scopes_of.items():
        keys = [ledger.send_key(ACCOUNT, scope, normalise_key(email) or "") for scope in sorted(scopes)]
        known = [records[key] for key in keys if key in records]
        sends = accepted.pop(email, [])
        resolutions = [resolution for key in keys for resolution in ledger.resolutions.history(key)]
        history += resolutions
        wrong = verdict.duplicates if len(sends) > 1 else verdict.lost
        if len(sends) > 1 or not _agree(known, sends, is_full=scopes <= used_up):
            marks = [ledger.airflow_key(key) for key in keys]
            wrong.append(_evidence(email, known, resolutions, sandbox, marks))
    verdict.lost += [f"{email} was sent a gift and invited to nothing" for email in accepted]
    engine.dispose()
    states = Counter(record.state for record in records.values())
    found, again = (sum(one.to_state is state for one in history) for state in (State.SENT, State.READY))
    left = states[State.UNKNOWN] + states[State.HELD]
    tracked = sandbox.campaign_sends()
    verdict.counts = {
        "recipients": len(scopes_of),
        "posts": sum(request.method == "POST" and request.path in POSTS.values() for request in sandbox.requests),
        "accepted": len(_accepted(sandbox)),
        "of these by a campaign": sum(not send.is_product for send in tracked),
        "of these of the marketplace": sum("variant_ids" in send.body for send in tracked),
        "of these by SmartSend": sum(send.is_product and "variant_ids" not in send.body for send in tracked),
        "refused": states[State.REFUSED],
        "unknown": found + again + left,
        "found again": found,
        "proven absent and sent again": again,
        "held": left,
        "limits used up": len(used_up),
    }
    return verdict


def _accepted(sandbox: Sandbox) -> list[Accepted]:
    return [*sandbox.sends, *sandbox.campaign_sends()]


def _agree(known: list[Record], sends: list[Accepted], is_full: bool) -> bool:
    """
    Say whether the ledger knows what the server has accepted, or says why it has accepted nothing.

    :param known: what the ledger has of a person, in each scope.
    :param sends: what the server has accepted, at most one.
    :param is_full: whether the limit of each of the person's scopes is used up.
    """
    out = [record for record in known if record.state in PERHAPS_SENT]
    if not sends:
        said = any(record.state in _WHY_NOT for record in known) or is_full
        return said and all(record.state in _WHY_NOT for record in out)
    # In one scope only: the person is capped in the others.
    return len(out) == 1 and (
        out[0].state in (State.UNKNOWN, State.HELD)
        or (out[0].state is State.SENT and out[0].send_id in _names(sends[0]))
    )


def _names(send: Accepted) -> tuple[str, ...]:
    """Return what the ledger may call a send: a campaign's has a tracking code in the answer, and an id in the list."""
    if isinstance(send, CampaignSend) and not send.is_product:
        return f"{TRACKING}{send.tracking_code}", str(send.id)
    return (str(send.id),)


def _evidence(
    email: str, known: list[Record], resolutions: list[Resolution], sandbox: Sandbox, marks: list[str]
) -> str:
    lines = [f"{email}, {METADATA_KEY} {', '.join(marks)}", *(f"  ledger: {record}" for record in known)]
    lines += [f"  resolution: {resolution}" for resolution in resolutions]
    lines += [f"  server, request: {request}" for request in sandbox.requests if request.airflow_key in marks]
    lines += [
        f"  server, accepted: {send.id} at {send.accepted_at:.3f}, {send.body.get('metadata')}"
        for send in _accepted(sandbox)
        if send.body["email"] == email
    ]
    return "\n".join(lines)
