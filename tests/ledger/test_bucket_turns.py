"""The turns of a machine's processes: they save work, and nothing waits for a process that is frozen for long."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sendoso.ledger.bucket import turns
from airflow_provider_sendoso.ledger.bucket.turns import MachineTurn

ADDRESS = "s3://bucket/of-the-turns"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def hold(folder: str, held: Any) -> None:
    """Have the turn until killed."""
    tempfile.tempdir = folder
    with MachineTurn(ADDRESS)():
        held.set()
        time.sleep(600)


@pytest.fixture
def frozen(tmp_path: Path, forkserver: ForkServerContext) -> Iterator[int]:
    """A process that has the turn, and is stopped."""
    held = forkserver.Event()
    process = forkserver.Process(target=hold, args=(str(tmp_path), held))
    process.start()
    assert held.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    yield process.pid
    process.kill()
    process.join()


def test_a_frozen_process_keeps_the_turn_no_longer_than_its_limit(frozen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST", 0.3)
    began = time.monotonic()
    with MachineTurn(ADDRESS)():
        waited = time.monotonic() - began
    assert waited < 30
    with MachineTurn("s3://bucket/another")():  # another ledger's turn is its own
        pass


def test_processes_that_take_their_turns_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are: who did not wait would have to do its work again."""
    monkeypatch.setattr(turns, "_LONGEST", 0.5)
    turn, order = MachineTurn(ADDRESS), []

    def take(number: int) -> None:
        with turn():
            order.append(number)
            time.sleep(0.2)
            order.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(take, range(8)))
    assert order[::2] == order[1::2]


def test_a_killed_process_gives_the_turn_back(frozen: int) -> None:
    os.kill(frozen, signal.SIGKILL)
    began = time.monotonic()
    with MachineTurn(ADDRESS)():
        pass
    assert time.monotonic() - began < turns._LONGEST


def test_a_turn_is_given_back_after_an_error(tmp_path: Path) -> None:
    turn = MachineTurn(ADDRESS)
    with pytest.raises(KeyError), turn():
        raise KeyError
    with turn._file.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_during_a_turn_does_not_keep_it() -> None:
    turn = MachineTurn(ADDRESS)
    end, begin = os.pipe()
    with turn():
        child = os.fork()
        if child == 0:
            os.close(begin)
            os.read(end, 1)
            os._exit(0)
    try:
        with turn._file.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(begin)
        os.close(end)
        os.waitpid(child, 0)


def test_a_machine_without_a_folder_for_temporary_files_has_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with MachineTurn(ADDRESS)(), MachineTurn(ADDRESS)():
        pass


def test_nobody_waits_for_a_turn_that_was_taken_before_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 20.0)
    turn, began = MachineTurn(ADDRESS), time.monotonic()
    with turn():
        os.utime(turn._file, (time.time() + 3600, time.time() + 3600))
        with MachineTurn(ADDRESS)():
            waited = time.monotonic() - began
    assert waited < turns._PATIENCE
