"""Sends whose slots and POSTING are one group's: a few statements decide exactly as each send by itself would have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from group_queue import Queue
from sqlalchemy import event, select, update

from airflow_provider_sendoso.exceptions import SendosoLimitError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import pace as pace_table
from airflow_provider_sendoso.ledger.schema import spending as counters
from airflow_provider_sendoso.ledger.spending import UNLIMITED, Capped, Fit
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.models.spending import Price, SpendingLimits

pytestmark = pytest.mark.parametrize("ledger_connection", ["sqlite", "postgresql", "mysql"], indirect=True)
"""In a bucket no slot is taken at once."""

DOLLARS, EUROS = Price(Decimal(10), "USD"), Price(Decimal(10), "EUR")
LONG = 1000.0


@dataclass
class Attempt:
    """A send that begins with a slot, as the poster's are."""

    ledger: Ledger
    claim: Claim
    fit: Fit

    @property
    def row(self) -> str:
        return self.claim.send_key

    def commit_posting(self, transaction: Any = None) -> None:
        if not self.ledger.sends.begin_post(self.claim, 60, transaction, self.fit):
            raise LookupError("the claim is lost")

    @staticmethod
    def commit_all(transaction: Any, sends: Sequence[Attempt]) -> None:
        sends[0].ledger.sends.begin_posts(transaction, [(send.claim, 60, send.fit) for send in sends])


class Group:
    """Lets sends ask for a slot at once, in one group."""

    def __init__(self, ledger: Ledger, pool: ThreadPoolExecutor) -> None:
        self.ledger, self.pool = ledger, pool
        self.pace = ledger.pace("account", 0.0, 5)
        self.pace.reserve(poll=False)
        self.statements: list[str] = []

    def claims(self, *keys: str, person: Callable[[str], str] = "hash of {}".format, scope: str = "q4") -> list[Claim]:
        batch = Batch(f"batch-{scope}", "account", scope, "email", "dag", "task", "run", -1)
        wanted = [Wanted(key, "payload", Item("gift"), None, None, person(key), kind=Kind.GIFT) for key in keys]
        found = self.ledger.sends.claim(batch, "mine", 60, wanted)
        return [claim for claim in found.values() if isinstance(claim, Claim)]

    def send(self, claims: Sequence[Claim], fit: Fit = UNLIMITED) -> None:
        """Send gifts one after the other."""
        for claim in claims:
            assert self.ledger.sends.begin_post(claim, 60, fit=fit)
            assert self.ledger.sends.finish(claim, State.SENT, send_id=claim.send_key)

    def take(self, *asked: tuple[Claim, Fit]) -> Counter[str]:
        """Count what the sends of a group got: a slot, none, or an error."""

        def answer(attempt: Attempt) -> str:
            try:
                return "posting" if self.pace.take(attempt) else "no slot"
            except (Capped, SendosoLimitError, LookupError) as error:
                return type(error).__name__

        queue = Queue(self.pace._together, self.pool)
        attempts = [Attempt(self.ledger, claim, fit) for claim, fit in asked]
        futures = queue.add(*(lambda attempt=attempt: answer(attempt) for attempt in attempts))
        engine = self.ledger._database.engine
        event.listen(engine, "before_cursor_execute", note := lambda *args: self.statements.append(args[2]))
        queue.release()
        found = Counter(future.result(60) for future in futures)
        event.remove(engine, "before_cursor_execute", note)
        assert queue.sizes[0] == len(asked)
        return found

    @property
    def states(self) -> Counter[State]:
        return Counter(record.state for record in self.ledger.sends.records(*State, account="account"))

    def counter(self, period: str) -> Any:
        query = select(counters).where(counters.c.name.like(f"{period}:%"))
        return self.ledger._database.run(lambda connection: connection.execute(query).one())


@pytest.fixture
def group(opened: Ledger) -> Iterator[Group]:
    with ThreadPoolExecutor(16) as pool:
        yield Group(opened, pool)


def within(price: Price | str = DOLLARS, **limits: Any) -> Fit:
    return Fit(SpendingLimits(**limits), price, {})


KEYS = [f"key-{number}" for number in range(8)]
ALL_LIMITS = {
    "scope_max_sends": 100,
    "scope_max_cost": Decimal(1000),
    "max_sends_per_day": 100,
    "max_cost_per_month": Decimal(1000),
    "min_days_between_gifts": 30,
}


@pytest.mark.parametrize("limits", [{}, ALL_LIMITS], ids=["no limits", "all limits"])
def test_a_group_is_posting_after_as_many_statements_as_one_send(group: Group, limits: dict[str, Any]) -> None:
    group.send(group.claims("first"), within(**limits))
    fits = [within(**limits) for _ in KEYS]
    one = group.take((group.claims("one")[0], within(**limits)))
    alone = len(group.statements)
    group.statements.clear()
    assert one + group.take(*zip(group.claims(*KEYS), fits, strict=True)) == {"posting": 9}
    assert len(group.statements) <= alone
    assert group.states == {State.SENT: 1, State.POSTING: 9}
    records = group.ledger.sends.read(KEYS).values()
    assert {(record.owner, record.attempt, record.lease_left > 30) for record in records} == {("mine", 1, True)}
    if limits:
        assert group.counter("scope").sends == group.counter("day").sends == 10
        assert group.counter("scope").cost == group.counter("month").cost == 100_000_000
        assert all((fit.room.sends, fit.room.cost) == (90, 900_000_000) for fit in fits)


@pytest.mark.parametrize(
    "limits", [{"scope_max_sends": 6}, {"scope_max_cost": Decimal("65.00")}, {"max_sends_per_day": 6}], ids=str
)
def test_a_group_uses_a_limit_up_and_does_not_pass_it(group: Group, limits: dict[str, Any]) -> None:
    group.send(group.claims("first"), within(**limits))
    asked = [(claim, within(**limits)) for claim in group.claims(*KEYS)]
    assert group.take(*asked) == {"posting": 5, "SendosoLimitError": 3}
    assert group.states == {State.SENT: 1, State.POSTING: 5, State.CLAIMED: 3}


def test_two_sends_of_a_group_to_one_person_are_one_gift(group: Group) -> None:
    fit = within(min_days_between_gifts=30)
    group.send(group.claims("first"), fit)
    claims = group.claims(*KEYS, person=lambda key: "ada" if key in KEYS[:2] else key)
    assert group.take(*((claim, fit) for claim in claims)) == {"posting": 7, "Capped": 1}
    assert group.states == {State.SENT: 1, State.POSTING: 7, State.CLAIMED: 1}


@pytest.mark.parametrize("ended", [State.SENT, State.UNKNOWN])
def test_who_was_sent_something_lately_is_left_out_of_a_group(group: Group, ended: State) -> None:
    fit = within(min_days_between_gifts=30)
    [earlier] = group.claims("earlier", person=lambda key: "ada", scope="q3")
    assert group.ledger.sends.begin_post(earlier, 60, fit=fit)
    assert group.ledger.sends.finish(earlier, ended, send_id="1" if ended is State.SENT else None)
    claims = group.claims(*KEYS, person=lambda key: "ada" if key == KEYS[3] else key)
    assert group.take(*((claim, fit) for claim in claims)) == {"posting": 7, "Capped": 1}
    assert group.ledger.sends.read(KEYS)[KEYS[3]].state is State.CLAIMED


@pytest.mark.parametrize("of", ["owner", "attempt"])
def test_a_claim_that_is_lost_posts_nothing_and_takes_nobody_along(group: Group, of: str) -> None:
    claims = group.claims(*KEYS)
    claims[5] = replace(claims[5], **({"owner": "another"} if of == "owner" else {"attempt": 7}))
    assert group.take(*((claim, UNLIMITED) for claim in claims)) == {"posting": 7, "LookupError": 1}
    assert group.ledger.sends.read(KEYS)[KEYS[5]].state is State.CLAIMED


def test_a_price_in_another_currency_is_refused_by_itself(group: Group) -> None:
    limits = {"scope_max_cost": Decimal(1000)}
    group.send(group.claims("first"), within(**limits))
    fits = [within(EUROS if key == KEYS[0] else DOLLARS, **limits) for key in KEYS]
    found = group.take(*zip(group.claims(*KEYS), fits, strict=True))
    assert found == {"posting": 7, "SendosoLimitError": 1}
    assert group.ledger.sends.read(KEYS)[KEYS[0]].state is State.CLAIMED


def test_a_send_without_a_price_is_refused_by_itself(group: Group) -> None:
    limits = {"scope_max_cost": Decimal(1000)}
    group.send(group.claims("first"), within(**limits))
    fits = [within("no price" if key == KEYS[0] else DOLLARS, **limits) for key in KEYS]
    found = group.take(*zip(group.claims(*KEYS), fits, strict=True))
    assert found == {"posting": 7, "SendosoLimitError": 1}


def test_sends_of_two_scopes_are_counted_in_their_own(group: Group) -> None:
    limits = {"scope_max_sends": 4}
    group.send([*group.claims("one"), *group.claims("two", scope="q3")], within(**limits))
    claims = [*group.claims(*KEYS[:4]), *group.claims(*KEYS[4:], scope="q3")]
    assert group.take(*((claim, within(**limits)) for claim in claims)) == {"posting": 6, "SendosoLimitError": 2}


def test_of_a_group_as_many_are_posting_as_there_are_free_slots(group: Group) -> None:
    group.pace = group.ledger.pace("account", LONG, 5)
    now_free = update(pace_table).where(pace_table.c.account == "account").values(tat=0.0)
    group.ledger._database.run(lambda connection: connection.execute(now_free))
    found = group.take(*((claim, UNLIMITED) for claim in group.claims(*KEYS)))
    assert found == {"posting": 1, "no slot": 7}
    assert group.states == {State.POSTING: 1, State.CLAIMED: 7}
