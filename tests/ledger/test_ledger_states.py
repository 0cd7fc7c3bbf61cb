"""In any order of claims, posts, crashes and late processes, at most one POST to a recipient is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import create_engine, delete, update

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.models import Item, Kind

KEY = "key"
OWNERS = ("one", "two")
BATCH = Batch("batch", "account", "scope", "email", "dag", "task", "run", -1)


class Processes(RuleBasedStateMachine):
    """
    Processes over one send of one ledger; each step of the protocol is a rule, so that any may come late, or never.

    A claim, or a POST that was begun, stays in its bundle for as long as hypothesis likes: that is a process that
    was frozen, and one that wakes up after its lease has lapsed is a zombie.
    """

    claims = Bundle("claims")
    """Held, or believed to be held, by their owner."""
    begun = Bundle("begun")
    """POSTING is committed, and the request has not left."""
    not_sent = Bundle("not_sent")
    """Answered with what means "not sent"."""
    refused = Bundle("refused")

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        # The same for every example: making the tables takes longer than going through them.
        self.ledger = ledger
        self.ledger._database.run(lambda connection: connection.execute(delete(sends)))
        self.accepted = 0

    @rule(target=claims, owner=st.sampled_from(OWNERS), payload=st.sampled_from("xy"))
    def claim(self, owner: str, payload: str) -> object:
        found = self.ledger.sends.claim(BATCH, owner, 60, [Wanted(KEY, payload, Item("gift"), None, kind=Kind.GIFT)])[
            KEY
        ]
        return found if isinstance(found, Claim) else multiple()

    @rule(target=begun, claim=consumes(claims))
    def begin_post(self, claim: Claim) -> object:
        return claim if self.ledger.sends.begin_post(claim, 60) else multiple()

    @rule(claim=consumes(begun), answered=st.booleans())
    def is_accepted(self, claim: Claim, answered: bool) -> None:
        self.accepted += 1
        if answered:
            assert self.ledger.sends.finish(claim, State.SENT, send_id="id")

    @rule(claim=consumes(begun), accepted=st.booleans())
    def answer_is_lost(self, claim: Claim, accepted: bool) -> None:
        self.accepted += accepted
        self.ledger.sends.finish(claim, State.UNKNOWN, reason="lost")

    @rule(target=refused, claim=consumes(begun))
    def is_refused(self, claim: Claim) -> Claim:
        self.ledger.sends.finish(claim, State.REFUSED, reason="http_422")
        return claim

    @rule(target=not_sent, claim=consumes(begun))
    def is_throttled(self, claim: Claim) -> Claim:
        return claim

    @rule(target=claims, claim=consumes(not_sent))
    def post_again(self, claim: Claim) -> object:
        return claim if self.ledger.sends.post_again(claim, 60) else multiple()

    @rule(claim=consumes(not_sent))
    def stop(self, claim: Claim) -> None:
        self.ledger.sends.finish(claim, State.READY, reason="http_429")

    @rule(claim=consumes(refused))
    def reopen(self, claim: Claim) -> None:
        self.ledger.sends.reopen([claim])

    @rule(owner=st.sampled_from(OWNERS))
    def release(self, owner: str) -> None:
        self.ledger.sends.release(owner)

    @rule(owner=st.sampled_from(OWNERS))
    def renew(self, owner: str) -> None:
        self.ledger.sends.renew(owner, 60)

    @rule()
    def lease_lapses(self) -> None:
        lapsed = update(sends).values(lease_until=0.0)
        self.ledger._database.run(lambda connection: connection.execute(lapsed))

    @invariant()
    def nobody_was_sent_two_gifts(self) -> None:
        assert self.accepted <= 1

    @invariant()
    def what_went_out_is_not_free_to_be_claimed(self) -> None:
        if self.accepted:
            (record,) = self.ledger.sends.records(*State)
            assert record.state in (State.POSTING, State.UNKNOWN, State.SENT)


@pytest.mark.parametrize("examples", [60, pytest.param(150, marks=pytest.mark.slow)])
def test_in_any_order_of_steps_at_most_one_post_is_accepted(tmp_path: Path, examples: int) -> None:
    ledger = Ledger(create_engine(f"sqlite:///{tmp_path / 'ledger.db'}"))
    # Without shrinking: on a database it takes minutes, and the steps that led to a second gift are few as they are.
    run_state_machine_as_test(
        lambda: Processes(ledger),
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    ledger._database.engine.dispose()
