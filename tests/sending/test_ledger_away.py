"""A ledger that does not answer during a batch is logged every few seconds, and the batch goes on afterwards."""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trying

from airflow_provider_sendoso.ledger import outages, sessions
from airflow_provider_sendoso.sandbox import Sandbox

LINE = r"Waiting for the ledger's database since \d\d:\d\d:\d\d UTC, \d+ s by now, and at most \d+ s more\."


def test_a_batch_that_waits_for_its_ledger_logs_it_repeatedly(
    sendoso: Sandbox,
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sessions, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(outages, "_EVERY", 0.1)
    set_connection("sendoso_ledger", {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")})
    said: list[str] = []

    def away() -> None:
        """Lock the database while the second POST is being answered, until three lines were logged."""
        until(lambda: trying.posts(sendoso) == 2)
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, timeout=60)
        other.execute("BEGIN EXCLUSIVE")
        try:
            until(lambda: len(lines(caplog)) >= 3, patience=12)  # before the run renews its leases, and waits itself
        finally:
            said.extend(lines(caplog))
            other.close()

    sendoso.fault("slow", times=2, method="POST", path=trying.SENDS, delay=0.5)
    thread = threading.Thread(target=away)
    with caplog.at_level(logging.WARNING, "airflow_provider_sendoso"):
        thread.start()
        result: Any = trying.one_try(5)
    thread.join(60)
    assert result == trying.Try("", {"sent": 5})
    assert len(said) >= 3
    assert all(re.fullmatch(LINE, line) for line in said)
    assert len(sendoso.sends) == 5


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == outages.__name__]
