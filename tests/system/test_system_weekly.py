"""The weekly campaign, run by a real Airflow: by its schedule, by hand, cleared, and for weeks that are long over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

MONDAY, WEDNESDAY, NEXT_MONDAY = "2026-11-23T06:00:00+00:00", "2026-11-25T15:20:00+00:00", "2026-11-30T06:00:00+00:00"

pytestmark = pytest.mark.slow


@pytest.fixture
def champions(world: Callable[..., Any]) -> Any:
    here = world()
    here.execute("CREATE TABLE champions (customer_id text, given_name text, family_name text, email text)")
    join(here, "ada", "grace")
    return here


def join(here: Any, *names: str) -> None:
    """Let people become champions."""
    rows = [(f"C-{name}", name.title(), "Champion", f"{name}@example.com") for name in names]
    here.execute("INSERT INTO champions VALUES (%s, %s, %s, %s)", *rows)


def outcome(run: Any) -> tuple[str, int, int]:
    """The scope, how many were sent a gift by the run, and how many had had theirs."""
    assert run.state == "success", run.log[-5000:]
    summary = run.xcoms["send_gifts"]
    return summary["dedupe_scope"].removeprefix("monday-coffee/"), summary["sent"], summary["already_sent"]


def test_a_week_has_one_gift_for_everybody_whatever_is_run_in_it(airflow: Any, champions: Any) -> None:
    here = champions.environment
    first = airflow.run("weekly_campaign", MONDAY, here)
    assert outcome(first) == ("2026-W48", 2, 0)
    assert "Scope 'monday-coffee/2026-W48': one gift per person and week." in first.log
    join(champions, "hina")
    assert outcome(airflow.run("weekly_campaign", WEDNESDAY, here, manual=True)) == ("2026-W48", 1, 2)
    assert outcome(airflow.run("weekly_campaign", MONDAY, here)) == ("2026-W48", 2, 1)  # cleared: as it was
    assert champions.posts() == 3

    assert outcome(airflow.run("weekly_campaign", NEXT_MONDAY, here)) == ("2026-W49", 3, 0)
    assert champions.posts() == 6


def test_a_backfill_over_new_year_sends_one_gift_for_each_week_and_nothing_when_repeated(
    airflow: Any, champions: Any
) -> None:
    mondays = [f"{day}T06:00:00+00:00" for day in ("2026-12-21", "2026-12-28", "2027-01-04")]
    runs = [outcome(airflow.run("weekly_campaign", monday, champions.environment)) for monday in mondays]
    assert runs == [("2026-W52", 2, 0), ("2026-W53", 2, 0), ("2027-W01", 2, 0)]
    again = [outcome(airflow.run("weekly_campaign", monday, champions.environment)) for monday in mondays]
    assert again == runs  # their own, of earlier tries
    assert champions.posts() == 6
