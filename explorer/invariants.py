"""What must hold of every schedule, judged once it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso.client.session import MOST_SLOTS
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.models import Kind, RowOutcome, tracking_code
from airflow_provider_sendoso.sending import Result
from airflow_provider_sendoso.waiting.wakeups import LOOK_EVERY
from explorer.ledger import OUTLASTED
from explorer.scheduler import SLOWEST, Broken
from explorer.sendoso import STATUSES, email_of

if TYPE_CHECKING:
    from explorer.scenarios import Play


@dataclass
class Tried:
    """What one try has reported."""

    run: int
    name: str
    results: dict[int, Result] = field(default_factory=dict)
    error: str | None = None
    over: bool = False
    waits: bool = False
    refused: bool = False
    limited: bool = False
    superseded: bool = False


@dataclass
class Waited:
    """The event with which a wait has ended."""

    name: str
    event: dict[str, Any]
    at: float


_HEARD = ("answer lost", "killed after acceptance", "webhook twice")
"""What delays no wait."""
_ROUND = 10.0
"""Seconds of a wait's round for a few sends."""
_ASLEEP = ("machine asleep", "machine asleep for long", "machine asleep for a moment")
_FROZEN = ("frozen", "frozen for long", "frozen at the first byte", *_ASLEEP)


def check(play: Play) -> None:
    """
    Judge a schedule that is over.

    :raises Broken: naming the invariant and what was found.
    """
    _tokens(play)
    _rate(play)
    if play.scenario.tokens_only:
        _obtained(play)
        return
    rows = {row["send_key"]: row for row in play.store.rows("SELECT * FROM sendoso_sends")}
    _at_most_one(play)
    _limits(play)
    _used_up(play, rows)
    locked_out = bool(play.server.burnt)
    for key, who in play.keys().items():
        if not locked_out:
            _not_lost(play, who, rows, key)
    _one_id_to_one_send(rows.values())
    _reports(play)
    _recorded(play, rows.values())
    if play.scenario.waits:
        _waits(play, rows)


def _obtained(play: Play) -> None:
    """With no more faults every run gets a token, unless a person has to authorise again."""
    last = {tried.run: tried for tried in play.tried}
    failed = [tried for tried in last.values() if tried.error]
    if failed and not play.server.burnt:
        raise Broken(f"progress: {failed[0].name} got no token: {failed[0].error}")


def _at_most_one(play: Play) -> None:
    names = play.keys()
    for key, count in Counter(sent.key for sent in play.server.sent).items():
        if count > 1:
            raise Broken(f"no gift twice: {names[key]} was sent {count} gifts")


def _not_lost(play: Play, who: str, rows: dict[str, dict[str, Any]], key: str) -> None:
    row = rows.get(key)
    accepted = [sent for sent in play.server.sent if sent.key == key]
    # The Send Tracker's list has no mark: where two scopes send the same to one person at once, and one of the POSTs is
    # late, each may be bound to the other's row (docs/guarantees.md).
    of_person = [sent for sent in play.server.sent if accepted and email_of(sent.body) == email_of(accepted[0].body)]
    state = None if row is None else State(row["state"])
    if row is not None and state is State.SENT:
        ids = {sent.send_id for sent in (accepted if play.scenario.kinds == (Kind.GIFT,) else of_person)}
        known = {row["send_id"], row["bound_id"], (tracking_code(row["send_id"]) or "").removeprefix("code-")}
        if not ids & known:
            raise Broken(f"nobody lost: {who} is SENT as {row['send_id']}, and Sendoso accepted {ids or 'nothing'}")
    elif state is State.REFUSED:
        if accepted or key not in play.server.refused:
            raise Broken(f"nobody lost: {who} is REFUSED, and Sendoso accepted {len(accepted)}")
    elif state is State.HELD:
        others = any(sent.key != key for sent in play.server.sent)
        if play.scenario.resend_absent and others and play.scenario.kinds == (Kind.GIFT,):
            raise Broken(f"progress: {who} is still HELD, though absence can be proven")
    elif accepted or state not in _left_out(play, who, rows):
        raise Broken(f"nobody lost: {who} is {state} at the end, and Sendoso accepted {len(accepted)}")


def _left_out(play: Play, who: str, rows: dict[str, dict[str, Any]]) -> tuple[State | None, ...]:
    """In which states a row is that a limit leaves out: a claim that has lapsed may stay, as it is free."""
    if play.scenario.min_days is not None:
        email, _, _ = who.partition(" in ")
        held = {key for key, row in rows.items() if row["state"] == State.HELD}
        holds = any(name.startswith(f"{email} in ") for key, name in play.keys().items() if key in held)
        if holds or any(email_of(sent.body) == email for sent in play.server.sent):
            return None, State.READY, State.CLAIMED
    return (None, State.READY) if play.scenario.fit_in_scope is not None else ()


def _one_id_to_one_send(rows: Iterable[dict[str, Any]]) -> None:
    ids = Counter(row["bound_id"] or row["send_id"] for row in rows if row["bound_id"] or row["send_id"])
    if twice := [send_id for send_id, count in ids.items() if count > 1]:
        raise Broken(f"ids: {twice[0]} is the id of two sends")


def _reports(play: Play) -> None:
    """What a try has said of a row is so."""
    ids = {sent.send_id for sent in play.server.sent}
    for tried in play.tried:
        for number, result in tried.results.items():
            told = result.send_id or ""
            said = (tracking_code(told) or told).removeprefix("code-")
            if result.outcome in (RowOutcome.SENT, RowOutcome.ALREADY_SENT) and said not in ids:
                raise Broken(f"counts: {tried.name} says that row {number} was sent as {told}, which nobody was")


def _recorded(play: Play, rows: Iterable[dict[str, Any]]) -> None:
    """Where only the database fails, for seconds, each outcome is recorded, and nothing has to be looked for."""
    slow = play.scenario.runs > 1 and play.world.switches
    if slow or not all(fault in OUTLASTED for fault in play.world.faults):
        return
    looked_for = play.store.rows("SELECT send_key FROM sendoso_resolutions")
    lost = [row["send_key"] for row in looked_for] + [row["send_key"] for row in rows if row["state"] == State.HELD]
    if lost:
        raise Broken(f"outcomes: that of {play.keys()[lost[0]]} was answered, and is lost")


def _waits(play: Play, rows: dict[str, dict[str, Any]]) -> None:
    """No status has gone backwards, each wait was woken, and the last has ended with everybody's gift delivered."""
    from explorer.scenarios import EVERY

    for key, seen in play.statuses.items():
        if seen != sorted(seen, key=STATUSES.index):
            raise Broken(f"statuses: that of {play.keys()[key]} went {', '.join(seen)}")
    if len(play.waited) < 2:
        raise Broken("progress: no wait has ended before the last one")
    heard = all(fault in _HEARD for fault in play.world.faults)
    by = max((sent.made_at for sent in play.server.sent), default=0.0) + play.server.delivers_in + LOOK_EVERY + _ROUND
    by += SLOWEST * play.world.switches + (
        EVERY if play.world.faults else 0.0
    )  # until it knows of a send that was lost
    late = [waited for waited in play.waited[:-1] if waited.at > by]
    if heard and late:
        raise Broken(
            f"progress: {late[0].name} has ended at {late[0].at:.0f} s, and webhooks would have it by {by:.0f}"
        )
    last, event = play.waited[-1], play.waited[-1].event
    scope = play.batches[0].dedupe_scope
    sent = [row for row in rows.values() if (row["state"], row["dedupe_scope"]) == (State.SENT, scope)]
    if event["status"] != "settled":
        raise Broken(f"progress: {last.name} ended with {event}")
    if event["report"]["reached"] != len(sent) or any(row["status"] != STATUSES[-1] for row in sent):
        raise Broken(f"statuses: {last.name} ended with {event['report']['counts']}, and {len(sent)} are sent")


def _limits(play: Play) -> None:
    of_scope = play.scenario.fit_in_scope
    if of_scope is not None and len(play.server.sent) > of_scope:
        raise Broken(f"limits: {len(play.server.sent)} were sent, and the limit of the scope is {of_scope}")
    of_person = Counter(email_of(sent.body) for sent in play.server.sent)
    if play.scenario.min_days is not None and any(count > 1 for count in of_person.values()):
        raise Broken("limits: a person was sent two gifts within the days between two gifts")
    most = play.scenario.max_sends
    # A try that was given up and goes on beside the next one: where the promise ends (docs/guarantees.md).
    if most is None or any(fault in _FROZEN for fault in play.world.faults):
        return
    last = play.batches[-1].batch_id
    sent = play.store.rows(f"SELECT 1 FROM sendoso_sends WHERE batch_id = '{last}' AND state = 'SENT'")
    if len(sent) > most:
        raise Broken(f"limits: the last run has sent {len(sent)}, with max_sends={most}")


def _used_up(play: Play, rows: dict[str, dict[str, Any]]) -> None:
    """Nobody is left out by a limit of the scope while a gift still fits in it."""
    most = play.scenario.fit_in_scope
    if most is None or play.server.burnt:
        return
    # What is not proven absent keeps its place.
    states = [State(row["state"]) for row in rows.values()]
    used = states.count(State.SENT) + states.count(State.HELD)
    could_be = len(play.keys()) - states.count(State.REFUSED)
    if used < min(most, could_be):
        raise Broken(f"limits: {used} are sent or held at the end, and {min(most, could_be)} fit in the scope's limit")


def _rate(play: Play) -> None:
    """No second sees more requests than the rate, but for those that were late after they had looked at their slot."""
    faults = play.world.faults
    for what, moments, allowed in (
        ("arrived", play.server.arrivals, len(faults) + play.world.switches),
        # A slot is counted on a clock that stands still while the machine sleeps.
        (
            "looked at their slots and left",
            play.server.in_time,
            sum(fault in _ASLEEP for fault in faults) + (len(faults) + play.world.switches) // MOST_SLOTS,
        ),
    ):
        most = int(play.scenario.rate) + allowed + (play.world.db_jump > 0)
        for first, moment in enumerate(moments):
            within = sum(1 for later in moments[first:] if later < moment + 1.0)
            if within > most:
                raise Broken(f"rate: {within} requests {what} within a second, at {moment:.3f}")


def _tokens(play: Play) -> None:
    server, faults = play.server, play.world.faults
    one_at_a_time = not play.world.db_jump  # by the database's clock a renewal's lease is over
    if server.overlaps and one_at_a_time:
        raise Broken(f"tokens: {server.overlaps[0]}")
    if server.burnt_for_nothing and one_at_a_time:
        raise Broken(f"tokens: {server.burnt_for_nothing[0]}")
    if server.keeps_chain and server.refresh_token != play.stored_refresh_token():
        raise Broken("tokens: the newest refresh token was stored, and is not any more")
    lifetimes = 1 + int(play.world.now // (server.lifetime * 0.9))
    if server.grants > lifetimes + len(faults):
        raise Broken(f"tokens: {server.grants} were granted in {lifetimes} lifetimes")
