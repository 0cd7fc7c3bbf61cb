"""Ledgers without Airflow, on each database that a ledger can be, and real processes that share them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

sys.path.insert(0, str(Path(__file__).parent))
import ledger_workers
from ledger_places import LEDGER_KINDS

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.schema import sends


@pytest.fixture(params=LEDGER_KINDS)
def ledger_connection(request: pytest.FixtureRequest, empty_ledger: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The connection of a ledger database, without tables for those tests that open it themselves."""
    return empty_ledger(request.param, tables="opened" in request.fixturenames)


@pytest.fixture
def url(ledger_connection: dict[str, Any]) -> str:
    return ledger_workers.ledger_url(ledger_connection)


@pytest.fixture
def opened(url: str) -> Iterator[Ledger]:
    """An open, empty ledger."""
    ledger = ledger_workers.open_ledger(url)
    yield ledger
    ledger._database.engine.dispose()


@pytest.fixture
def lapse(opened: Ledger) -> Callable[[], None]:
    """Lets every lease of the ledger lapse, as if time had passed."""
    return lambda: opened._database.run(lambda connection: connection.execute(update(sends).values(lease_until=0.0)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that gives up on its database at once."""
    monkeypatch.setattr(Database.run, "__defaults__", (0.2, None))
    monkeypatch.setattr("airflow_provider_sendoso.ledger.sessions.BUSY_TIMEOUT_MS", 50)


@pytest.fixture
def at_once(forkserver: ForkServerContext) -> Callable[..., list[Any]]:
    """Runs a function in several processes that start together; returns what they returned, in order."""

    def run(function: Callable[..., Any], arguments: Sequence[Sequence[Any]]) -> list[Any]:
        barrier, results = forkserver.Barrier(len(arguments)), forkserver.Queue()
        processes = [
            forkserver.Process(
                target=ledger_workers.run_together, args=(barrier, results, number, function, tuple(those))
            )
            for number, those in enumerate(arguments)
        ]
        for process in processes:
            process.start()
        returned = dict(results.get(timeout=300) for _ in processes)
        for process in processes:
            process.join(10)
        for result in returned.values():
            if isinstance(result, BaseException):
                raise result
        return [returned[number] for number in range(len(processes))]

    return run
