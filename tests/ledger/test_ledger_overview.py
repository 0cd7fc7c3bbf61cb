"""What people who look at the ledger are shown: read in pages, and right on each database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, literal, select, update

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.overview import EVERYTHING, SORTS, Readable, campaigns, details, position
from airflow_provider_sendoso.ledger.overview import account as figures
from airflow_provider_sendoso.ledger.records import Batch, State
from airflow_provider_sendoso.ledger.schema import batches, resolutions, scopes, sends
from airflow_provider_sendoso.ledger.spending import Fit
from airflow_provider_sendoso.ledger.statements import now_on
from airflow_provider_sendoso.models import Item, Kind, StatusReport
from airflow_provider_sendoso.models.spending import Price, SpendingLimits

ACCOUNT = "acme"
Add = Callable[..., list[str]]


@pytest.fixture
def add(opened: Ledger) -> Add:
    """Writes sends as they stand, each with its state; returns their keys."""
    number = 0

    def write(scope: str, *states: State, dag_id: str = "campaign", run_id: str = "run", **columns: Any) -> list[str]:
        nonlocal number
        number += 1
        batch_id = f"batch-{number}"
        batch = Batch(batch_id, columns.get("account", ACCOUNT), scope, "email", dag_id, "gifts", run_id, -1)
        opened.sends.open_batch(batch)
        keys = [opened.send_key(ACCOUNT, scope, f"{number} {place}") for place in range(len(states))]

        def work(connection: Any) -> None:
            now = now_on(connection)
            made = update(batches).where(batches.c.batch_id == batch_id).values(created_at=now - 1000 + number)
            connection.execute(made)
            of_scope = update(scopes).where(scopes.c.dedupe_scope == scope)
            connection.execute(of_scope.values(created_at=now - 1000 + number))
            for key, state in zip(keys, states, strict=True):
                row = {
                    "send_key": key,
                    "account": ACCOUNT,
                    "dedupe_scope": scope,
                    "state": state,
                    "attempt": 1,
                    "lease_until": now + 60 if state in (State.CLAIMED, State.POSTING) else 0.0,
                    "batch_id": batch_id,
                    "gift_id": "gift-mug",
                    "payload_hash": "p",
                    "send_id": key[:12] if state is State.SENT else None,
                    "created_at": now,
                    "posted_at": None if state in (State.READY, State.CLAIMED) else now - 1000 + number,
                    "kind": "gift",
                }
                connection.execute(insert(sends).values(row | columns))

        opened._database.run(work)
        return keys

    return write


def page_by_page(ledger: Ledger, sort: str, limit: int, readable: Readable = EVERYTHING, **narrow: Any) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = ledger.overview.campaigns(ACCOUNT, readable, sort=sort, after=after, limit=limit, **narrow)
        found += [campaign.dedupe_scope for campaign in page]
        if len(page) < limit:
            return found
        after = position(page[-1], sort)


def test_campaigns_are_read_in_every_order_and_each_once(opened: Ledger, add: Add) -> None:
    for name in ("c", "a", "d", "b", "e"):
        add(name, State.SENT)
    add("c", State.SENT, run_id="later")
    assert page_by_page(opened, "name", 2) == ["a", "b", "c", "d", "e"]
    assert page_by_page(opened, "oldest", 2) == ["a", "d", "b", "e", "c"]
    assert page_by_page(opened, "newest", 2) == ["c", "e", "b", "d", "a"]
    assert page_by_page(opened, "active", 2) == ["c", "e", "b", "d", "a"]
    for sort in SORTS:
        assert sorted(page_by_page(opened, sort, 1)) == ["a", "b", "c", "d", "e"]


def test_campaigns_of_one_moment_are_each_read_once(opened: Ledger, add: Add) -> None:
    for name in "abcdefg":
        add(name, State.SENT, posted_at=5.0)
    opened._database.run(lambda connection: connection.execute(update(scopes).values(created_at=7.0)))
    for sort in SORTS:
        assert sorted(page_by_page(opened, sort, 3)) == list("abcdefg")


def test_campaigns_are_narrowed(opened: Ledger, add: Add) -> None:
    add("done", State.SENT)
    add("held_1", State.SENT, State.HELD)
    add("held%2", State.UNKNOWN)
    add("runs", State.SENT, State.CLAIMED)
    add("lost", State.POSTING, lease_until=0.0)
    add("ended", State.CLAIMED, lease_until=0.0)
    assert page_by_page(opened, "name", 2, state="held") == ["held%2", "held_1", "lost"]
    assert page_by_page(opened, "name", 2, state="running") == ["runs"]
    assert page_by_page(opened, "name", 2, named="held") == ["held%2", "held_1"]
    assert page_by_page(opened, "name", 2, named="d_") == ["held_1"]
    assert page_by_page(opened, "name", 2, named="d%") == ["held%2"]
    assert page_by_page(opened, "name", 2, named="nothing") == []


def test_only_what_the_dags_have_sent_is_read(opened: Ledger, add: Add) -> None:
    add("ours", State.HELD)
    (secret,) = add("theirs", State.HELD, dag_id="theirs")
    add("both", State.SENT)
    add("both", State.SENT, dag_id="theirs", run_id="later")
    for readable in (Readable(dag_ids=frozenset({"campaign"})), Readable(hidden=frozenset({"theirs"}))):
        assert page_by_page(opened, "name", 10, readable) == ["both", "ours"]
        assert opened.overview.campaign(ACCOUNT, "theirs", readable) is None
        assert [ran.dag_id for ran in opened.overview.batches(ACCOUNT, "both", readable, limit=9)] == ["campaign"]
        assert [one.ran.dag_id for one in opened.overview.open_sends(ACCOUNT, readable, limit=9)] == ["campaign"]
        assert opened.overview.count_open(ACCOUNT, readable, 9) == 1
        assert opened.overview.person(ACCOUNT, "", lambda scope: secret, readable, limit=9) == []
        assert opened.overview.sends_from(ACCOUNT, readable)
        assert readable.has("campaign")
        assert not readable.has("theirs")
    assert not opened.overview.sends_from(ACCOUNT, Readable(dag_ids=frozenset({"other"})))
    assert not opened.overview.sends_from(ACCOUNT, Readable(dag_ids=frozenset()))
    assert not opened.overview.sends_from("other", EVERYTHING)
    assert opened.overview.count_open(ACCOUNT, EVERYTHING, 9) == 2


def test_a_campaign_adds_up(opened: Ledger, add: Add) -> None:
    add("q4", *[State.SENT] * 3, status="shipped", cost=2_500_000, currency="USD", status_words="shipped")
    add("q4", State.SENT, status="pending", cost=1_000_000, currency="EUR", status_words="Paused", run_id="2")
    add("q4", State.SENT, State.HELD, run_id="3")
    add("q4", State.HELD, cost=2_000_000, currency="USD", reason="http_500", run_id="4")
    add("q4", State.REFUSED, State.REFUSED, reason="http_422", run_id="5")
    add("q4", State.POSTING, lease_until=0.0, run_id="6")
    add("q4", State.CLAIMED, State.CLAIMED, State.READY, run_id="7")
    add("other", State.SENT, cost=99, currency="USD")
    (found,) = [one for one in opened.overview.campaigns(ACCOUNT, EVERYTHING, limit=9) if one.dedupe_scope == "q4"]
    for campaign in (found, opened.overview.campaign(ACCOUNT, "q4", EVERYTHING)):
        assert campaign is not None
        assert campaign.states == Counter(
            {
                State.SENT: 5,
                State.HELD: 2,
                State.REFUSED: 2,
                State.POSTING: 1,
                State.CLAIMED: 2,
                State.READY: 1,
            }
        )
        assert campaign.states == opened.sends.states(account=ACCOUNT, dedupe_scope="q4")
        assert campaign.statuses == Counter({"shipped": 3, "pending": 1, "": 1})
        assert (campaign.spent, campaign.reserved) == (Counter(USD=7_500_000, EUR=1_000_000), Counter(USD=2_000_000))
        assert (campaign.unpriced, campaign.at_work, campaign.lost, campaign.rate) == (3, 2, 1, 0)
        assert campaign.recipient_key == "email"
        assert campaign.on_hold == Counter()  # paused is not on hold
        assert campaign.last is not None
        assert (campaign.last.run_id, campaign.batches) == ("7", 7)
    reasons = opened.overview.reasons(ACCOUNT, "q4")
    assert reasons == Counter(
        {(State.REFUSED, "http_422"): 2, (State.HELD, "http_500"): 1, (State.HELD, ""): 1, (State.READY, ""): 1}
    )


def test_sends_on_hold_are_counted_by_sendosos_words(opened: Ledger, add: Add) -> None:
    add("q4", State.SENT, State.SENT, status="pending", status_words="Insufficient Funds")
    add(
        "q4",
        State.SENT,
        status="pending",
        status_words=StatusReport.of("pending", "Pending Approval", ["Initiated"]).stored_words,
        run_id="2",
    )
    add("q5", State.SENT, State.SENT, status="pending", status_words="Initiated")
    add("q5", State.SENT, status="pending", status_words="Pending Approval", run_id="2")
    add("q5", State.SENT, status="shipped", status_words="Pending Approval,Shipped", run_id="3")
    add("q5", State.HELD, status="pending", status_words="Pending Approval", run_id="4")
    add("q6", State.SENT)
    expected = {
        "q4": Counter({"Insufficient Funds": 2, "Pending Approval": 1}),
        "q5": Counter({"Pending Approval": 1}),
        "q6": Counter(),
    }
    found = opened.overview.campaigns(ACCOUNT, EVERYTHING, limit=9)
    assert {one.dedupe_scope: one.on_hold for one in found} == expected
    for name, on_hold in expected.items():
        one = opened.overview.campaign(ACCOUNT, name, EVERYTHING)
        assert one is not None
        assert (one.on_hold, one.is_on_hold_cut) == (on_hold, False)


def test_of_very_many_that_wait_some_are_looked_at(opened: Ledger, add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "LOOKED_AT", 4)
    monkeypatch.setattr(campaigns, "_READ_OF_EACH", 2)
    for name, number in (("q4", 5), ("q5", 2)):
        add(name, *[State.SENT] * number, status="pending", status_words="Pending Approval")
    found = opened.overview.campaigns(ACCOUNT, EVERYTHING, sort="name", limit=9)
    assert [(one.on_hold.total(), one.is_on_hold_cut) for one in found] == [(2, True), (2, False)]
    one = opened.overview.campaign(ACCOUNT, "q4", EVERYTHING)
    assert one is not None
    assert (one.on_hold.total(), one.is_on_hold_cut) == (4, True)


def test_a_campaign_has_the_limits_of_its_tasks_and_the_plan_of_its_last_batch(opened: Ledger) -> None:
    batch = Batch("batch", ACCOUNT, "q4", "email", "campaign", "gifts", "run", -1)
    opened.sends.open_batch(batch)
    opened.overview.note_plan("batch", 7, "results")
    opened.overview.note_plan("batch", 5, "results" + "x" * 300)
    from airflow_provider_sendoso.ledger.records import Claim, Wanted

    wanted = [Wanted(f"key-{number}", "p", Item("gift"), None, kind=Kind.GIFT) for number in range(3)]
    claims = opened.sends.claim(batch, "owner", 60, wanted)
    limits = SpendingLimits(scope_max_sends=9, scope_max_cost=Decimal("12.5"))
    claim = claims["key-0"]
    assert isinstance(claim, Claim)
    assert opened.sends.begin_post(claim, 60, fit=Fit(limits, Price(Decimal(2), "USD"), {}))
    assert opened.sends.finish(claim, State.SENT, send_id="id-1")
    campaign = opened.overview.campaign(ACCOUNT, "q4", EVERYTHING)
    assert campaign is not None
    assert [(limit.name, limit.most) for limit in campaign.limits] == [
        ("scope_max_sends", 9),
        ("scope_max_cost", 12_500_000),
    ]
    assert campaign.last is not None
    assert (campaign.last.rows_to_send, campaign.last_done, campaign.at_work) == (5, 1, 2)
    assert campaign.last.results_table == ("results" + "x" * 300)[:250]
    assert (campaign.rate, campaign.batches) == (1, 1)
    # As soon as there is another batch, only the newest one's sends count.
    later = Batch("later", ACCOUNT, "q4", "email", "campaign", "gifts", "run-2", -1)
    opened.sends.open_batch(later)
    opened.overview.note_plan("later", 4, None)
    campaign = opened.overview.campaign(ACCOUNT, "q4", EVERYTHING)
    assert campaign is not None
    assert campaign.last is not None
    assert (campaign.last.batch_id, campaign.last_done, campaign.batches) == ("later", 0, 2)


def test_an_accounts_budgets_are_its_counters_or_its_sends(opened: Ledger, add: Add) -> None:
    add("q4", *[State.SENT] * 3, posted_at=None, cost=2_000_000, currency="USD")
    opened._database.run(lambda connection: connection.execute(update(sends).values(posted_at=now_on(connection))))
    limits = SpendingLimits(max_sends_per_day=10, max_cost_per_month=Decimal(100))
    by_sends = opened.overview.budgets(ACCOUNT, limits)
    assert [(limit.name, used) for limit, _, used, _ in by_sends] == [
        ("max_sends_per_day", 3),
        ("max_cost_per_month", 6_000_000),
    ]
    batch = Batch("batch", ACCOUNT, "q4", "email", "campaign", "gifts", "run", -1)
    from airflow_provider_sendoso.ledger.records import Wanted

    claim: Any = opened.sends.claim(batch, "owner", 60, [Wanted("key", "p", Item("gift"), None, kind=Kind.GIFT)])["key"]
    assert opened.sends.begin_post(claim, 60, fit=Fit(limits, Price(Decimal(2), "USD"), {}))
    by_counters = opened.overview.budgets(ACCOUNT, limits)
    assert [(used, currency) for _, _, used, currency in by_counters] == [(4, "USD"), (8_000_000, "USD")]
    assert opened.overview.rate(ACCOUNT)[0] == 4


def test_very_many_sends_of_a_limit_that_is_new_are_not_added_up(
    opened: Ledger, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("q4", *[State.SENT] * 3, posted_at=None, cost=2_000_000, currency="USD")
    opened._database.run(lambda connection: connection.execute(update(sends).values(posted_at=now_on(connection))))
    limits = SpendingLimits(max_sends_per_day=10)
    for most, used in ((2, None), (3, 3)):
        monkeypatch.setattr(figures, "ADDED_UP", most)
        ((_, _, found, _),) = opened.overview.budgets(ACCOUNT, limits)
        assert found == used


def test_a_timeline_of_a_large_scope_has_its_last_sends(
    opened: Ledger, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        add("q4", State.SENT, posted_at=1000.0 + number, run_id=str(number))
    for most, first, counted in ((4, 1006.0, 4), (10, 1000.0, 10), (11, 1000.0, 10)):
        monkeypatch.setattr(details, "CHARTED", most)
        line = opened.overview.timeline(ACCOUNT, "q4", 5)
        assert line is not None
        assert (line.first, sum(line.counts), line.is_cut) == (first, counted, most == 4)


def test_a_timeline_counts_every_post_once(opened: Ledger, add: Add) -> None:
    assert opened.overview.timeline(ACCOUNT, "q4", 10) is None
    for number in range(21):
        add("q4", State.SENT, posted_at=1000.0 + 10 * number, run_id=str(number))
    add("q4", State.READY, run_id="ready")
    line = opened.overview.timeline(ACCOUNT, "q4", 10)
    assert line is not None
    assert (line.first, sum(line.counts), len(line.counts)) == (1000.0, 21, 10)
    assert line.width == pytest.approx(20, rel=1e-3)
    assert set(line.counts) <= {2, 3}
    add("one", State.SENT, State.SENT, posted_at=5.0)
    at_once = opened.overview.timeline(ACCOUNT, "one", 10)
    assert at_once is not None
    assert list(at_once.counts) == [2] + [0] * 9


def test_open_sends_are_read_in_pages_and_none_is_changed(opened: Ledger, add: Add) -> None:
    keys = add("q4", State.HELD, State.UNKNOWN, State.SENT, State.REFUSED, State.HELD)
    lost = add("q5", State.POSTING, lease_until=0.0)
    add("q5", State.POSTING, run_id="2")
    expected = sorted([keys[0], keys[1], keys[4], *lost])
    found: list[str] = []
    while page := opened.overview.open_sends(ACCOUNT, EVERYTHING, after=found[-1] if found else "", limit=2):
        found += [one.record.send_key for one in page]
    assert found == expected
    assert opened.overview.count_open(ACCOUNT, EVERYTHING, 9) == 4
    assert opened.overview.count_open(ACCOUNT, EVERYTHING, 2) == 2
    (only,) = opened.overview.open_sends(ACCOUNT, EVERYTHING, dedupe_scope="q5", limit=9)
    assert (only.record.state, only.ran.task_id) == (State.POSTING, "gifts")
    assert opened.sends.read(lost)[lost[0]].state is State.POSTING
    assert opened.overview.open_sends("other", EVERYTHING, limit=9) == []
    ran = opened.overview.batches_of([only.record])
    assert ran[only.record.batch_id] == only.ran


def test_what_was_said_not_to_have_gone_out_is_read_until_somebody_claims_it(opened: Ledger, add: Add) -> None:
    first, second, other = add("q4", State.UNKNOWN, State.HELD, State.UNKNOWN, lease_until=0.0)
    (theirs,) = add("theirs", State.UNKNOWN, lease_until=0.0, dag_id="theirs")
    add("q4", State.READY, run_id="never decided")
    (later,) = add("q4", State.READY, run_id="claimed and given back", attempt=2)

    def decide(key: str, to_state: State, why: str) -> bool:
        record = opened.sends.read([key])[key]
        return opened.resolutions.resolve(record, to_state, resolved_by="ada", why=why)

    for key in (first, second, theirs):
        assert decide(key, State.READY, f"about {key}")
    assert decide(other, State.SENT, "found")
    # The newest decision about another attempt says nothing of this one.
    of_another_attempt = insert(resolutions).from_select(
        [column.name for column in resolutions.c],
        select(
            *(
                {"send_key": literal(later), "resolution_id": literal("x")}.get(column.name, column)
                for column in resolutions.c
            )
        ).where(resolutions.c.send_key == first),
    )
    opened._database.run(lambda connection: connection.execute(of_another_attempt))

    ours = Readable(hidden=frozenset({"theirs"}))
    found = opened.overview.decided_sends(ACCOUNT, ours, limit=9)
    assert [one.open.record.send_key for one in found] == [second, first]
    assert [one.decision for one in found] == [opened.resolutions.history(key)[-1] for key in (second, first)]
    assert found[0].open.ran.dag_id == "campaign"
    assert len(opened.overview.decided_sends(ACCOUNT, EVERYTHING, limit=9)) == 3
    assert len(opened.overview.decided_sends(ACCOUNT, EVERYTHING, limit=2)) == 2
    (only,) = opened.overview.decided_sends(ACCOUNT, EVERYTHING, dedupe_scope="theirs", limit=9)
    assert only.open.record.send_key == theirs
    assert opened.overview.decided_sends("other", EVERYTHING, limit=9) == []
    # What is listed can be taken back, once.
    assert decide(first, State.SENT, "there after all")
    opened._database.run(
        lambda connection: connection.execute(update(sends).where(sends.c.send_key == second).values(state="CLAIMED"))
    )
    assert opened.overview.decided_sends(ACCOUNT, ours, limit=9) == []


def test_a_person_is_found_by_the_hash_or_by_the_keys(opened: Ledger, add: Add) -> None:
    add("q4", State.SENT, email_hash="ada")
    add("q4", State.SENT, email_hash="bob", run_id="2")
    (old,) = add("old", State.SENT)
    keys = {"old": old, "q4": "no such key"}
    found = opened.overview.person(ACCOUNT, "ada", keys.__getitem__, EVERYTHING, limit=9)
    assert sorted(one.record.dedupe_scope for one in found) == ["old", "q4"]
    assert len(opened.overview.person(ACCOUNT, "ada", keys.__getitem__, EVERYTHING, limit=1)) == 1
    assert opened.overview.person("other", "ada", keys.__getitem__, EVERYTHING, limit=9) == []


def test_batches_are_read_in_pages_with_their_states(opened: Ledger, add: Add) -> None:
    for number in range(5):
        add("q4", State.SENT, *[State.HELD] * number, run_id=str(number))
    found: list[tuple[str, Counter[State]]] = []
    after = None
    while page := opened.overview.batches(ACCOUNT, "q4", EVERYTHING, after=after, limit=2):
        states = opened.overview.states_of(page)
        found += [(ran.run_id, states[ran.batch_id]) for ran in page]
        after = page[-1].created_at, page[-1].batch_id
    assert [run_id for run_id, _ in found] == ["4", "3", "2", "1", "0"]
    assert found[0][1] == Counter({State.SENT: 1, State.HELD: 4})
    assert opened.overview.states_of([]) == {}


def test_what_a_run_has_sent_is_found(opened: Ledger, add: Add) -> None:
    add("q4", State.SENT, run_id="one")
    add("q5", State.SENT, run_id="two")
    of_run = opened.overview.of_run
    assert [(account, ran.dedupe_scope) for account, ran in of_run("campaign", "one", limit=9)] == [(ACCOUNT, "q4")]
    assert of_run("campaign", "one", "gifts", -1, limit=9)
    assert of_run("campaign", "one", "gifts", 3, limit=9) == []
    assert of_run("campaign", "one", "other", limit=9) == []
    assert of_run("other", "one", limit=9) == []


def test_the_versions_are_those_of_the_tables(opened: Ledger) -> None:
    from airflow_provider_sendoso.ledger.schema import SCHEMA_VERSION, USABLE_SINCE

    found = opened.overview.versions()
    assert (found.tables, found.usable_since) == (SCHEMA_VERSION, USABLE_SINCE)
    assert found.ledger_uuid == opened.identity.ledger_uuid


def test_a_scope_without_sends_is_a_campaign_of_nothing(opened: Ledger, add: Add) -> None:
    add("empty")
    campaign = opened.overview.campaign(ACCOUNT, "empty", EVERYTHING)
    assert campaign is not None
    assert (campaign.states.total(), campaign.last_posted_at) == (0, None)
    with pytest.raises(SendosoConfigError):
        opened.sends.open_batch(Batch("x", ACCOUNT, "empty", "id", "campaign", "gifts", "run", -1))
