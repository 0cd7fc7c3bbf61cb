"""The pace of one process: the distance between its slots, and waiting for a slot."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_provider_sendoso.client import pace as pace_module
from airflow_provider_sendoso.client.pace import (
    LONGEST_WAIT,
    SLOT_LATE,
    SPACING,
    LocalPace,
    await_slot,
    wait_for_slot,
)
from airflow_provider_sendoso.exceptions import SendosoRateLimitError
from airflow_provider_sendoso.models.slot_commit import SlotCommit


@pytest.fixture
def clock(clock, monkeypatch):
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


class TestLocalPace:
    def test_slots_are_an_interval_apart(self, clock):
        pace = LocalPace(0.5)
        assert [pace.reserve(poll=False) for _ in range(4)] == pytest.approx([0, 0.5, 1, 1.5])

    def test_time_that_has_passed_shortens_the_wait(self, clock):
        pace = LocalPace(0.5)
        pace.reserve(poll=False)
        clock.now += 0.4
        assert pace.reserve(poll=False) == pytest.approx(0.1)

    def test_idle_time_is_not_saved_up_for_a_burst(self, clock):
        pace = LocalPace(0.5)
        pace.reserve(poll=False)
        clock.now += 3600
        assert [pace.reserve(poll=False) for _ in range(3)] == pytest.approx([0, 0.5, 1])

    def test_no_sliding_second_has_more_than_the_rate(self, clock):
        pace = LocalPace(SPACING / 10)
        times = []
        for _ in range(50):
            clock.now += pace.reserve(poll=False)
            times.append(clock.now)
        assert all(later - first >= 1 for first, later in zip(times, times[10:], strict=False))

    def test_push_back_delays_the_next_slot(self, clock):
        pace = LocalPace(0.5)
        pace.push_back(7)
        assert [pace.reserve(poll=False) for _ in range(2)] == pytest.approx([7, 7.5])

    def test_a_shorter_push_back_does_not_bring_slots_forward(self, clock):
        pace = LocalPace(0.5)
        pace.push_back(7)
        pace.push_back(1)
        assert pace.reserve(poll=False) == pytest.approx(7)

    def test_concurrent_threads_get_different_slots(self, clock):
        pace = LocalPace(1.0)
        slots: list[float] = []
        threads = [
            threading.Thread(target=lambda: slots.extend(pace.reserve(poll=False) for _ in range(50))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(slots) == pytest.approx(list(range(400)))

    def test_polls_of_one_process_take_the_same_slots_without_a_queue(self, clock):
        pace = LocalPace(0.5)
        assert [pace.queue(), pace.reserve(poll=True), pace.queue(), pace.reserve(poll=False)] == [0, 0, 0, 0.5]


class Slots:
    """Hands out these delays, then 0; polls wait in the queue first."""

    def __init__(self, *delays: float, queue: float = 0.0) -> None:
        self.delays = list(delays)
        self.in_queue = queue
        self.calls: list[str] = []

    @property
    def asked(self) -> int:
        return len(self.calls) - self.calls.count("queue")

    def queue(self) -> float:
        self.calls.append("queue")
        return self.in_queue

    def reserve(self, *, poll: bool) -> float:
        self.calls.append("poll" if poll else "send")
        return self.delays.pop(0) if self.delays else 0.0

    def take(self, send: SlotCommit) -> bool:
        raise AssertionError("waiting is for who could not have a free one")

    def push_back(self, seconds: float) -> None:
        raise AssertionError("waiting pushes nobody back")


@pytest.fixture(params=["blocking", "async"])
def wait(request, clock, monkeypatch):
    """Waits in one of the two ways, which must not differ."""

    async def sleep(seconds: float) -> None:
        clock.sleep(seconds)

    async def wait_for(slots: Slots, *, poll: bool = False, **keeps: float) -> None:
        if request.param == "blocking":
            wait_for_slot(slots, poll=poll, sleep=clock.sleep, **keeps)
        else:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "sleep", sleep)
                await await_slot(slots, poll=poll, **keeps)

    return wait_for


class TestWaiting:
    async def test_a_slot_that_is_due_is_taken_without_waiting(self, wait, clock):
        slots = Slots(0.0)
        await wait(slots)
        assert (slots.asked, clock.naps) == (1, [])

    async def test_a_slot_is_waited_for(self, wait, clock):
        slots = Slots(0.3)
        await wait(slots)
        assert (slots.asked, clock.naps) == (1, [0.3])

    @pytest.mark.parametrize(("late", "asked"), [(0.0, 1), (0.019, 1), (0.03, 2)])
    async def test_a_slot_that_was_missed_is_replaced_by_a_new_one(self, wait, clock, late, asked):
        slots = Slots(0.3, 0.2)
        clock.oversleep = [late]
        await wait(slots)
        assert slots.asked == asked
        assert clock.naps == [0.3, 0.2][:asked]

    @pytest.mark.parametrize(("late", "asked"), [(0.4, 1), (0.6, 2)])
    async def test_a_slot_of_a_limit_per_minute_keeps_longer(self, wait, clock, late, asked):
        """Slots that are most of a second apart are not to be dropped because a machine is busy."""
        slots = Slots(0.3, 0.2)
        clock.oversleep = [late]
        await wait(slots, keeps=SLOT_LATE)
        assert slots.asked == asked

    async def test_a_process_that_keeps_missing_its_slots_backs_off(self, wait, clock):
        slots = Slots(*[0.3] * 6)
        clock.oversleep = [1.0] * 5
        await wait(slots)
        pauses = [nap for nap in clock.naps if nap != 0.3]
        assert len(pauses) >= 1
        assert all(0 <= pause <= 2 for pause in pauses)

    async def test_a_poll_enters_the_poll_queue_once_before_its_slot(self, wait, clock):
        slots = Slots(0.3, 0.2, queue=0.7)
        clock.oversleep = [0.0, 1.0]
        await wait(slots, poll=True)
        assert slots.calls == ["queue", "poll", "poll"]
        assert clock.naps == [0.7, 0.3, 0.2]

    async def test_a_request_for_a_send_does_not_enter_the_poll_queue(self, wait, clock):
        slots = Slots(0.3, queue=0.7)
        await wait(slots)
        assert (slots.calls, clock.naps) == (["send"], [0.3])

    @pytest.mark.parametrize("poll", [False, True])
    async def test_a_slot_further_away_than_the_longest_wait_is_an_error(self, wait, clock, poll):
        await wait(Slots(LONGEST_WAIT), poll=poll)
        assert sum(clock.naps) == LONGEST_WAIT == 150
        clock.naps.clear()
        with pytest.raises(SendosoRateLimitError, match=r"the next call is due in 151 s\.") as caught:
            await wait(Slots(LONGEST_WAIT + 1), poll=poll)
        assert (caught.value.retry_after, sum(clock.naps)) == (151, 0)
