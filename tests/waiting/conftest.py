"""Fixtures: sends to wait for, and sensors with short time-outs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from tenacity import wait_none

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Batch, State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).parent))  # for ``watchers``


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
    """A Sendoso whose sends keep their status until a test changes it."""
    with Sandbox(step=1000, rate=0) as sandbox:
        set_connection(
            "sendoso_default",
            {
                "conn_type": "sendoso",
                "host": sandbox.url,
                "login": "sandbox",
                "password": "sandbox",
                "extra": {"requests_per_second": 500, "timeout": 60},
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

        def xcom_push(self, key: str, value: Any) -> None:
            pass

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


@pytest.fixture
def recorded(patient: Sandbox, ledger: Any) -> Callable[..., list[str]]:
    """
    Puts a batch of many sends into the sandbox and the ledger, without sending them one by one.

    Their status at Sendoso is the first argument's, the ledger has never read it; returns their ids.
    """

    def make(
        count: int, status: str | None = None, *, batch_id: str = "batch-1", known: str | None = None
    ) -> list[str]:
        app, hook = patient._app, SendosoHook()
        account, book = hook.config.account, hook.ledger

        def accept() -> list[str]:
            body = {"gift_id": "gift-mug", "email": "ada@example.com", "first_name": "Ada", "last_name": "L"}
            ids = [app.account.accept(body, "sandbox").id for _ in range(count)]
            if status is not None:
                for send_id in ids:
                    app.account.finish(send_id, status)
            return ids

        ids = patient._ask(accept)
        book.sends.open_batch(Batch(batch_id, account, "q4", "email", "campaign", "gifts", "run-1", -1))
        now = time.time()
        row = {"account": account, "dedupe_scope": "q4", "state": State.SENT, "attempt": 1, "lease_until": 0.0}
        row |= {"batch_id": batch_id, "gift_id": "gift-mug", "payload_hash": "p", "created_at": now, "posted_at": now}
        row |= {"status": known, "status_at": now if known else None}
        rows = [row | {"send_key": book.send_key(account, "q4", send_id), "send_id": send_id} for send_id in ids]
        book._database.run(lambda connection: connection.execute(insert(sends), rows))
        if book._database.dialect == "postgresql":
            # What PostgreSQL does by itself within a minute: till then it takes ten times as long to find so many ids.
            book._database.run(lambda connection: connection.execute(text("ANALYZE sendoso_sends")))
        return ids

    return make


@pytest.fixture
def in_ledger(ledger: Any) -> Callable[[], Counter[str | None]]:
    """Counts the ledger's sends by status."""

    def count() -> Counter[str | None]:
        return Counter(record.status for record in SendosoHook().ledger.sends.records(State.SENT))

    return count
