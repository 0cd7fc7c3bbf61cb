"""Sends to wait for, and sensors with short patience."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tenacity import wait_none

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read is made once, so that a look that fails fails soon."""
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.ATTEMPTS", 1)


@pytest.fixture
def ledger_connection(tmp_path: Path) -> dict[str, Any]:
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


@pytest.fixture
def patient(set_connection: Callable[..., None]) -> Any:
    """A Sendoso whose sends stay where they are until they are told to go on."""
    with Sandbox(step=1000, rate=0) as sandbox:
        set_connection(
            "sendoso_default",
            {
                "conn_type": "sendoso",
                "host": sandbox.url,
                "login": "sandbox",
                "password": "sandbox",
                "extra": {"requests_per_second": 500, "timeout": 2},
            },
        )
        yield sandbox


@pytest.fixture
def sent(patient: Sandbox) -> Callable[..., list[str]]:
    """Sends gifts that end in the given statuses; returns their ids."""

    def make(*statuses: str | None) -> list[str]:
        recipient = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
        ids = []
        for status in statuses:
            send = SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=recipient, message="Hi")
            if status is not None:
                patient.finish(send.id, status)
            ids.append(send.id)
        return ids

    return make


@pytest.fixture
def sent_batch(patient: Sandbox, ledger: Any) -> Callable[..., dict[str, Any]]:
    """Sends a batch whose sends end in the given statuses; returns its summary."""

    class TI:
        dag_id, task_id, run_id, map_index = "dag", "gifts", "run-1", -1

    def make(*statuses: str | None) -> dict[str, Any]:
        recipients = [
            {"first_name": "Ada", "last_name": "L", "email": f"ada{number}@example.com"}
            for number in range(len(statuses))
        ]
        operator = BatchSendOperator(
            task_id="gifts",
            recipients=recipients,
            gift_id="gift-donation-trees",
            message="Hi",
            dedupe_scope="q4",
        )
        summary = operator.execute({"ti": TI()})
        for send, status in zip(patient.sends, statuses, strict=True):
            if status is not None:
                patient.finish(send.id, status)
        return summary

    return make
