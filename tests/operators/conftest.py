"""Fixtures that run operators as Airflow does, with the part of a task instance that they use, and read the logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from buckets import SQLITE_OR_BUCKET, small_ledger
from tenacity import wait_none

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator


class FakeTI:
    def __init__(self, run_id: str, map_index: Any = -1) -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "dag", "gifts", run_id, map_index
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


@pytest.fixture
def ti() -> type[FakeTI]:
    return FakeTI


@pytest.fixture(params=SQLITE_OR_BUCKET)
def ledger_connection(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """One database only, because operators do not depend on the ledger's database; the ledger's tests run on each."""
    return small_ledger(request.param, tmp_path)


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())


@pytest.fixture
def people() -> Callable[[int], list[dict[str, Any]]]:
    def make(count: int) -> list[dict[str, Any]]:
        return [
            {"first_name": f"Ada{n}", "last_name": f"Lovelace{n}", "email": f"ada{n}@example.com"}
            for n in range(1, count + 1)
        ]

    return make


@pytest.fixture
def batch(people: Callable[[int], list[dict[str, Any]]]) -> Callable[..., BatchSendOperator]:
    """Makes a batch, of three recipients unless the arguments say otherwise."""

    def make(**changes: Any) -> BatchSendOperator:
        arguments = {
            "task_id": "gifts",
            "gift_id": "gift-donation-trees",
            "message": "Thank you",
            "dedupe_scope": "q4",
            "claim_timeout": 1,
        }
        if "sql" not in changes:
            arguments["recipients"] = people(3)
        return BatchSendOperator(**(arguments | changes))

    return make


@pytest.fixture
def gift(people: Callable[[int], list[dict[str, Any]]]) -> Callable[..., SendGiftOperator]:
    """Makes a send to one recipient."""

    def make(**changes: Any) -> SendGiftOperator:
        arguments = {
            "task_id": "thank",
            "gift_id": "gift-donation-trees",
            "recipient": people(1)[0],
            "message": "Thank you",
            "dedupe_scope": "thanks",
            "claim_timeout": 1,
        }
        return SendGiftOperator(**(arguments | changes))

    return make


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], AbstractContextManager[None]]:
    """Lets a kind of spool find its disk full when one of its methods is called."""

    @contextmanager
    def make(kind: type, method: str) -> Iterator[None]:
        real = getattr(kind, method)

        def on_a_full_disk(spool: Any, *arguments: Any) -> Any:
            spool._db.executescript("PRAGMA max_page_count = 1")  # or as many as it has already
            return real(spool, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(kind, method, on_a_full_disk)
            yield

    return make


@pytest.fixture
def execute() -> Callable[..., Any]:
    """Runs an operator as a task of some run."""
    return lambda operator, run_id="run-1": operator.execute({"ti": FakeTI(run_id)})


@pytest.fixture
def read_logs(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Everything that was logged, through Airflow's task logger or Python's."""

    def read() -> str:
        out, err = capfd.readouterr()
        # Airflow 2 prints everything, also what caplog has.
        return out + err + (caplog.text if AIRFLOW_V_3_0_PLUS else "")

    return read
