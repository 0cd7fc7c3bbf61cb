"""What the server has accepted against what the ledger says, recipient by recipient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import create_engine

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Record, State
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
    """

    counts: dict[str, int] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def judge(sandbox: Sandbox, database: LedgerDatabase, batches: Iterable[Batch]) -> Verdict:
    """
    Compare server and ledger for every recipient of every batch.

    :param sandbox: the server.
    :param database: the ledger's.
    :param batches: all of them.
    """
    engine = create_engine(database.url)
    ledger = Ledger(engine)
    records = {record.send_key: record for record in ledger.sends.records(*State, account=ACCOUNT)}
    accepted: defaultdict[str, list[Accepted]] = defaultdict(list)
    for send in _accepted(sandbox):
        accepted[send.body["email"]].append(send)
    verdict = Verdict()
    history: list[Resolution] = []
    scope_of = {email: batch.dedupe_scope for batch in batches for email in batch.emails}
    for email, scope in scope_of.items():
        key = ledger.send_key(ACCOUNT, scope, normalise_key(email) or "")
        record, sends, resolutions = records.get(key), accepted.pop(email, []), ledger.resolutions.history(key)
        history += resolutions
        if len(sends) > 1:
            verdict.duplicates.append(_evidence(email, record, resolutions, sandbox, ledger.airflow_key(key)))
        elif not _agree(record, sends):
            verdict.lost.append(_evidence(email, record, resolutions, sandbox, ledger.airflow_key(key)))
    verdict.lost += [f"{email} was sent a gift and invited to nothing" for email in accepted]
    engine.dispose()
    states = Counter(record.state for record in records.values())
    found, again = (sum(one.to_state is state for one in history) for state in (State.SENT, State.READY))
    left = states[State.UNKNOWN] + states[State.HELD]
    tracked = sandbox.campaign_sends()
    verdict.counts = {
        "recipients": len(scope_of),
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
    }
    return verdict


def _accepted(sandbox: Sandbox) -> list[Accepted]:
    return [*sandbox.sends, *sandbox.campaign_sends()]


def _agree(record: Record | None, sends: list[Accepted]) -> bool:
    """Say whether the ledger knows what the server has accepted, or says why it has accepted nothing."""
    if not sends:
        return record is not None and record.state in _WHY_NOT
    if record is None:
        return False
    return record.state in (State.UNKNOWN, State.HELD) or (
        record.state is State.SENT and record.send_id in _names(sends[0])
    )


def _names(send: Accepted) -> tuple[str, ...]:
    """Return what the ledger may call a send: a campaign's has a tracking code in the answer, and an id in the list."""
    if isinstance(send, CampaignSend) and not send.is_product:
        return f"{TRACKING}{send.tracking_code}", str(send.id)
    return (str(send.id),)


def _evidence(email: str, record: Record | None, resolutions: list[Resolution], sandbox: Sandbox, mark: str) -> str:
    lines = [f"{email}, {METADATA_KEY} {mark}", f"  ledger: {record}"]
    lines += [f"  resolution: {resolution}" for resolution in resolutions]
    lines += [f"  server, request: {request}" for request in sandbox.requests if request.airflow_key == mark]
    lines += [
        f"  server, accepted: {send.id} at {send.accepted_at:.3f}, {send.body.get('metadata')}"
        for send in _accepted(sandbox)
        if send.body["email"] == email
    ]
    return "\n".join(lines)
