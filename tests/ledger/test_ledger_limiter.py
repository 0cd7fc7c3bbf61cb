"""The pace in the ledger: a whole deployment shares one rate, and uses all of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import ledger_workers
import pytest
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.client.endpoints import me_request
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.schema import pace as pace_table
from airflow_provider_sendoso.sandbox import Sandbox

CLOCK_ERROR = 0.01
LONG = 1000.0
"""Seconds between two slots: however busy the machine is, none comes up while it is asked for the next ones."""
BUSY = 60.0
"""Seconds that it may take to ask for a few."""


on_sql = pytest.mark.parametrize("ledger_connection", ["sqlite", "postgresql", "mysql"], indirect=True)
"""In a bucket no slot is taken at once: the commit takes longer than a slot is usable. See ``test_bucket_pace.py``."""


def test_slots_are_an_interval_apart(opened: Ledger) -> None:
    pace = opened.pace("account", LONG, 5)
    lead = pace.lead
    waits = [pace.reserve(poll=False) for _ in range(5)]
    assert -BUSY < waits[0] < CLOCK_ERROR + lead
    # The waits are asked for one after another, so each is shorter by the time that passed.
    assert [later - sooner for sooner, later in pairwise(waits)] == pytest.approx([LONG] * 4, abs=BUSY)


def test_slots_of_threads_are_an_interval_apart(opened: Ledger) -> None:
    pace = opened.pace("account", LONG, 5)
    with ThreadPoolExecutor(8) as pool:
        waits = sorted(pool.map(lambda _: pace.reserve(poll=False), range(24)))
    assert waits == pytest.approx([LONG * number for number in range(24)], abs=BUSY)


def test_slots_of_an_account_that_is_new_to_all_are_an_interval_apart(opened: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(100):
            pace = opened.pace(f"account-{number}", LONG, 5)
            waits = sorted(pool.map(lambda _, pace=pace: pace.reserve(poll=False), range(8)))
            assert waits == pytest.approx([LONG * number for number in range(8)], abs=BUSY)


def test_slots_of_processes_are_an_interval_apart(url: str, at_once: Callable[..., list[Any]]) -> None:
    of_processes = at_once(ledger_workers.reserve_slots, [(url, "account", LONG, 8)] * 4)
    slots = sorted(slot for of_one in of_processes for slot in of_one)
    assert [slot - slots[0] for slot in slots] == pytest.approx([LONG * number for number in range(32)], abs=BUSY)


def test_push_back_moves_every_process_of_the_account(opened: Ledger) -> None:
    one, two = opened.pace("account", 0.1, 5), opened.pace("account", 0.1, 5)
    one.push_back(LONG)
    assert two.reserve(poll=False) == pytest.approx(LONG, abs=BUSY)
    assert one.reserve(poll=False) == pytest.approx(LONG, abs=BUSY)


def test_a_shorter_push_back_does_not_bring_slots_forward(opened: Ledger) -> None:
    pace = opened.pace("account", 0.1, 5)
    pace.push_back(LONG)
    pace.push_back(1)
    assert pace.reserve(poll=False) > LONG - BUSY


@on_sql
def test_a_free_slot_and_the_send_that_takes_it_are_committed_together(opened: Ledger) -> None:
    pace, other = opened.pace("account", LONG, 5), opened.pace("other", LONG, 5)

    def push_other(connection: Connection) -> None:
        connection.execute(update(pace_table).where(pace_table.c.account == "other").values(tat=0.0, slot=77.0))

    for each in (pace, other):
        each.reserve(poll=False)
    free_a_slot(opened)
    assert pace.take(Committed(push_other))
    assert slot_of(opened, "other") == 77


def test_take_does_not_reserve_a_slot_that_comes_later(opened: Ledger) -> None:
    pace = opened.pace("account", LONG, 5)
    pace.reserve(poll=False)
    assert not pace.take(Committed(refuse))
    assert pace.reserve(poll=False) == pytest.approx(LONG, abs=BUSY)


@on_sql
def test_of_sixteen_threads_one_takes_a_free_slot(opened: Ledger) -> None:
    pace, taken = opened.pace("account", LONG, 5), []
    pace.reserve(poll=False)
    free_a_slot(opened)
    with ThreadPoolExecutor(16) as pool:
        had = list(pool.map(lambda n: pace.take(Committed(lambda connection: taken.append(n), f"{n}")), range(16)))
    assert sum(had) == len(taken) == 1
    assert pace.reserve(poll=False) == pytest.approx(LONG, abs=BUSY)


@on_sql
def test_a_free_slot_is_given_back_if_the_commit_of_its_send_fails(opened: Ledger) -> None:
    pace = opened.pace("account", LONG, 5)
    pace.reserve(poll=False)
    free_a_slot(opened)
    taken = slot_of(opened, "account")
    with pytest.raises(KeyError):
        pace.take(Committed(refuse))
    assert slot_of(opened, "account") == taken


class Committed:
    """A row that is committed together with a slot, as a send is."""

    def __init__(self, commit: Callable[[Any], Any], row: str = "key") -> None:
        self.commit_posting, self.row = commit, row


def refuse(connection: Connection) -> None:
    raise KeyError


def free_a_slot(ledger: Ledger) -> None:
    """As if an interval had passed."""
    now_free = update(pace_table).where(pace_table.c.account == "account").values(tat=0.0)
    ledger._database.run(lambda connection: connection.execute(now_free))


def slot_of(ledger: Ledger, account: str) -> float:
    query = select(pace_table.c.slot).where(pace_table.c.account == account)
    return float(ledger._database.run(lambda connection: connection.execute(query).scalar_one()))


def test_accounts_do_not_share_a_pace(opened: Ledger) -> None:
    opened.pace("busy", LONG, 5).push_back(LONG)
    idle = opened.pace("idle", LONG, 5)
    lead = idle.lead
    assert idle.reserve(poll=False) < CLOCK_ERROR + lead
    assert opened.pace("busy", LONG, 5).reserve(poll=False) > LONG - BUSY


def test_idle_time_is_not_saved_up_for_a_burst(opened: Ledger) -> None:
    slow, fast = opened.pace("account", 0.0, 5), opened.pace("account", LONG, 5)
    lead = fast.lead
    slow.reserve(poll=False)
    assert fast.reserve(poll=False) < CLOCK_ERROR + lead
    assert fast.reserve(poll=False) == pytest.approx(LONG, abs=BUSY)


def test_three_processes_call_at_the_published_rate_and_never_faster(
    ledger: dict[str, Any], at_once: Callable[..., list[Any]]
) -> None:
    with Sandbox(rate=0) as sandbox:
        connection = {"conn_type": "sendoso", "host": sandbox.url, "login": "sandbox", "password": "sandbox"}
        connections = {"sendoso_default": connection, "sendoso_ledger": ledger}
        slots = sorted(slot for each in at_once(ledger_workers.read, [(connections, 8)] * 3) for slot in each)
        times = sorted(request.received_at for request in sandbox.requests if request.path == me_request().path)
    assert len(slots) == len(times) == 24
    # Ten slots later is a second later, and nothing comes before its slot. A busy machine lets it come later than that,
    # and closer to what follows: so an arrival is compared with a slot.
    assert all(arrived - slot >= 1.0 for slot, arrived in zip(slots, times[10:], strict=False))
    assert times[-1] - times[0] < 25 * 0.105 + 15, "it did not use the rate that is there"
