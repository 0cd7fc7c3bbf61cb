"""Slots: one process's spacing, and waiting for one's turn."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_sendoso.client import pace as pace_module
from airflow_provider_sendoso.client.pace import SPACING, LocalPace, await_slot, wait_for_slot


@pytest.fixture
def clock(clock, monkeypatch):
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


class TestLocalPace:
    def test_slots_are_an_interval_apart(self, clock):
        pace = LocalPace(0.5)
        assert [pace.reserve() for _ in range(4)] == pytest.approx([0, 0.5, 1, 1.5])

    def test_time_that_has_passed_is_taken_off(self, clock):
        pace = LocalPace(0.5)
        pace.reserve()
        clock.now += 0.4
        assert pace.reserve() == pytest.approx(0.1)

    def test_idle_time_is_not_saved_up_for_a_burst(self, clock):
        pace = LocalPace(0.5)
        pace.reserve()
        clock.now += 3600
        assert [pace.reserve() for _ in range(3)] == pytest.approx([0, 0.5, 1])

    def test_no_sliding_second_has_more_than_the_rate(self, clock):
        pace = LocalPace(SPACING / 10)
        times = []
        for _ in range(50):
            clock.now += pace.reserve()
            times.append(clock.now)
        assert all(later - first >= 1 for first, later in zip(times, times[10:], strict=False))

    def test_push_back(self, clock):
        pace = LocalPace(0.5)
        pace.push_back(7)
        assert [pace.reserve() for _ in range(2)] == pytest.approx([7, 7.5])

    def test_a_shorter_push_back_does_not_bring_slots_forward(self, clock):
        pace = LocalPace(0.5)
        pace.push_back(7)
        pace.push_back(1)
        assert pace.reserve() == pytest.approx(7)

    def test_threads_get_a_slot_each(self, clock):
        pace = LocalPace(1.0)
        slots: list[float] = []
        threads = [threading.Thread(target=lambda: slots.extend(pace.reserve() for _ in range(50))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(slots) == pytest.approx(list(range(400)))


class Slots:
    """Hands out these delays, then 0."""

    def __init__(self, *delays: float) -> None:
        self.delays = list(delays)
        self.asked = 0

    def reserve(self) -> float:
        self.asked += 1
        return self.delays.pop(0) if self.delays else 0.0

    def push_back(self, seconds: float) -> None:
        raise AssertionError("waiting pushes nobody back")


@pytest.fixture(params=["blocking", "async"])
def wait(request, clock):
    """Both ways to wait, which must not differ."""

    async def wait_for(slots: Slots) -> None:
        if request.param == "blocking":
            wait_for_slot(slots, clock.sleep)
            return

        async def reserve() -> float:
            return slots.reserve()

        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        await await_slot(reserve, sleep)

    return wait_for


class TestWaiting:
    async def test_a_slot_that_is_up_is_not_waited_for(self, wait, clock):
        slots = Slots(0.0)
        await wait(slots)
        assert (slots.asked, clock.naps) == (1, [])

    async def test_a_slot_is_waited_for(self, wait, clock):
        slots = Slots(0.3)
        await wait(slots)
        assert (slots.asked, clock.naps) == (1, [0.3])

    @pytest.mark.parametrize(("late", "asked"), [(0.0, 1), (0.019, 1), (0.03, 2)])
    async def test_a_slot_that_is_missed_is_asked_for_again(self, wait, clock, late, asked):
        slots = Slots(0.3, 0.2)
        clock.oversleep = [late]
        await wait(slots)
        assert slots.asked == asked
        assert clock.naps == [0.3, 0.2][:asked]

    async def test_a_machine_too_busy_to_be_on_time_backs_off(self, wait, clock):
        slots = Slots(*[0.3] * 6)
        clock.oversleep = [1.0] * 5
        await wait(slots)
        pauses = [nap for nap in clock.naps if nap != 0.3]
        assert len(pauses) >= 1
        assert all(0 <= pause <= 2 for pause in pauses)
