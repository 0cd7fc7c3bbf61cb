"""What one sees of a wait before its end: a line in the log for each change, and the results table up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from watchers import fire, trigger

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.runs import results_refresh
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

TABLE = {"results_table": "results", "conn_id": "warehouse"}


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.triggers.sendoso._SHORTEST_PAUSE", 0.02)


class TI:
    dag_id, task_id, run_id, map_index = "dag", "gifts", "run-1", -1

    def xcom_push(self, key: str, value: Any) -> None:
        pass


@pytest.fixture
def batch_id(patient: Sandbox, ledger: Any, set_connection: Callable[..., None], tmp_path: Path) -> str:
    """Two gifts, with their rows in a results table."""
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    people = [{"first_name": "A", "last_name": "B", "email": f"ada{number}@example.com"} for number in range(2)]
    gift = {"gift_id": "gift-donation-trees", "message": "Hi", "dedupe_scope": "q4"}
    return str(BatchSendOperator(task_id="gifts", recipients=people, **gift, **TABLE).execute({"ti": TI()})["batch_id"])


def statuses() -> list[str]:
    rows = SqliteHook("warehouse").get_records("SELECT status FROM results ORDER BY row_number")
    return [row[0] for row in rows]


async def until(reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not await asyncio.to_thread(reached):
        assert time.monotonic() < give_up
        await asyncio.sleep(0.05)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in (entry.getMessage() for entry in caplog.records) if text.startswith("Sends by status")]


@pytest.mark.parametrize("silence", [3600.0, 0.0])
async def test_the_trigger_logs_each_change_and_speaks_up_after_a_long_silence(
    patient: Sandbox,
    batch_id: str,
    silence: float,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.triggers.sendoso._SILENCE", silence)
    caplog.set_level(logging.INFO)
    waiting = asyncio.create_task(fire(trigger(batch_id=batch_id)))
    await until(lambda: bool(lines(caplog)))
    await asyncio.to_thread(patient.finish, patient.sends[0].id, "shipped")
    await until(lambda: "1 shipped" in str(lines(caplog)))
    for sent in patient.sends:
        await asyncio.to_thread(patient.finish, sent.id, "delivered")
    assert (await waiting)["status"] == "settled"
    different = [line for line, before in zip(lines(caplog), ["", *lines(caplog)], strict=False) if line != before]
    assert (len(lines(caplog)) == len(different)) is (silence > 0)
    assert different[0] == "Sends by status: 2 pending."
    assert "1 shipped" in different[1]


async def test_the_trigger_updates_the_results_table_on_the_way_at_most_once_an_hour(
    patient: Sandbox, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.create_task(fire(trigger(batch_id=batch_id, **TABLE)))
    await asyncio.to_thread(patient.finish, patient.sends[0].id, "processing")
    await until(lambda: "processing" in statuses())
    await asyncio.to_thread(patient.finish, patient.sends[0].id, "shipped")
    await asyncio.sleep(1)
    assert await asyncio.to_thread(statuses) == ["processing", "pending"]
    monkeypatch.setattr(results_refresh, "_EVERY", 0.0)
    await until(lambda: statuses() == ["shipped", "pending"])
    waiting.cancel()


def test_a_poke_updates_the_results_table_on_the_way(patient: Sandbox, batch_id: str) -> None:
    sensor = SendStatusSensor(task_id="arrived", deferrable=False, poke_interval=0.01, batch_id=batch_id, **TABLE)
    patient.finish(patient.sends[1].id, "shipped")
    time.sleep(0.1)  # until it is due again
    assert not sensor.poke({"ti": TI()})  # type: ignore[typeddict-item]
    assert statuses() == ["pending", "shipped"]


async def test_a_results_table_that_cannot_be_written_on_the_way_does_not_end_the_wait(
    patient: Sandbox, batch_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(SqliteHook("warehouse").run, "DROP TABLE results")
    await asyncio.to_thread(patient.finish, patient.sends[0].id, "processing")
    waiting = asyncio.create_task(fire(trigger(batch_id=batch_id, **TABLE)))
    await until(lambda: "The results table is not up to date; the wait goes on" in caplog.text)
    for sent in patient.sends:
        await asyncio.to_thread(patient.finish, sent.id, "delivered")
    assert (await waiting)["status"] == "settled"
