"""Which sends are due where there are webhooks: pure rules, in a clock that the test turns."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_sendoso.client.tracker import Tracked
from airflow_provider_sendoso.ledger.wakeups import Wakeup
from airflow_provider_sendoso.models import StatusReport
from airflow_provider_sendoso.waiting.goal import Goal
from airflow_provider_sendoso.waiting.wakeups import Ear
from airflow_provider_sendoso.waiting.watch import Watch, walk_pause

GOAL = Goal.parse(["delivered"], ["failed"])
NOW, EVERY, HOUR = 1_000_000.0, 300.0, 3600.0


def woken(gid: str, svix_id: str = "msg", ago: float = 0.0, **known: str) -> Wakeup:
    return Wakeup("acme", svix_id, gid, ago, **known)


def watching(count: int = 3, *, rare: float | None = HOUR, asked_ago: float = 60.0, named: bool = True) -> Watch:
    """A wait whose sends are pending, were asked a minute ago, and are named by ``gid-<number>``."""
    watch = Watch(rare=rare)
    watch.add([f"send-{number}" for number in range(count)], NOW - 86_400)
    for number in range(count):
        watch.note(f"send-{number}", StatusReport.of("pending"), NOW - asked_ago)
        if named:
            watch.learn(f"send-{number}", f"gid-{number}")
    return watch


def test_a_send_that_was_named_is_due_at_once_and_before_all_others() -> None:
    watch = watching(asked_ago=2 * HOUR)
    watch.wake([woken("gid-2")], NOW)
    assert watch.due_woken(GOAL, NOW) == ["send-2"]
    assert watch.due(GOAL, NOW, EVERY)[0] == "send-2"


@pytest.mark.parametrize("minutes", [1, 30, 55])
def test_a_send_that_was_not_named_is_not_due_within_the_hour(minutes: float) -> None:
    assert watching(asked_ago=minutes * 60).due(GOAL, NOW, EVERY) == []


@pytest.mark.parametrize("count", [1, 3])
def test_after_an_hour_every_send_is_due(count: int) -> None:
    assert len(watching(count, asked_ago=HOUR).due(GOAL, NOW, EVERY)) == count


def test_all_are_due_together_so_that_the_list_is_read_once() -> None:
    watch = watching(asked_ago=HOUR)
    watch.note("send-1", StatusReport.of("shipped"), NOW - 600)
    assert set(watch.due(GOAL, NOW, EVERY)) == {"send-0", "send-1", "send-2"}


def test_without_webhooks_the_rules_are_as_they_were() -> None:
    watch = watching(1, rare=None)
    assert watch.due(GOAL, NOW, EVERY) == ["send-0"]
    watch = watching(rare=None, asked_ago=2 * HOUR)
    assert len(watch.due(GOAL, NOW, EVERY)) == 3
    assert watch.new_gids == {}


def test_a_longer_poke_interval_is_kept() -> None:
    watch = watching(1, asked_ago=2 * HOUR)
    assert watch.due(GOAL, NOW, 6 * HOUR) == []
    assert watch.due(GOAL, NOW + 4 * HOUR, 6 * HOUR) == ["send-0"]


def test_a_send_of_unknown_id_for_webhooks_is_asked_once_and_then_polled_as_without_them() -> None:
    watch = Watch(rare=HOUR)
    watch.recall("send-0", StatusReport.of("pending"), NOW - 86_400, NOW - 1)
    watch.recall("send-1", StatusReport.of("pending"), NOW - 86_400, NOW - 1)
    assert len(watch.due(GOAL, NOW, EVERY)) == 2
    for send_id in ("send-0", "send-1"):
        watch.note(send_id, StatusReport.of("pending"), NOW)
    watch.learn("send-0", "gid-0")
    watch.learn("send-1", None)
    watch.sends["send-1"].made_at = NOW - 600
    later = NOW + 2 * EVERY
    assert watch.due(GOAL, later, EVERY) == ["send-1"]
    watch.wake([woken("send-1")], later)
    watch.note("send-1", StatusReport.of("pending"), later)
    assert watch.due(GOAL, later + 2 * EVERY, EVERY) == [], "webhooks name it by its own id"


def test_what_the_ledger_knows_of_ids_is_not_asked_again() -> None:
    watch = Watch(rare=HOUR)
    watch.recall("send-0", StatusReport.of("pending"), NOW - 86_400, NOW - 60)
    watch.recall_gid("send-0", "gid-0")
    assert watch.due(GOAL, NOW, EVERY) == []
    watch.wake([woken("gid-0")], NOW)
    assert watch.due_woken(GOAL, NOW) == ["send-0"]


@pytest.mark.parametrize(
    "wakeup",
    [
        woken("send-1"),
        woken("gid-1"),
        woken("another", send_id="send-1"),
        woken("another", send_id="tracking:X", bound_id="send-1"),
    ],
)
def test_a_send_is_named_by_each_of_its_ids(wakeup: Wakeup) -> None:
    watch = watching()
    watch.wake([wakeup], NOW)
    assert watch.due_woken(GOAL, NOW) == ["send-1"]


def test_a_wake_up_counts_once_and_another_one_again() -> None:
    watch = watching()
    for _ in range(2):
        watch.wake([woken("gid-1", "msg_1", 5.0)], NOW)
    watch.note("send-1", StatusReport.of("processing"), NOW)
    watch.wake([woken("gid-1", "msg_1", 15.0)], NOW + 10)
    assert watch.due_woken(GOAL, NOW + 10) == []
    watch.wake([woken("gid-1", "msg_2", 1.0)], NOW + 10)
    assert watch.due_woken(GOAL, NOW + 10) == ["send-1"]


@pytest.mark.parametrize(("ago", "due"), [(10, 1), (80, 1), (100, 0), (5000, 0)])
def test_a_wake_up_from_before_the_last_check_wakes_nobody_unless_the_two_met(ago: float, due: int) -> None:
    watch = watching(asked_ago=60)
    watch.wake([woken("gid-1", ago=ago)], NOW)
    assert len(watch.due_woken(GOAL, NOW)) == due


def test_a_settled_send_and_a_strangers_send_wake_nobody() -> None:
    watch = watching()
    watch.note("send-0", StatusReport.of("delivered"), NOW - 50)
    watch.wake([woken("gid-0", "msg_1"), woken("gid-of-others", "msg_2")], NOW)
    assert watch.due_woken(GOAL, NOW) == []
    assert watch.woken == set()


def test_a_check_that_fails_leaves_the_send_woken() -> None:
    watch = watching()
    watch.wake([woken("gid-1")], NOW)
    watch.note_failure("send-1", NOW)
    assert watch.due_woken(GOAL, NOW) == ["send-1"]
    watch.note("send-1", None, NOW)
    assert watch.due_woken(GOAL, NOW) == []


def test_the_list_of_campaign_sends_rests_and_then_shows_all() -> None:
    watch = watching()
    watch.tracked = {f"send-{n}": Tracked(f"send-{n}", "101", "", NOW, f"{n}") for n in range(2)}
    watch.walk_at = NOW + walk_pause(2)
    watch.wake([woken("0", "msg_1"), woken("gid-2", "msg_2")], NOW)
    assert watch.due_woken(GOAL, NOW) == ["send-2"], "a gift is read by itself"
    assert watch.wait_for_walk(NOW) == 72
    watch.note("send-2", StatusReport.of("shipped"), NOW)
    assert watch.due_woken(GOAL, NOW + 71) == []
    assert set(watch.due_woken(GOAL, NOW + 72)) == {"send-0", "send-1"}
    watch.note("send-0", StatusReport.of("shipped"), NOW + 72)
    assert watch.wait_for_walk(NOW + 72) is None


def test_a_list_is_read_at_most_a_hundred_pages_an_hour_for_webhooks() -> None:
    assert [walk_pause(pages) * (100 / max(1, pages)) for pages in (0, 1, 10, 100)] == [HOUR] * 4


class FakeWakeups:
    def __init__(self) -> None:
        self.stored: list[tuple[str, float]] = []
        self.now = 0.0
        self.reaches: list[float] = []
        self.fails = False

    def recent(self, seconds: float, account: str | None = None) -> list[Wakeup]:
        if self.fails:
            raise RuntimeError
        self.reaches.append(seconds)
        return [woken("gid", svix_id, self.now - at) for svix_id, at in self.stored if at > self.now - seconds]


def ear(wakeups: FakeWakeups, reach: float = 0.0) -> Ear:
    ledger: Any = type("L", (), {"wakeups": wakeups})
    return Ear(ledger, "acme", reach, lambda: wakeups.now)


def test_an_ear_hears_each_wake_up_once_also_those_that_were_committed_late() -> None:
    wakeups = FakeWakeups()
    listening = ear(wakeups)
    wakeups.now, wakeups.stored = 10.0, [("a", 8.0)]
    assert [one.svix_id for one in listening.listen()] == ["a"]
    wakeups.now = 15.0
    wakeups.stored += [("late", 7.0), ("b", 14.0)]
    assert [one.svix_id for one in listening.listen()] == ["late", "b"]
    wakeups.now = 20.0
    assert listening.listen() == []


def test_an_ear_reaches_back_over_the_time_for_which_its_machine_was_suspended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wakeups, asleep = FakeWakeups(), [0.0]
    clock = time.clock_gettime
    suspended = time.CLOCK_BOOTTIME
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + asleep[0] * (which == suspended))
    ledger: Any = type("L", (), {"wakeups": wakeups})
    listening = Ear(ledger, "acme")
    listening.listen()
    asleep[0], wakeups.now, wakeups.stored = HOUR, HOUR, [("a", 60.0)]
    assert [one.svix_id for one in listening.listen()] == ["a"]


def test_an_ear_reaches_back_over_the_time_in_in_which_the_ledger_was_away() -> None:
    wakeups = FakeWakeups()
    listening = ear(wakeups)
    wakeups.now = 5.0
    listening.listen()
    wakeups.fails = True
    for _ in range(3):
        wakeups.now += 100
        with pytest.raises(RuntimeError):
            listening.listen()
    wakeups.fails, wakeups.stored = False, [("a", 50.0)]
    assert [one.svix_id for one in listening.listen()] == ["a"]
    assert wakeups.reaches[-1] == 330.0
    assert ear(wakeups, reach=HOUR).listen() != []
    assert wakeups.reaches[-1] == HOUR + 30
