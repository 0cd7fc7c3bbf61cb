"""Runs in real processes, at once and killed at any moment: each recipient gets one gift, and the counts add up.

What a kill at each step of the protocol leaves behind is in ``tests/sending/test_sending_crash_points.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from typing import Any

import ledger_workers
import pytest

from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.sandbox import Sandbox


@pytest.fixture
def connections(sendoso: Sandbox, ledger: dict[str, Any]) -> dict[str, Any]:
    connection = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
    extra = {"requests_per_second": 200, "timeout": 30}
    return {"sendoso_default": connection | {"extra": extra}, "sendoso_ledger": ledger}


@pytest.fixture
def try_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Runs a batch in this process; the worker's changes to the shortest leases end with the test."""
    monkeypatch.setattr("airflow_provider_sendoso.runs.base._SHORTEST_LEASE", 0.1)
    monkeypatch.setattr("airflow_provider_sendoso.sending.posting._MARGIN", 0.1)
    return ledger_workers.send_batch


def counts(summary: dict[str, Any]) -> dict[str, int]:
    """The counts that are not 0; all seven have to add up to the rows."""
    assert sum(summary[outcome] for outcome in RowOutcome) == summary["rows"]
    return {outcome.value: summary[outcome] for outcome in RowOutcome if summary[outcome]}


def test_two_processes_over_one_scope_send_each_recipient_one_gift(
    connections: dict[str, Any], sendoso: Sandbox, at_once: Callable[..., list[Any]]
) -> None:
    everybody = ledger_workers.people(60)
    runs = [(connections, "run-1", everybody), (connections, "run-2", everybody[::-1])]
    results = at_once(ledger_workers.send_batch, runs)
    assert len(sendoso.sends) == 60
    assert sendoso.duplicates() == {}
    assert [error for error, _ in results] == ["", ""]
    assert sum(counts(summary).get("sent", 0) for _, summary in results) == 60
    assert all(summary["sent"] + summary["already_sent"] == 60 for _, summary in results)


def test_four_threads_over_one_scope_send_each_recipient_one_gift(
    connections: dict[str, Any], sendoso: Sandbox, try_here: Callable[..., Any]
) -> None:
    everybody = ledger_workers.people(20)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: try_here(connections, f"run-{n}", everybody), range(4)))
    assert len(sendoso.sends) == 20
    assert sendoso.duplicates() == {}
    assert sum(summary["sent"] for _, summary in results) == 20
    assert all(summary["sent"] + summary["already_sent"] == 20 for _, summary in results)


def test_of_two_tries_of_the_same_task_at_once_the_newer_one_sends_and_the_older_one_pushes_nothing(
    connections: dict[str, Any], sendoso: Sandbox, at_once: Callable[..., list[Any]]
) -> None:
    sendoso.fault("slow", times=30, method="POST", path="/api/v3/sends", delay=0.1)  # or one could end before the other
    results = at_once(ledger_workers.send_batch, [(connections, "run-1", ledger_workers.people(30))] * 2)
    assert len(sendoso.sends) == 30
    assert sendoso.duplicates() == {}
    by_error = dict(results)
    assert by_error.keys() == {"", "SendosoSupersededError"}
    assert counts(by_error[""]) == {"sent": 30}
    assert by_error["SendosoSupersededError"] == {}


def test_claims_that_lapse_while_their_run_lives_are_taken_over_and_nobody_gets_two_gifts(
    connections: dict[str, Any], sendoso: Sandbox, at_once: Callable[..., list[Any]]
) -> None:
    everybody = ledger_workers.people(12)
    sendoso.fault("slow", times=4, method="POST", path="/api/v3/sends", delay=0.4)
    runs = [(connections, "run-1", everybody, 0.1), (connections, "run-2", everybody, 0.1)]
    results = at_once(ledger_workers.send_batch, runs)
    assert sendoso.duplicates() == {}
    assert len(sendoso.sends) == 12
    assert all(sum(counts(summary).values()) == 12 for _, summary in results)


@pytest.mark.slow
def test_runs_killed_at_any_moment_keep_a_limit_and_use_it_up(
    connections: dict[str, Any],
    sendoso: Sandbox,
    try_here: Callable[..., Any],
    lapse: Callable[[], None],
    forkserver: ForkServerContext,
) -> None:
    connections["sendoso_default"]["extra"] |= {"max_sends_per_day": 20, "min_days_between_gifts": 90}
    sendoso.fault("slow", times=10_000, method="POST", delay=0.02)
    runs = [(connections, f"run-{n}", ledger_workers.people(60)[n::2]) for n in range(2)]
    for kill_after in (5, 12):
        processes = [forkserver.Process(target=ledger_workers.send_batch, args=run) for run in runs]
        for process in processes:
            process.start()
        while len(sendoso.sends) < kill_after:
            time.sleep(0.005)
        for process in processes:
            process.kill()
            process.join()
        lapse()
    sendoso.clear_faults()
    ends = [try_here(*run) for run in runs]
    assert "SendosoLimitError" in [error for error, _ in ends]
    assert sendoso.duplicates() == {}
    held = sum(counts(summary).get("held", 0) for _, summary in ends)
    # What was killed before it arrived is held, and keeps its place.
    assert len(sendoso.sends) + held == 20


def test_a_run_killed_at_any_moment_is_finished_by_the_next_try(
    connections: dict[str, Any],
    sendoso: Sandbox,
    try_here: Callable[..., Any],
    lapse: Callable[[], None],
    forkserver: ForkServerContext,
) -> None:
    sendoso.fault("slow", times=10_000, method="POST", delay=0.02)
    batch = (connections, "run-1", ledger_workers.people(30))
    for kill_after in (5, 18):
        process = forkserver.Process(target=ledger_workers.send_batch, args=batch)
        process.start()
        while len(sendoso.sends) < kill_after:
            assert process.is_alive()
            time.sleep(0.005)
        process.kill()
        process.join()
        lapse()
    sendoso.clear_faults()
    _, summary = try_here(*batch)
    assert sendoso.duplicates() == {}
    # An accepted send is found by its mark; only sends that never arrived are held.
    assert set(counts(summary)) <= {"sent", "held"}
    assert summary["sent"] == len(sendoso.sends)
    assert summary["held"] <= 2 * 4
