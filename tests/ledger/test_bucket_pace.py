"""The pace of a ledger in a bucket: a commit takes longer than a slot is usable, so slots are taken ahead in blocks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from shaky_bucket import ShakyBucket, open_replica
from sqlalchemy import select
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.bucket.pace import BucketPace
from airflow_provider_sendoso.ledger.pace import LedgerPace
from airflow_provider_sendoso.ledger.schema import pace as pace_table

LONG = 1000.0
BUSY = 60.0


@pytest.fixture
def bucket() -> ShakyBucket:
    return ShakyBucket()


@pytest.fixture
def ledger(bucket: ShakyBucket) -> Ledger:
    return open_replica(bucket)[0]


def pace_of(ledger: Ledger, interval: float) -> BucketPace:
    pace: LedgerPace = ledger.pace("account", interval, 5)
    assert isinstance(pace, BucketPace)
    return pace


def end_of_slots(ledger: Ledger) -> float:
    """When the next slot is free, by the ledger's clock."""
    return float(ledger._database.run(lambda connection: connection.execute(select(pace_table.c.tat)).scalar_one()))


def test_the_first_slot_comes_up_when_the_commit_of_what_takes_it_is_done(ledger: Ledger) -> None:
    pace = pace_of(ledger, LONG)
    ledger._database.together.takes.usual = 4.0
    assert pace.lead == 8.0
    began = time.monotonic()
    wait = pace.reserve(poll=False)
    assert 8.0 - (time.monotonic() - began) <= wait <= 8.0


def test_a_slot_is_not_taken_so_far_ahead_that_the_lease_of_its_send_lapses(ledger: Ledger) -> None:
    ledger._database.together.takes.usual = 40.0
    assert pace_of(ledger, LONG).lead == 10.0


def test_no_slot_is_taken_that_is_over_when_the_commit_is_done(ledger: Ledger) -> None:
    assert not pace_of(ledger, LONG).take(None)  # type: ignore[arg-type]


def test_a_process_that_uses_its_slots_takes_more_of_them_at_once(bucket: ShakyBucket, ledger: Ledger) -> None:
    assert pace_of(ledger, 0.1)._most == 10
    pace = pace_of(ledger, LONG)
    pace._most = 10
    bucket.asked.clear()
    slots = [time.monotonic() + pace.reserve(poll=False) for _ in range(31)]
    assert [later - sooner for sooner, later in pairwise(slots)] == pytest.approx([LONG] * 30, abs=BUSY)
    # Blocks of 1 or 2, 4, 8, and then of 10, which is a second's.
    commits = sum(asked.startswith("create log/") for asked in bucket.asked)
    assert commits <= 6


def test_a_process_that_sends_seldom_takes_single_slots(ledger: Ledger) -> None:
    pace = pace_of(ledger, 0.01)
    for _ in range(3):
        taken = pace.reserve(poll=False)
        time.sleep(taken + 0.05)  # its block is over for longer than an interval
    before = end_of_slots(ledger)
    pace.reserve(poll=False)
    assert end_of_slots(ledger) - before < 1.0
    assert len(pace._slots) == 0


def test_polls_take_no_blocks(ledger: Ledger) -> None:
    pace = pace_of(ledger, 0.1)
    pace.push_back(LONG)
    first = end_of_slots(ledger)
    for _ in range(5):
        pace.reserve(poll=True)
    assert end_of_slots(ledger) - first == pytest.approx(0.5, abs=0.01)


def test_slots_of_two_processes_are_never_the_same(bucket: ShakyBucket, ledger: Ledger) -> None:
    paces = [pace_of(ledger, LONG), pace_of(open_replica(bucket)[0], LONG)]
    for pace in paces:
        pace._most = 10
    slots = sorted(time.monotonic() + paces[number % 2].reserve(poll=False) for number in range(40))
    assert min(later - sooner for sooner, later in pairwise(slots)) > LONG - BUSY


def test_a_push_back_drops_the_slots_that_are_taken(ledger: Ledger) -> None:
    pace = pace_of(ledger, 0.1)
    pace.push_back(LONG)
    for _ in range(4):
        pace.reserve(poll=False)
    pace.push_back(3 * LONG)
    assert pace.reserve(poll=False) == pytest.approx(3 * LONG, abs=BUSY)


def test_slots_that_nobody_used_in_time_are_over(ledger: Ledger) -> None:
    pace = pace_of(ledger, 0.001)
    for _ in range(3):
        pace.reserve(poll=False)
    pace._slots.extend([time.monotonic() - 5.0] * 3)
    assert pace.reserve(poll=False) > -0.1


def test_an_account_without_a_limit_on_its_rate_has_no_interval(ledger: Ledger) -> None:
    pace = pace_of(ledger, 0.0)
    assert [pace.reserve(poll=False) < pace.lead + 1 for _ in range(3)] == [True] * 3


def test_a_slot_that_comes_up_before_a_commit_is_done_is_not_used(ledger: Ledger) -> None:
    pace = pace_of(ledger, LONG)
    ledger._database.together.takes.usual = 5.0
    now = time.monotonic()
    pace._slots.extend([now + 4.0, now + 5.5, now + 7.0])
    assert pace.reserve(poll=False) == pytest.approx(5.5, abs=0.4)


def test_a_process_that_does_not_use_all_its_slots_takes_as_many_as_it_has_used(ledger: Ledger) -> None:
    """Others wait for slots that nobody uses."""
    pace = pace_of(ledger, 0.1)
    pace._size, pace._ends = 8, time.monotonic()
    pace._slots.extend([pace._ends - 0.2, pace._ends - 0.1, pace._ends])
    pace.reserve(poll=False)
    assert pace._size == 5
    assert len(pace._slots) == 4


def test_the_time_that_a_commit_takes_follows_what_the_last_ones_took(ledger: Ledger) -> None:
    takes = ledger._database.together.takes
    for _ in range(60):
        takes.saw(0.5)
    assert takes.usual == pytest.approx(0.5, abs=0.01)
    assert takes.most == pytest.approx(1.0, abs=0.03)
    takes.saw(1.5)
    assert takes.most > 1.9


def test_slots_are_taken_together_with_what_other_threads_commit(bucket: ShakyBucket, ledger: Ledger) -> None:
    pace, together = pace_of(ledger, 0.1), ledger._database.together
    pace.reserve(poll=True)
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(60)

    calls = (lambda: ledger._database.run_together(hold, ""), lambda: pace.reserve(poll=True))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(calls[0])
        assert begun.wait(60)
        bucket.asked.clear()
        others = [pool.submit(calls[1]) for _ in range(3)]
        while len(together._waiting) < 3:
            time.sleep(0.001)
        go_on.set()
        for future in (first, *others):
            future.result(60)
    assert sum(asked.startswith("create log/") for asked in bucket.asked) == 1


def test_the_main_thread_leads_no_others_because_airflow_interrupts_it(ledger: Ledger) -> None:
    pace, together = pace_of(ledger, 0.1), ledger._database.together
    together._busy = True  # whoever joined would wait
    assert pace.reserve(poll=False) > -1.0
