"""Processes that write to one bucket and are killed at any moment: the log stays whole, and nothing counts twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import ledger_workers
import pytest
from buckets import folder_engine
from shaky_bucket import of, rows
from sqlalchemy import func, select

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.bucket import log as logs
from airflow_provider_sendoso.ledger.schema import cursors


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file://{tmp_path}/ledger"


def counted(address: str) -> tuple[int, int]:
    """What was counted, and how many have noted that they did."""
    number = select(cursors.c.version).where(cursors.c.name == "count")
    notes = select(func.count()).where(cursors.c.name != "count")
    database = Ledger(folder_engine(address))._database
    return database.run(
        lambda connection: (connection.execute(number).scalar() or 0, connection.execute(notes).scalar_one())
    )


def whole(address: str) -> list[str]:
    """See that the log has no hole and that each way to read it gives the same; return the names of its objects."""
    folder = Path(address.removeprefix("file://"))
    names = sorted(path.name for path in (folder / "log").iterdir() if "#" not in path.name)
    assert [int(name) for name in names] == list(range(1, len(names) + 1))
    with_packs = of(folder_engine(address))
    for kind in ("packs", "snapshots"):
        for path in (folder / kind).iterdir() if (folder / kind).exists() else ():
            path.unlink()
    without = of(folder_engine(address))
    with_packs._catch_up()
    assert rows(with_packs) == rows(without)
    return names


def test_processes_killed_at_any_moment_leave_a_whole_log_and_count_each_change_once(
    address: str, forkserver: ForkServerContext
) -> None:
    chance, killed = random.Random(7), 0
    folder_engine(address)
    for _ in range(6):
        processes = [forkserver.Process(target=ledger_workers.count_up, args=(address, 400)) for _ in range(3)]
        for process in processes:
            process.start()
        before = counted(address)[0]
        while counted(address)[0] < before + 12:
            time.sleep(0.01)
        time.sleep(chance.random() / 5)
        for process in processes:
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
    number, notes = counted(address)
    assert killed >= 12
    assert number == notes >= 72
    assert len(whole(address)) > number


def test_processes_at_once_count_each_change_once(address: str, at_once: Callable[..., list[Any]]) -> None:
    at_once(ledger_workers.count_up, [(address, 60)] * 3)
    assert counted(address) == (180, 180)
    assert len(whole(address)) > logs.PACK
