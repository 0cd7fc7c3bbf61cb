"""Limits in the ledger: however many processes send at once, none is passed, and each is used up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import ledger_workers
import pytest
from ledger_places import LEDGER_KINDS
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.exc import OperationalError

from airflow_provider_sendoso.exceptions import SendosoLimitError
from airflow_provider_sendoso.ledger import Ledger, spending
from airflow_provider_sendoso.ledger.records import PERHAPS_SENT, Batch, Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.ledger.schema import spending as counters
from airflow_provider_sendoso.ledger.spending import Capped, Fit
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.models.spending import Price, SpendingLimits

USD = Price(Decimal("19.90"), "USD")
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


class Spender:
    """Claims and posts sends of one ledger, at a time of its own."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger, self.now, self.owners = ledger, NOON, 0
        lock = spending._lock

        def lock_now(*args: Any) -> Any:
            held = lock(*args)
            held.now = self.now
            return held

        monkeypatch.setattr(spending, "_lock", lock_now)

    def claim(self, key: str, scope: str = "q4", person: str | None = None, resend_of: str | None = None) -> Claim:
        self.owners += 1
        batch = Batch(f"batch-{scope}", "account", scope, "email", "dag", "task", "run", -1)
        wanted = Wanted(key, "payload", Item("gift"), None, resend_of, person or f"hash of {key}", kind=Kind.GIFT)
        claim = self.ledger.sends.claim(batch, f"owner-{self.owners}", 60, [wanted])[key]
        assert isinstance(claim, Claim)
        return claim

    def post(self, claim: Claim, price: Price | str = USD, **limits: Any) -> dict[str, str]:
        """Commit POSTING; return what is warned of."""
        near: dict[str, str] = {}
        assert self.ledger.sends.begin_post(claim, 60, fit=Fit(SpendingLimits(**limits), price, near))
        return near

    def send(self, key: str, price: Price | str = USD, scope: str = "q4", **limits: Any) -> Claim:
        claim = self.claim(key, scope)
        self.post(claim, price, **limits)
        assert self.ledger.sends.finish(claim, State.SENT, send_id=key)
        return claim

    def refused(self, key: str, price: Price | str = USD, scope: str = "q4", **limits: Any) -> str:
        """Say why a send does not fit; it is given back."""
        claim = self.claim(key, scope)
        with pytest.raises(SendosoLimitError) as error:
            self.post(claim, price, **limits)
        assert self.ledger.sends.read([key])[key].state is State.CLAIMED
        assert self.ledger.sends.give_up(claim)
        return str(error.value)


@pytest.fixture
def spender(opened: Ledger, monkeypatch: pytest.MonkeyPatch) -> Spender:
    return Spender(opened, monkeypatch)


def gone_out(ledger: Ledger) -> list[Any]:
    query = select(sends.c.state, sends.c.cost).where(sends.c.state.in_(PERHAPS_SENT))
    return ledger._database.run(lambda connection: connection.execute(query).fetchall())


# -- however many at once ----------------------------------------------------------------------------------------------


def some_and(most: int, kind: str) -> pytest.MarkDecorator:
    """Many processes take several seconds of a processor: a quarter of them on one server here, all in test-slow."""
    slow = [pytest.param(each, most, marks=pytest.mark.slow) for each in LEDGER_KINDS]
    here = pytest.param(kind, most // 4)
    return pytest.mark.parametrize(("ledger_connection", "processes"), [here, *slow], indirect=["ledger_connection"])


# One limit of the scope and one of the account, of sends and of money; the other two are slow tests.
@pytest.mark.parametrize("most", [pytest.param("scope_max_sends", marks=pytest.mark.slow), "max_sends_per_day"])
@some_and(64, "postgresql")
def test_processes_at_once_use_a_number_of_sends_up_and_never_pass_it(
    opened: Ledger, url: str, most: str, at_once: Callable[..., list[Any]], processes: int
) -> None:
    runs = [(url, [f"{number}-{n}" for n in range(12)], {most: 50}, "19.90", number) for number in range(processes)]
    at_once(ledger_workers.use_up, runs)
    assert len(gone_out(opened)) == 50


@pytest.mark.parametrize("most", ["scope_max_cost", pytest.param("max_cost_per_month", marks=pytest.mark.slow)])
@some_and(64, "mysql")
def test_processes_at_once_use_an_amount_of_money_up_and_never_pass_it(
    opened: Ledger, url: str, most: str, at_once: Callable[..., list[Any]], processes: int
) -> None:
    limit = {most: Decimal("1000")}
    runs = [(url, [f"{number}-{n}" for n in range(12)], limit, "19.90", number) for number in range(processes)]
    at_once(ledger_workers.use_up, runs)
    rows = gone_out(opened)
    assert len(rows) == 50  # 995.00; a 51st would make 1014.90
    assert sum(cost for _, cost in rows) == 995_000_000


@pytest.mark.parametrize("first_limit", [False, True], ids=["of a person", "the first of a day"])
@some_and(32, "postgresql")
def test_processes_at_once_that_send_to_one_person_in_scopes_of_their_own_send_one_gift(
    opened: Ledger, url: str, first_limit: bool, at_once: Callable[..., list[Any]], processes: int
) -> None:
    runs = [(url, [f"scope {number}"], first_limit) for number in range(processes)]
    found = Counter(word for words in at_once(ledger_workers.send_to_one_person, runs) for word in words)
    assert found == {"posting": 1, "limited" if first_limit else "capped": processes - 1}
    assert len(gone_out(opened)) == 1


# In a bucket nobody waits: who is overtaken decides again (test_bucket_limits.py).
@pytest.mark.parametrize("ledger_connection", ["sqlite", "postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize(
    "limits", [{"min_days_between_gifts": 90}, {"scope_max_sends": 2}], ids=lambda one: next(iter(one))
)
def test_no_send_of_an_account_is_decided_before_the_one_before_it_is_committed(
    spender: Spender, opened: Ledger, limits: dict[str, Any]
) -> None:
    spender.send("first of the account", **limits)
    spender.ledger._database.run(lambda connection: connection.execute(delete(counters).where(counters.c.name != "")))
    one, two = spender.claim("a", person="ada"), spender.claim("b", person="ada")
    fit = Fit(SpendingLimits(**limits), USD, {})
    with ThreadPoolExecutor(1) as pool:
        with opened._database.engine.begin() as connection:
            assert opened.sends.begin_post(one, 60, connection, fit)
            waiting = pool.submit(opened.sends.begin_post, two, 60, None, fit)
            with pytest.raises(TimeoutError):
                waiting.result(1.0)
        with pytest.raises((Capped, SendosoLimitError)):
            waiting.result(60)


def test_sends_of_one_transaction_share_the_lock_and_each_is_counted(spender: Spender, opened: Ledger) -> None:
    spender.send("first of the account")
    one, two, three = (spender.claim(key) for key in "abc")
    limited = Fit(SpendingLimits(scope_max_sends=3), USD, {})
    statements: list[str] = []
    with opened._database.engine.begin() as connection:
        event.listen(connection, "before_cursor_execute", lambda *args: statements.append(args[2]))
        assert opened.sends.begin_post(one, 60, connection, limited)  # makes the counter
        assert opened.sends.begin_post(two, 60, connection)  # has no limit, and is counted all the same
    assert sum("sendoso_spending.sends \nFROM sendoso_spending" in statement for statement in statements) == 1
    with pytest.raises(SendosoLimitError, match="spent 1 sends, reserved 2, left 0"):
        opened.sends.begin_post(three, 60, fit=limited)


def test_a_counter_is_never_less_than_the_sends_say_and_is_corrected(opened: Ledger, url: str) -> None:
    for number in range(4):
        keys = [f"{number}-{n}" for n in range(12)]
        ledger_workers.use_up(url, keys, {"scope_max_sends": 1000, "scope_max_cost": Decimal(10_000)}, "19.90", number)
    query = select(counters).where(counters.c.name.like("scope:%"))
    counter = opened._database.run(lambda connection: connection.execute(query).one())
    rows = gone_out(opened)
    assert counter.sends >= len(rows) > 0
    assert counter.cost >= sum(cost for _, cost in rows)
    assert counter.sends > len(rows), "nothing was refused: the test has no meaning"
    opened._database.run(lambda connection: connection.execute(update(counters).values(counted_at=0.0)))
    ledger_workers.use_up(url, ["last"], {"scope_max_sends": 1000, "scope_max_cost": Decimal(10_000)}, "19.90", 0)
    corrected = opened._database.run(lambda connection: connection.execute(query).one())
    assert (corrected.sends, corrected.cost) == (len(rows) + 1, sum(cost for _, cost in rows) + 19_900_000)


# -- what is used and what is given back -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.REFUSED, State.READY])
def test_what_was_not_sent_is_given_back(spender: Spender, state: State) -> None:
    for key in "ab":
        claim = spender.claim(key)
        spender.post(claim, scope_max_sends=2)
        assert spender.ledger.sends.finish(claim, state, reason="http_422")
    for key in "cd":
        spender.send(key, scope_max_sends=2)
    assert "spent 2 sends, reserved 0, left 0" in spender.refused("e", scope_max_sends=2)


def test_a_post_that_was_not_received_is_given_back_and_taken_again(spender: Spender) -> None:
    first = spender.claim("a")
    spender.post(first, scope_max_sends=1)
    assert spender.ledger.sends.post_again(first, 60)
    spender.send("b", scope_max_sends=1)
    with pytest.raises(SendosoLimitError):
        spender.post(first, scope_max_sends=1)


def test_posting_that_is_committed_again_counts_once(spender: Spender) -> None:
    claim = spender.claim("a")
    for _ in range(3):
        spender.post(claim, scope_max_sends=1, scope_max_cost=Decimal("19.90"))
    assert "reserved 1" in spender.refused("b", scope_max_sends=1)


@pytest.mark.parametrize("outcome", [State.POSTING, State.UNKNOWN, State.HELD])
def test_a_send_that_may_have_gone_out_keeps_its_place_until_it_is_resolved(
    spender: Spender, lapse: Callable[[], None], outcome: State
) -> None:
    claim = spender.claim("a")
    spender.post(claim, scope_max_sends=1)
    if outcome is not State.POSTING:
        assert spender.ledger.sends.finish(claim, State.UNKNOWN, reason="http_500")
    if outcome is State.HELD:
        spender.ledger.resolutions.hold(list(spender.ledger.sends.records(State.UNKNOWN)))
    assert "spent 0 sends, reserved 1, left 0" in spender.refused("b", scope_max_sends=1)
    lapse()
    spender.ledger.sends.lapse()
    assert "reserved 1, left 0" in spender.refused("b", scope_max_sends=1)
    record = spender.ledger.sends.read(["a"])["a"]
    assert spender.ledger.resolutions.resolve(record, State.READY, resolved_by="ada", why="not there")
    spender.send("b", scope_max_sends=1)


def test_a_decision_that_a_send_has_gone_out_after_all_counts_at_once(
    spender: Spender, lapse: Callable[[], None]
) -> None:
    claim = spender.claim("a")
    spender.post(claim, scope_max_sends=2)
    assert spender.ledger.sends.finish(claim, State.UNKNOWN, reason="http_500")
    lapse()
    resolve = spender.ledger.resolutions.resolve
    assert resolve(spender.ledger.sends.read(["a"])["a"], State.READY, resolved_by="ada", why="not there")
    spender.now += 61  # so that the counter is corrected
    spender.send("b", scope_max_sends=2)
    assert resolve(spender.ledger.sends.read(["a"])["a"], State.SENT, resolved_by="ada", why="it was")
    assert "spent 2 sends, reserved 0, left 0" in spender.refused("c", scope_max_sends=2)


def test_decisions_that_several_sends_have_gone_out_after_all_use_a_limit_up_at_once(
    spender: Spender, lapse: Callable[[], None]
) -> None:
    """So many that the counter, which lacks them, would be far from the limit."""
    keys, sends_of, resolve = [f"a{n}" for n in range(4)], spender.ledger.sends, spender.ledger.resolutions.resolve
    for key in keys:
        claim = spender.claim(key)
        spender.post(claim, scope_max_sends=10)
        assert sends_of.finish(claim, State.UNKNOWN)
    lapse()
    for key in keys:
        assert resolve(sends_of.read([key])[key], State.READY, resolved_by="ada", why="not there")
    spender.now += 61  # so that the counter is corrected
    for n in range(6):
        spender.send(f"b{n}", scope_max_sends=10)
    for key in keys:
        assert resolve(sends_of.read([key])[key], State.SENT, resolved_by="ada", why="it was")
    assert "spent 10 sends, reserved 0, left 0" in spender.refused("c", scope_max_sends=10)


@pytest.fixture
def lose_acknowledgements(opened: Ledger, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Commits each transaction from now on twice: of the first time, nobody hears."""
    once, lost = opened._database.once, [False]

    def lose(work: Callable[[Any], Any]) -> Any:
        result = once(work)
        lost[0] = not lost[0]
        if lost[0]:
            raise OperationalError("COMMIT", {}, Exception("the connection was lost"))
        return result

    def begin() -> None:
        monkeypatch.setattr(opened._database, "once", lose)
        monkeypatch.setattr(opened._database.together, "_once", lose)

    return begin


def test_commits_whose_acknowledgement_is_lost_neither_pass_a_limit_nor_waste_it(
    spender: Spender, opened: Ledger, lose_acknowledgements: Callable[[], None]
) -> None:
    spender.send("first of the scope", scope_max_sends=4)
    claims = [spender.claim(key) for key in "abcd"]
    lose_acknowledgements()
    most = {"scope_max_sends": 4, "scope_max_cost": Decimal("79.60"), "min_days_between_gifts": 90}
    for claim in claims[:3]:
        spender.post(claim, **most)
    with pytest.raises(SendosoLimitError, match="spent 1 sends, reserved 3, left 0"):
        spender.post(claims[3], **most)
    assert len(gone_out(opened)) == 4
    assert opened.sends.finish(claims[0], State.REFUSED, reason="http_422")
    spender.post(claims[3], **most)
    assert Counter(state for state, _ in gone_out(opened)) == {State.POSTING: 3, State.SENT: 1}


# -- limits as people set them -----------------------------------------------------------------------------------------


def test_a_limit_of_0_allows_nothing(spender: Spender) -> None:
    names = ("scope_max_sends", "scope_max_cost", "max_sends_per_day", "max_cost_per_month")
    for number, name in enumerate(names):
        assert f"{name}=0" in spender.refused(f"key-{number}", **{name: Decimal(0) if "cost" in name else 0})


def test_a_limit_that_is_lowered_below_what_was_spent_stops_at_once(spender: Spender) -> None:
    for key in "abc":
        spender.send(key, max_sends_per_day=10)
    assert "spent 3 sends, reserved 0, left 0" in spender.refused("d", max_sends_per_day=2)
    spender.send("d", max_sends_per_day=4)


def test_what_others_send_without_a_limit_counts(spender: Spender) -> None:
    spender.send("a", scope_max_sends=3)
    spender.send("b")
    spender.send("c")
    assert "spent 3 sends" in spender.refused("d", scope_max_sends=3)


def test_what_was_sent_before_the_first_limit_counts(spender: Spender) -> None:
    for key in "abc":
        spender.send(key)
    assert "spent 3 sends" in spender.refused("d", scope_max_sends=3)
    assert "spent 3 sends" in spender.refused("e", max_sends_per_day=3)


def test_a_scope_has_its_own_limit_and_the_account_one_for_all(spender: Spender) -> None:
    spender.send("a", scope="q4", scope_max_sends=1)
    spender.send("b", scope="q1", scope_max_sends=1)
    assert "the scope 'q1'" in spender.refused("c", scope="q1", scope_max_sends=1)
    assert "2026-11-27" in spender.refused("d", scope="q2", max_sends_per_day=2)


def test_days_and_months_are_those_of_utc_at_the_post(spender: Spender) -> None:
    spender.now = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()
    spender.send("a", max_sends_per_day=1, max_cost_per_month=Decimal(20))
    assert "2026-11-30 (UTC)" in spender.refused("b", max_sends_per_day=1)
    assert "2026-11 (UTC)" in spender.refused("c", max_cost_per_month=Decimal(20))
    spender.now += 1
    spender.send("d", max_sends_per_day=1, max_cost_per_month=Decimal(20))
    assert "2026-12 (UTC)" in spender.refused("e", max_cost_per_month=Decimal(20))
    spender.now -= 1  # a clock that is set back
    assert "2026-11-30 (UTC)" in spender.refused("f", max_sends_per_day=1)


def test_a_send_that_is_posted_again_after_midnight_counts_on_the_new_day_alone(spender: Spender) -> None:
    spender.now = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()
    claim = spender.claim("a")
    spender.post(claim, max_sends_per_day=1)
    spender.now += 2
    spender.post(claim, max_sends_per_day=1)
    assert "2026-12-01" in spender.refused("b", max_sends_per_day=1)
    spender.now -= 2
    spender.send("c", max_sends_per_day=1)


def test_a_limit_counts_one_currency_and_names_the_other(spender: Spender) -> None:
    spender.send("a", scope_max_cost=Decimal(100))
    said = spender.refused("b", Price(Decimal(5), "EUR"), scope_max_cost=Decimal(100))
    assert said == (
        "scope_max_cost=100.00 counts one currency: sends of the scope 'q4' are priced in USD, the next one in EUR."
    )
    spender.send("c", Price(Decimal(5), "EUR"), scope="q1", scope_max_cost=Decimal(100))


def test_a_send_of_unknown_price_does_not_fit_in_a_limit_on_cost(spender: Spender) -> None:
    for name in ("scope_max_cost", "max_cost_per_month"):
        spender.send(f"a {name}", **{name: Decimal(100)})
        said = spender.refused(f"b {name}", "gift has no price in the catalogue", **{name: Decimal(100)})
        assert f"so {name}=100.00 cannot be kept: gift has no price in the catalogue" in said
    spender.send("c", "gift has no price in the catalogue", scope_max_sends=100)


def test_the_price_at_the_post_is_stored_with_the_send(spender: Spender) -> None:
    spender.send("a", Price(Decimal("19.999"), "USD"), scope_max_cost=Decimal(30))
    assert gone_out(spender.ledger) == [(State.SENT, 19_999_000)]
    assert "spent 19.999 USD, reserved 0.00, left 10.001" in spender.refused("b", scope_max_cost=Decimal(30))
    spender.send("c", Price(Decimal("10.001"), "USD"), scope_max_cost=Decimal(30))


def test_sends_without_a_stored_price_are_said_and_can_be_priced(spender: Spender) -> None:
    for key in "ab":
        spender.send(key, "no cost is limited")
    assert "2 sends without a stored price count as 0" in spender.refused("c", scope_max_cost=Decimal(10))
    limits = SpendingLimits(scope_max_cost=Decimal(50))
    assert spender.ledger.budget.unpriced("account", "q4", limits) == Counter({Item("gift"): 2})
    spender.ledger.budget.set_price("account", "q4", limits, Item("gift"), USD)
    assert spender.ledger.budget.unpriced("account", "q4", limits) == Counter()
    assert "spent 39.80 USD, reserved 0.00, left 10.20." in spender.refused("c", scope_max_cost=Decimal(50))


def test_a_run_is_warned_once_from_80_percent_on(spender: Spender) -> None:
    near: dict[str, str] = {}
    warned = []
    for number in range(10):
        claim = spender.claim(f"key-{number}")
        fit = Fit(SpendingLimits(scope_max_sends=10), USD, near)
        assert spender.ledger.sends.begin_post(claim, 60, fit=fit)
        warned.append(near.get("scope_max_sends"))
    assert warned[:7] == [None] * 7
    assert len(set(warned[7:])) == 1
    assert "scope_max_sends=10 of the scope 'q4' is nearly reached: spent 0 sends, reserved 7" in str(warned[7])


def test_sends_that_an_older_release_has_made_are_counted_within_a_minute(spender: Spender) -> None:
    spender.send("a", scope_max_sends=3)
    for key in "bc":
        spender.claim(key)
    older = text("UPDATE sendoso_sends SET state = 'SENT', posted_at = :now WHERE state = 'CLAIMED'")
    spender.ledger._database.run(lambda connection: connection.execute(older, {"now": NOON}))
    spender.now += 61
    assert "spent 3 sends" in spender.refused("d", scope_max_sends=3)


# -- one gift per person and so many days ------------------------------------------------------------------------------


def test_a_person_who_was_sent_anything_of_the_account_is_capped_in_every_scope(spender: Spender) -> None:
    spender.post(spender.claim("a", person="ada"), min_days_between_gifts=90)
    for scope in ("q4", "q1"):
        with pytest.raises(Capped) as capped:
            spender.post(spender.claim(f"b {scope}", scope, "ada"), min_days_between_gifts=90)
        assert capped.value.last_gift == NOON
    spender.post(spender.claim("c", person="grace"), min_days_between_gifts=90)
    spender.now += 90 * DAY
    spender.post(spender.claim("d", person="ada"), min_days_between_gifts=90)


@pytest.mark.parametrize("fast", [400 * DAY, -400 * DAY], ids=["ahead", "behind"])
def test_the_clocks_of_workers_do_not_matter(opened: Ledger, monkeypatch: pytest.MonkeyPatch, fast: float) -> None:
    def post(scope: str, seconds: float) -> None:
        clock = time.time
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: clock() + seconds)
            batch = Batch(f"batch-{scope}", "account", scope, "email", "dag", "task", "run", -1)
            wanted = Wanted(scope, "payload", Item("gift"), None, email_hash="ada", kind=Kind.GIFT)
            claim = opened.sends.claim(batch, scope, 60, [wanted])[scope]
            assert isinstance(claim, Claim)
            opened.sends.begin_post(claim, 60, fit=Fit(SpendingLimits(min_days_between_gifts=1), USD, {}))

    post("first", fast)
    for seconds in (0.0, fast, -fast):
        with pytest.raises(Capped) as capped:
            post(f"again {seconds}", seconds)
        assert abs(capped.value.last_gift - time.time()) < 3600


def test_a_replacement_is_not_capped_and_caps_others(spender: Spender) -> None:
    spender.post(spender.claim("a", person="ada"))
    spender.now += 89 * DAY
    spender.post(spender.claim("b", person="ada", resend_of="a"), min_days_between_gifts=90)
    spender.now += 2 * DAY
    with pytest.raises(Capped):
        spender.post(spender.claim("c", person="ada"), min_days_between_gifts=90)


def test_a_person_whose_gift_was_refused_is_not_capped(spender: Spender) -> None:
    claim = spender.claim("a", person="ada")
    spender.post(claim, min_days_between_gifts=90)
    assert spender.ledger.sends.finish(claim, State.REFUSED, reason="http_422")
    spender.post(spender.claim("b", "q1", "ada"), min_days_between_gifts=90)


def test_another_account_caps_nobody(spender: Spender) -> None:
    spender.post(spender.claim("a", person="ada"), min_days_between_gifts=90)
    other = Batch("batch", "other", "q4", "email", "dag", "task", "run", -1)
    wanted = Wanted("b", "payload", Item("gift"), None, email_hash="ada", kind=Kind.GIFT)
    claim = spender.ledger.sends.claim(other, "owner", 60, [wanted])["b"]
    assert isinstance(claim, Claim)
    spender.post(claim, min_days_between_gifts=90)


def test_a_capped_send_is_free_for_another_run_and_uses_nothing(spender: Spender) -> None:
    spender.post(spender.claim("a", person="ada"), scope_max_sends=2)
    claim = spender.claim("b", person="ada")
    with pytest.raises(Capped):
        spender.post(claim, scope_max_sends=2, min_days_between_gifts=90)
    assert spender.ledger.sends.give_up(claim)
    assert spender.ledger.sends.read(["b"])["b"].state is State.READY
    spender.send("c", scope_max_sends=2)
