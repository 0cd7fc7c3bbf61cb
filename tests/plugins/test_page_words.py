"""What the pages say of what was read: pure, and alike on every Airflow."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.ledger.overview import Campaign, Ran, Timeline
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.models.spending import Limit
from airflow_provider_sendoso.plugins import views

RAN = Ran("batch", "q4", "a/dag", "a task", "manual__2026-11-28T00:00:00+00:00", -1, 0.0, rows_to_send=100)


def campaign(at_work: int = 0, lost: int = 0, rate: int = 0, done: int = 0, **states: int) -> Campaign:
    made = Campaign("q4", "email", 0.0, at_work=at_work, lost=lost, rate=rate, last=RAN, last_done=done)
    made.states.update({State(name): number for name, number in states.items()})
    return made


@pytest.mark.parametrize(
    ("given", "words", "kind"),
    [
        (campaign(at_work=2, SENT=1, CLAIMED=2, HELD=1), "Sending", "working"),
        (campaign(SENT=5, HELD=1, UNKNOWN=1), "2 to be decided", "held"),
        (campaign(SENT=5, POSTING=1, lost=1), "1 to be decided", "held"),
        (campaign(SENT=5, READY=1), "Not finished", "ready"),
        (campaign(SENT=5, CLAIMED=1), "Not finished", "ready"),
        (campaign(SENT=5, REFUSED=1), "Done", "sent"),
        (campaign(REFUSED=1), "Refused", "refused"),
        (campaign(), "Nothing sent", "ready"),
    ],
)
def test_the_state_of_a_campaign(given: Campaign, words: str, kind: str) -> None:
    assert views.state_of(given) == (words, kind)


def test_a_bar_has_every_send_once_and_what_is_to_come() -> None:
    given = campaign(at_work=10, lost=1, rate=30, done=40, SENT=38, HELD=1, REFUSED=1, CLAIMED=8, POSTING=3, READY=2)
    bar = views.outcomes(given)
    assert bar.said == "38 sent, 1 refused, 2 to be decided, 10 under way, 52 not sent yet"
    assert bar.total == given.states.total() + 50
    assert sum(part.width for part in bar.segments) == pytest.approx(views.WIDTH, abs=0.1)
    assert [part.start for part in bar.segments] == sorted(part.start for part in bar.segments)
    assert views.make_bar([("nothing", 0, "sent")]).said == "nothing yet"


def test_what_is_on_hold_is_not_pending_as_well() -> None:
    given = campaign(SENT=9)
    given.statuses.update({"pending": 5, "shipped": 3, "": 1})
    assert views.statuses(given).said == "5 pending, 3 shipped, 1 no status yet"
    given.on_hold.update({"Pending Approval": 1, "Insufficient Funds": 1})
    bar = views.statuses(given)
    assert (bar.said, bar.total) == ("3 pending, 3 shipped, 2 on hold, 1 no status yet", 9)
    given.is_on_hold_cut = True
    assert "2 or more on hold" in views.statuses(given).said


def test_the_time_that_is_left_is_known_only_while_something_is_sent() -> None:
    assert views.time_left(campaign(at_work=10, rate=60, done=30)) == "at most 70 seconds left"
    assert views.time_left(campaign(at_work=10, rate=1, done=30)) == "at most 70 minutes left"
    assert views.time_left(campaign(at_work=10, rate=0, done=30)) is None
    begun = campaign(at_work=10, rate=10, done=30)
    begun.rate_seconds = 5.0
    assert views.time_left(begun) == "at most 35 seconds left"
    assert views.time_left(campaign(rate=60, done=30)) is None
    # More than its rows, because the query has changed between two tries: nothing is left, and never less.
    assert views.to_come(campaign(at_work=10, rate=60, done=300)) == 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 seconds"), (1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (9e5, "10 days")],
)
def test_a_duration(seconds: float, said: str) -> None:
    assert views.duration(seconds) == said


def test_money_and_numbers_are_easy_to_read() -> None:
    assert views.money(1_234_567_891_000, "USD") == "1\u202f234\u202f567.89 USD"
    assert views.money(0, "") == "0.00"
    assert views.number(1_234_567) == "1\u202f234\u202f567"


def test_a_budget_is_never_wider_than_its_bar() -> None:
    half = views.budget(Limit("scope_max_sends", "scope", 10), 5, "")
    assert (half.used, half.most, half.width, half.is_near) == ("5", "10", 500, False)
    over = views.budget(Limit("max_cost_per_month", "month", 5_000_000, is_cost=True), 6_000_000, "USD")
    assert (over.used, over.most, over.width, over.is_near) == ("6.00 USD", "5.00 USD", 1000, True)
    nothing = views.budget(Limit("scope_max_sends", "scope", 0), 0, "")
    assert (nothing.width, nothing.is_near) == (1000, True)


def test_a_campaign_in_two_currencies_is_told_in_both() -> None:
    given = campaign(SENT=2)
    given.spent.update(USD=1_000_000, EUR=2_000_000)
    given.reserved.update(USD=500_000)
    assert views.costs(given) == "2.00 EUR, 1.50 USD"


def test_a_chart_ends_at_its_top_and_its_table_says_the_same() -> None:
    line = Timeline(0.0, 60.0, [1, 0, 3, 0])
    assert views.chart(line) == "M0 120 L250 90.00 L500 90.00 L750 0.00 L1000 0.00 L1000 120Z"
    rows = views.chart_rows(line, 2)
    assert [(f"{moment:%H:%M}", count) for moment, count in rows] == [("00:02", 1), ("00:04", 4)]


def test_addresses_have_every_name_quoted() -> None:
    assert views.task_address("", RAN) == (
        "/dags/a%2Fdag/runs/manual__2026-11-28T00%3A00%3A00%2B00%3A00/tasks/a%20task"
    )
    mapped = Ran("batch", "q4", "dag", "task", "run", 3, 0.0)
    assert views.task_address("/airflow", mapped, 2) == "/airflow/dags/dag/runs/run/tasks/task/mapped/3?try_number=2"
    assert views.address("/sendoso", "campaign", scope='<a&b="c">', conn="", after=None) == (
        "/sendoso/campaign?scope=%3Ca%26b%3D%22c%22%3E"
    )
