"""The clock of a ledger in a bucket: the store's, whatever the clocks of the machines say."""

from __future__ import annotations

import math
import random

import pytest

from airflow_provider_sendoso.ledger.bucket import clock as clocks
from airflow_provider_sendoso.ledger.bucket.clock import StoreClock
from airflow_provider_sendoso.ledger.bucket.objects import Modified

STORE = 1_700_000_000.0
"""What the store's clock says when the machines start."""


class Time:
    """The true time, and clocks of machines that were started at different moments and run fast or slow."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.rate, self.since_boot = 1.0, 0.0

    def on(self, machine: int, rate: float = 1.0) -> None:
        """Let the next calls be made on a machine."""
        self.since_boot, self.rate = 1_000.0 * machine, rate

    def now(self) -> float:
        return self.since_boot + self.rate * self.passed

    @property
    def at_store(self) -> float:
        return STORE + self.passed

    def measure(self, clock: StoreClock, request: float = 0.05) -> None:
        """Create an object, and ask for its moment, as a replica does; the store tells whole seconds."""
        sent_at = self.now()
        self.passed += request / 2
        modified = Modified(float(math.floor(self.at_store)), within=1.0)
        self.passed += request / 2
        clock.measure(modified, sent_at)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(clocks, "since_boot", time.now)
    return time


@pytest.mark.parametrize("passed", [0.0, 0.01, 0.3, 0.5, 0.96, 0.99])
@pytest.mark.parametrize("request_takes", [0.001, 0.05, 3.0])
def test_a_measured_clock_is_less_than_a_second_off(time: Time, passed: float, request_takes: float) -> None:
    time.passed = passed
    clock = StoreClock()
    assert clock.must_be_measured
    time.measure(clock, request_takes)
    assert not clock.must_be_measured
    assert abs(clock.now() - time.at_store) <= 0.5 + request_takes
    before = clock.now()
    time.passed += 100
    assert clock.now() == pytest.approx(before + 100)


def test_writers_of_one_log_agree_on_an_order_and_nearly_on_the_time(time: Time) -> None:
    chance = random.Random(1)
    writers = [StoreClock() for _ in range(6)]
    written: list[float] = []
    for round_ in range(200):
        number = chance.randrange(6) if round_ > 6 else round_ % 6
        time.on(number)
        time.passed += chance.random() / 10
        if writers[number].must_be_measured:
            time.measure(writers[number])
        for moment in written[-10:]:
            writers[number].is_at_least(moment)
        written.append(writers[number].now())
    # Who has not read an entry may be behind it, but not by more than the second that a measurement leaves open.
    for number, writer in enumerate(writers):
        time.on(number)
        assert abs(writer.now() - time.at_store) < 1.1
    assert written == sorted(written)


def test_a_clock_never_goes_back_within_what_was_measured(time: Time) -> None:
    clock = StoreClock()
    seen = []
    for _ in range(50):
        time.measure(clock)
        seen.append(clock.now())
        clock.is_at_least(time.at_store - 5)
        seen.append(clock.now())
        time.passed += 0.37
    assert seen == sorted(seen)


@pytest.mark.parametrize("rate", [0.9999, 1.0001, 0.999, 1.001])
def test_a_machine_whose_clock_runs_fast_or_slow_is_measured_again(time: Time, rate: float) -> None:
    clock = StoreClock()
    time.on(1, rate)
    off = []
    for _ in range(20_000):
        if clock.must_be_measured:
            time.measure(clock)
        time.passed += 1.3
        off.append(abs(clock.now() - time.at_store))
    assert max(off) < 1.1 + 2 * 600 * abs(rate - 1)


def test_a_machine_that_was_suspended_measures_its_clock_again(time: Time) -> None:
    """Time since boot goes on while a machine is suspended; a clock that did not would let leases last too long."""
    clock = StoreClock()
    time.measure(clock)
    time.passed += 7 * 3600
    assert abs(clock.now() - time.at_store) < 1.1
    assert clock.must_be_measured
    time.measure(clock)
    assert abs(clock.now() - time.at_store) < 1.1


def test_a_writer_whose_clock_is_wrong_does_not_take_others_along(time: Time) -> None:
    """What an entry says counts only as far as the own measurement leaves it open."""
    clock = StoreClock()
    time.measure(clock)
    clock.is_at_least(time.at_store + 86_400)
    assert abs(clock.now() - time.at_store) < 1.1
