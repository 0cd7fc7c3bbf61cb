"""Matching the rows of the Send Tracker's list to campaign sends: pure rules."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.client.tracker import CLOCKS_APART, Tracked, Tracker, created_at

NOON = 1_795_000_000.0
LATEST = 60.0


def tracked(name: str = "a", **changes: Any) -> Tracked:
    fields = {"touch_id": "102", "email_hash": "hash of ada", "posted_at": NOON}
    return Tracked(**({"name": name} | fields | changes))


def row(number: int, after: float | None = 0.0, who: str = "ada", touch: Any = 102, **more: Any) -> dict[str, Any]:
    created = {} if after is None else {"created_at": datetime.fromtimestamp(NOON + after, UTC).isoformat()}
    return {"id": number, "status": "Sent", "touch": {"id": touch}, "recipient": {"email": who}, **created, **more}


def walk(tracker: Tracker, rows: list[dict[str, Any]], per_page: int = 100) -> int:
    """Let it walk through these rows; return how many pages it asked for."""
    asked, steps = 0, tracker.walk()
    try:
        request = next(steps)
        while True:
            asked += 1
            first = (request.params["page"] - 1) * per_page
            body = {"sends": rows[first : first + per_page], "per_page": per_page}
            request = steps.send(Answer(200, {}, json.dumps(body).encode()))
    except StopIteration:
        return asked


def tracker(*sends: Tracked, whole: bool = False) -> Tracker:
    return Tracker(sends, lambda email: f"hash of {email}", whole=whole)


def bound(sends: list[Tracked], rows: list[dict[str, Any]], taken: set[str] = frozenset()) -> dict[str, str]:
    looking = tracker(*sends)
    walk(looking, rows)
    return {name: send.id for name, send in looking.assign(taken, LATEST).items()}


def test_a_row_is_matched_by_recipient_campaign_and_time() -> None:
    others = [
        row(1, who="grace"),
        row(2, touch=103),
        row(3, -CLOCKS_APART - 1),
        row(4, CLOCKS_APART + LATEST + 1),
        {"id": 5, "status": "Sent"},
        row(6, touch=None),
        {"id": None, "touch": {"id": 102}, "recipient": {"email": "ada"}},
    ]
    assert bound([tracked()], others) == {}
    assert bound([tracked()], [*others, row(7, 5)]) == {"a": "7"}
    assert bound([tracked()], [row(7, 5)], {"7"}) == {}


def test_a_row_without_a_time_matches_at_any_time() -> None:
    assert bound([tracked()], [row(7, None)]) == {"a": "7"}


@pytest.mark.parametrize("skew", [-1800, -4, 0, 4, 1800])
def test_as_many_rows_as_sends_are_matched_in_order_of_time(skew: float) -> None:
    sends = [tracked("first"), tracked("second", posted_at=NOON + 5), tracked("third", posted_at=NOON + 9)]
    rows = [row(number, after + skew) for number, after in [(3, 9), (1, 0), (2, 5)]]
    assert bound(sends, rows) == {"first": "1", "second": "2", "third": "3"}


def test_among_more_rows_an_accepted_send_takes_the_nearest_and_an_unknown_send_none() -> None:
    rows = [row(1, -600), row(2, 1), row(3, 700)]
    assert bound([tracked()], rows) == {"a": "2"}
    assert bound([tracked(accepted=False)], rows) == {}
    assert bound([tracked(), tracked("b", accepted=False)], rows) == {"a": "2"}


def test_an_unknown_send_takes_the_only_row_that_is_left() -> None:
    both = [tracked("sent"), tracked("unknown", posted_at=NOON + 60, accepted=False)]
    assert bound(both, [row(1, 1), row(2, 61)]) == {"sent": "1", "unknown": "2"}
    assert bound(both, [row(1, 1)]) == {"sent": "1"}
    assert bound([tracked(accepted=False)], [row(1, 1)]) == {"a": "1"}


def test_sends_that_are_not_looked_for_keep_the_rows_that_match_them() -> None:
    looking = tracker(tracked("mine", posted_at=NOON + 5))
    walk(looking, [row(1, -3), row(2, 2)])  # Sendoso's clock is 3 s behind
    also = [tracked("others"), tracked("elsewhere", email_hash="hash of grace")]
    assert {name: send.id for name, send in looking.assign((), LATEST, also).items()} == {"others": "1", "mine": "2"}


def test_a_bound_send_is_found_by_its_id_alone() -> None:
    looking = tracker(tracked(bound_id="7"), tracked("b"))
    walk(looking, [row(8, 1), row(7, 0, status="Delivered", recipient=None)])
    assert {name: send.status for name, send in looking.seen.items()} == {"a": "delivered"}
    assert {name: send.id for name, send in looking.assign((), LATEST).items()} == {"b": "8"}


def test_the_walk_ends_when_it_can_find_no_more() -> None:
    old = [row(1000 - n, -CLOCKS_APART - 60 * n, who="old") for n in range(1, 899)]
    assert walk(tracker(tracked()), [row(1001), *old]) == 1
    assert walk(tracker(tracked(bound_id="1001")), [row(1001), *old]) == 1
    assert walk(tracker(tracked(bound_id="999")), [*[row(2000 + n, n) for n in range(99, -1, -1)], *old]) == 2
    # Oldest first: the rows that follow need not be older.
    assert walk(tracker(tracked()), [*old[::-1], row(1001)]) == 9
    # Only a whole list with an empty page at its end proves something.
    whole = tracker(tracked(), whole=True)
    assert walk(whole, [row(1001), *old]) == 10
    assert whole.complete


def test_a_send_that_may_be_there_is_not_absent() -> None:
    looking = tracker(tracked(), whole=True)
    walk(looking, [row(1, -86_400)])
    assert looking.may_hold(tracked(), ())
    assert not looking.may_hold(tracked(), {"1"})
    assert not looking.may_hold(tracked(email_hash="hash of grace"), ())


people = st.sampled_from("ab")
moments = st.integers(-7200, 7200)


@given(
    sends=st.lists(st.tuples(people, moments, st.booleans()), max_size=8),
    rows=st.lists(st.tuples(people, st.one_of(st.none(), moments)), max_size=10),
    taken=st.sets(st.integers(0, 9)),
    data=st.data(),
)
def test_no_row_is_matched_to_two_sends_whatever_the_order_of_the_list(
    sends: list[tuple[str, int, bool]],
    rows: list[tuple[str, int | None]],
    taken: set[int],
    data: st.DataObject,
) -> None:
    wanted = [
        tracked(str(n), email_hash=f"hash of {who}", posted_at=NOON + at, accepted=accepted)
        for n, (who, at, accepted) in enumerate(sends)
    ]
    listed = [row(n, at, who) for n, (who, at) in enumerate(rows)]
    looking = tracker(*wanted, whole=True)
    walk(looking, data.draw(st.permutations(listed)), per_page=3)
    found = looking.assign({str(n) for n in taken}, LATEST)
    ids = [send.id for send in found.values()]
    assert len(ids) == len(set(ids))
    assert not set(ids) & {str(n) for n in taken}
    for name, send in found.items():
        who, at = rows[int(send.id)]
        assert who == sends[int(name)][0]
        assert at is None or -CLOCKS_APART <= at - sends[int(name)][1] <= CLOCKS_APART + LATEST


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_a_moment_without_a_zone_is_utc_wherever_the_worker_is(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert created_at({"created_at": "2026-11-26T12:00:00"}) == datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
        assert (
            created_at({"created_at": "2026-11-26T12:00:00+02:00"})
            == datetime(2026, 11, 26, 10, tzinfo=UTC).timestamp()
        )
    finally:
        monkeypatch.undo()
        time.tzset()
