"""The ledger under runs that crash, freeze and wake up, late and lost answers, and decisions of people, in any order.

Hypothesis plays several runs over a few sends, step by step in any order, against a model of Sendoso. A frozen run
needs no rule of its own: any run may go on at any time with what it held, however long ago that was.

One hole is documented and not played: a process that is frozen between the check of its lease and the first byte of
its POST for longer than the settle time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import update

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, Record, State, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import Item, Kind

ACCOUNT = "account"
LEASE = 600.0
"""Seconds; within a test no lease lapses by itself."""

RUNS = ("one", "two", "three")
KEYS = 2
PAYLOADS = ("payload", "corrected")
OPEN = (State.UNKNOWN, State.HELD)


class Answer(Enum):
    """What a run knows of its POST."""

    NOTHING = auto()
    NOT_SENT = auto()
    REFUSED = auto()
    ACCEPTED = auto()


class Fate(Enum):
    """What becomes of a POST of which its run hears nothing."""

    LOST = auto()
    ACCEPTED = auto()
    ON_THE_WAY = auto()


@dataclass
class Held:
    """
    A claim as a run remembers it.

    :param covered: whether the lease covers a POST, as the run sees it.
    :param begun: whether POSTING was committed, and the POST not made.
    :param answer: what came of the POST; ``None`` if it was not made.
    """

    claim: Claim
    covered: bool = False
    begun: bool = False
    answer: Answer | None = None


@dataclass(frozen=True)
class Seen:
    """
    A row as somebody read it who also looked at Sendoso, and may be slow to decide.

    :param absent: whether nothing was there, and nothing could arrive any more.
    """

    record: Record
    absent: bool


class LedgerMachine(RuleBasedStateMachine):
    """
    Several runs over a few sends.

    :param ledger: an open one; every machine has keys and a scope of its own in it.
    """

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.scope = uuid.uuid4().hex
        self.keys = [f"{self.scope}-{number}" for number in range(KEYS)]
        self.runs: dict[str, dict[str, Held]] = {run: {} for run in RUNS}
        self.refused: dict[str, list[Claim]] = {run: [] for run in RUNS}
        self.seen: list[Seen] = []
        self.accepted: dict[str, list[str]] = {key: [] for key in self.keys}
        self.on_the_way: dict[str, int] = dict.fromkeys(self.keys, 0)

    # -- a run ---------------------------------------------------------------------------------------------------------

    @rule(
        run=st.sampled_from(RUNS), payload=st.sampled_from(PAYLOADS), some=st.sets(st.integers(0, KEYS - 1), min_size=1)
    )
    def claim(self, run: str, payload: str, some: set[int]) -> None:
        before = self.rows()
        batch = Batch(run, ACCOUNT, self.scope, "email", "dag", "task", run, -1)
        wanted = [Wanted(self.keys[number], payload, Item("gift"), None, kind=Kind.GIFT) for number in some]
        for key, found in self.ledger.sends.claim(batch, run, LEASE, wanted).items():
            now = self.row(key)
            if isinstance(found, Record):
                assert settled(found) == settled(now)
                continue
            assert (now.state, now.owner, now.attempt) == (State.CLAIMED, run, found.attempt)
            assert key not in before or before[key].attempt < found.attempt
            assert not self.accepted[key]
            assert not self.on_the_way[key]
            self.runs[run][key] = Held(found)

    @rule(run=st.sampled_from(RUNS))
    def renew(self, run: str) -> None:
        self.ledger.sends.renew(run, LEASE)

    @rule(run=st.sampled_from(RUNS))
    def release(self, run: str) -> None:
        self.ledger.sends.release(run)
        assert not [row for row in self.rows().values() if (row.owner, row.state) == (run, State.CLAIMED)]

    @rule(
        run=st.sampled_from(RUNS),
        number=st.integers(0, KEYS - 1),
        payload=st.sampled_from(PAYLOADS),
        answer=st.sampled_from(Answer),
        fate=st.sampled_from(Fate),
        finishes=st.booleans(),
    )
    def send(self, run: str, number: int, payload: str, answer: Answer, fate: Fate, finishes: bool) -> None:
        """The usual way in one step, so that Hypothesis comes to the unusual ones sooner."""
        self.claim(run, payload, {number})
        held = self.runs[run].get(self.keys[number])
        if held and waiting(held) and self.begins_post(run, held):
            self.posts_once(held, answer, fate)
            if finishes:
                self.finishes(run, held)

    @precondition(lambda self: self.held(waiting))
    @rule(data=st.data())
    def begin_post(self, data: st.DataObject) -> None:
        self.begins_post(*self.pick(data, waiting))

    @precondition(lambda self: self.held(lambda held: held.covered))
    @rule(data=st.data(), answer=st.sampled_from(Answer), fate=st.sampled_from(Fate))
    def post(self, data: st.DataObject, answer: Answer, fate: Fate) -> None:
        self.posts_once(self.pick(data, lambda held: held.covered)[1], answer, fate)

    @precondition(lambda self: self.held(may_be_put_off))
    @rule(data=st.data())
    def post_again(self, data: st.DataObject) -> None:
        run, held = self.pick(data, may_be_put_off)
        done = self.does(held.claim, State.CLAIMED, lambda: self.ledger.sends.post_again(held.claim, LEASE))
        self.forget(run, held)
        if done:
            self.runs[run][held.claim.send_key] = Held(held.claim)

    @precondition(lambda self: self.held(answered))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.finishes(*self.pick(data, answered))

    @precondition(lambda self: any(self.refused.values()))
    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from([run for run in RUNS if self.refused[run]]))
        before = self.rows()
        self.ledger.sends.reopen(self.refused[run])
        for claim in self.refused[run]:
            row = before[claim.send_key]
            if (row.owner, row.attempt, row.state) == (claim.owner, claim.attempt, State.REFUSED):
                assert self.row(claim.send_key).state is State.READY
        self.refused[run].clear()

    @rule(run=st.sampled_from(RUNS))
    def crash(self, run: str) -> None:
        self.runs[run].clear()
        self.refused[run].clear()

    # -- time ----------------------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, KEYS - 1))
    def lease_lapses(self, number: int) -> None:
        self.lapses(self.keys[number])

    def lapses(self, key: str) -> None:
        lapsed = update(sends).where(sends.c.send_key == key).values(lease_until=0.0)
        self.ledger._database.run(lambda connection: connection.execute(lapsed))
        for held in self.all_held():
            if held.claim.send_key == key:
                held.covered = False

    @precondition(lambda self: any(self.on_the_way.values()))
    @rule(data=st.data(), arrives=st.booleans())
    def what_is_on_the_way_arrives_or_is_lost(self, data: st.DataObject, arrives: bool) -> None:
        key = data.draw(st.sampled_from([key for key, count in self.on_the_way.items() if count]))
        self.on_the_way[key] -= 1
        if arrives:
            self.accept(key)

    # -- those who decide what became of a send ------------------------------------------------------------------------

    @rule()
    def lapse(self) -> None:
        before = self.rows()
        self.ledger.sends.lapse(account=ACCOUNT, dedupe_scope=self.scope)
        for key, row in self.rows().items():
            lapsed = before[key].state is State.POSTING and before[key].lease_left <= 0
            assert row.state is (State.UNKNOWN if lapsed else before[key].state)

    @precondition(lambda self: self.rows())
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(sorted(self.rows().values(), key=lambda row: row.send_key)))
        key = row.send_key
        covered = any(held.covered for held in self.all_held() if held.claim.send_key == key)
        absent = not self.accepted[key] and not self.on_the_way[key] and not covered
        self.seen.append(Seen(row, absent))

    @precondition(lambda self: [row for row in self.rows().values() if row.state in OPEN])
    @rule(data=st.data(), waits=st.booleans())
    def look_and_decide(self, data: st.DataObject, waits: bool) -> None:
        row = data.draw(st.sampled_from([row for row in self.rows().values() if row.state in OPEN]))
        if waits:
            self.lapses(row.send_key)
        if self.accepted[row.send_key]:
            self.resolves(row, State.SENT, "a person")
        elif not self.on_the_way[row.send_key]:
            self.resolves(row, State.READY, "a person")

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.seen)).record
        before = self.row(record.send_key)
        self.ledger.resolutions.hold([record])
        is_as_seen = before.state is State.UNKNOWN and before.attempt == record.attempt
        assert self.row(record.send_key).state is (State.HELD if is_as_seen else before.state)

    @precondition(lambda self: self.found())
    @rule(data=st.data(), by=st.sampled_from(["reconcile", "a person"]))
    def resolve_as_sent(self, data: st.DataObject, by: str) -> None:
        record = data.draw(st.sampled_from(self.found())).record
        (send_id,) = self.accepted[record.send_key]
        self.resolves(record, State.SENT, by, send_id if by == "reconcile" else None)

    @precondition(lambda self: self.absent())
    @rule(data=st.data(), by=st.sampled_from(["reconcile", "a person"]))
    def resolve_as_not_sent(self, data: st.DataObject, by: str) -> None:
        record = data.draw(st.sampled_from(self.absent())).record
        if self.resolves(record, State.READY, by):
            assert not [held for held in self.all_held() if held.covered and held.claim.send_key == record.send_key]

    # -- always --------------------------------------------------------------------------------------------------------

    @invariant()
    def nobody_gets_two(self) -> None:
        rows = self.rows()
        for key, gifts in self.accepted.items():
            assert len(gifts) <= 1
            if gifts or self.on_the_way[key]:
                # Never free to be claimed again.
                assert rows[key].state in (State.POSTING, State.SENT, *OPEN)
            elif key in rows:
                assert rows[key].state is not State.SENT

    def teardown(self) -> None:
        """No recipient is lost: when nothing is in flight any more, a last run sends every missing gift."""
        for key in self.keys:
            while self.on_the_way[key]:
                self.on_the_way[key] -= 1
                self.accept(key)
            self.lapses(key)
        for held in self.runs.values():
            held.clear()
        self.lapse()
        for row in self.rows().values():
            if row.state in OPEN:
                self.resolves(row, State.SENT if self.accepted[row.send_key] else State.READY, "a person")
        last = Batch("last", ACCOUNT, self.scope, "email", "dag", "task", "last", -1)
        wanted = [Wanted(key, "the last payload", Item("gift"), None, kind=Kind.GIFT) for key in self.keys]
        for key, found in self.ledger.sends.claim(last, "last", LEASE, wanted).items():
            if isinstance(found, Claim):
                assert self.ledger.sends.begin_post(found, LEASE)
                self.accept(key)
                assert self.ledger.sends.finish(found, State.SENT)
        assert {key: len(gifts) for key, gifts in self.accepted.items()} == dict.fromkeys(self.keys, 1)
        assert {row.state for row in self.rows().values()} == {State.SENT}

    # -- what the rules share ------------------------------------------------------------------------------------------

    def rows(self) -> dict[str, Record]:
        return self.ledger.sends.read(self.keys)

    def row(self, key: str) -> Record:
        return self.rows()[key]

    def accept(self, key: str) -> None:
        self.accepted[key].append(f"send-{len(self.accepted[key])}")

    def all_held(self) -> list[Held]:
        return [held for run in RUNS for held in self.runs[run].values()]

    def held(self, which: Callable[[Held], bool]) -> list[tuple[str, Held]]:
        return [(run, held) for run in RUNS for held in self.runs[run].values() if which(held)]

    def pick(self, data: st.DataObject, which: Callable[[Held], bool]) -> tuple[str, Held]:
        picked: tuple[str, Held] = data.draw(st.sampled_from(self.held(which)))
        return picked

    def forget(self, run: str, held: Held) -> None:
        del self.runs[run][held.claim.send_key]

    def does(self, claim: Claim, state: State, transition: Callable[[], bool]) -> bool:
        """Make a transition: what is reported as done is there, and what is not has changed nothing."""
        before = self.row(claim.send_key)
        done = transition()
        after = self.row(claim.send_key)
        if done:
            assert (after.state, after.owner, after.attempt) == (state, claim.owner, claim.attempt)
        else:
            assert settled(after) == settled(before)
        return done

    def begins_post(self, run: str, held: Held) -> bool:
        done = self.does(held.claim, State.POSTING, lambda: self.ledger.sends.begin_post(held.claim, LEASE))
        held.covered = held.begun = done
        if not done:
            self.forget(run, held)
        return done

    def posts_once(self, held: Held, answer: Answer, fate: Fate) -> None:
        key = held.claim.send_key
        held.covered = held.begun = False
        held.answer = answer
        if answer is Answer.ACCEPTED or (answer is Answer.NOTHING and fate is Fate.ACCEPTED):
            self.accept(key)
        elif answer is Answer.NOTHING and fate is Fate.ON_THE_WAY:
            self.on_the_way[key] += 1

    def finishes(self, run: str, held: Held) -> None:
        key = held.claim.send_key
        state, send_id = {
            Answer.ACCEPTED: (State.SENT, self.accepted[key][-1] if self.accepted[key] else None),
            Answer.REFUSED: (State.REFUSED, None),
            Answer.NOT_SENT: (State.READY, None),
            Answer.NOTHING: (State.UNKNOWN, None),
        }[held.answer or Answer.NOTHING]
        done = self.does(held.claim, state, lambda: self.ledger.sends.finish(held.claim, state, send_id=send_id))
        if done and state is State.SENT:
            assert self.row(key).send_id in (send_id, None)
        if done and state is State.REFUSED:
            self.refused[run].append(held.claim)
        self.forget(run, held)

    def resolves(self, record: Record, state: State, by: str, send_id: str | None = None) -> bool:
        before, decided = self.row(record.send_key), self.ledger.resolutions.history(record.send_key)
        done = self.ledger.resolutions.resolve(record, state, resolved_by=by, why="looked", send_id=send_id)
        after = self.row(record.send_key)
        as_seen = before.state is record.state and before.attempt == record.attempt
        is_open = before.state in OPEN and (state is State.SENT or before.lease_left <= 0)
        again = {(State.REFUSED, State.READY), (State.READY, State.SENT)}
        if (before.state, state) == (State.READY, State.SENT) and [one.to_state for one in decided][-1:] != [
            State.READY
        ]:
            again = set()  # no decision was recorded
        assert done is (as_seen and (is_open or (before.state, state) in again))
        added = self.ledger.resolutions.history(record.send_key)[len(decided) :]
        if done:
            assert after.state is state
            assert [(one.from_state, one.to_state, one.resolved_by) for one in added] == [(before.state, state, by)]
        else:
            assert settled(after) == settled(before)
            assert added == []
        return done

    def found(self) -> list[Seen]:
        return [seen for seen in self.seen if self.accepted[seen.record.send_key]]

    def absent(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.absent]


def waiting(held: Held) -> bool:
    return held.answer is None


def answered(held: Held) -> bool:
    return held.answer is not None


def may_be_put_off(held: Held) -> bool:
    return held.begun or held.answer is Answer.NOT_SENT


def settled(record: Record) -> Record:
    """A row without what time alone changes."""
    return replace(record, lease_left=0.0, posted_ago=None)


@pytest.fixture(params=["some", pytest.param("many", marks=pytest.mark.slow)])
def examples(request: pytest.FixtureRequest, ledger_connection: dict[str, Any]) -> int:
    # What the databases do differently shows in a few; the order of the steps is the same on each.
    many = 40 if ledger_connection["conn_type"] == "sqlite" else 10
    return many if request.param == "many" else many * 2 // 5


def test_in_any_order_of_steps_no_recipient_gets_two_gifts_and_no_recipient_is_lost(
    opened: Ledger, examples: int
) -> None:
    run_state_machine_as_test(
        lambda: LedgerMachine(opened),
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
