"""docs/operators.md: the log of a batch that it shows is that of a real one, but for times, keys and ids."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sendoso.exceptions import SendosoAuthError
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox

PAGE = (Path(__file__).parents[2] / "docs" / "operators.md").read_text(encoding="utf-8")
POST = {"method": "POST", "path": "/api/v3/sends"}


@pytest.fixture
def ledger_connection(tmp_path: Path) -> dict[str, Any]:
    """One database only: what a log says does not depend on it."""
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


class FakeTI:
    dag_id, task_id, run_id, map_index = "q4_gifts", "gifts", "run-1", -1

    def xcom_push(self, key: str, value: Any) -> None:
        """Nothing waits for it."""


def person(number: int, **changes: Any) -> dict[str, Any]:
    row = {"first_name": "Ada", "last_name": "Lovelace", "email": f"ada{number}@example.com"}
    return row | {"customer_id": f"C-{1000 + number}"} | changes


def alike(text: str) -> str:
    """A text without what differs from run to run."""
    for pattern in (r"\b[0-9a-f]{12,32}\b", r"\d{4}-\d\d-\d\dT[\d:]+\+00:00", r"\d:\d\d:\d\d"):
        text = re.sub(pattern, "…", text)
    return text


def test_the_log_of_the_docs_is_that_of_a_batch_that_met_every_fault(
    sendoso: Sandbox, ledger: Any, set_connection: Callable[..., None]
) -> None:
    people = [person(number) for number in range(1, 13)]
    people[1]["email"] = people[5]["email"] = "unknown"
    people[3]["first_name"] = None
    people[4]["email"] = people[0]["email"]
    sendoso.fault("slow", delay=0, **POST)
    sendoso.fault("error_before", times=2, **POST)
    sendoso.fault("status", status=422, body={"message": "This gift is not sent to that country"}, **POST)
    sendoso.fault("slow", delay=0, **POST)
    sendoso.fault("status", status=403, body={"message": "The account may not send"}, **POST)
    batch = BatchSendOperator(
        task_id="gifts",
        gift_id="gift-donation-trees",
        message="Thank you",
        dedupe_scope="q4-champions",
        recipients=people,
        row_ref="customer_id",
        max_in_flight=1,
        claim_timeout=1,
    )
    with pytest.raises(SendosoAuthError) as caught:
        batch.execute({"ti": FakeTI()})
    (shown,) = [text for text in re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S) if "What to do now:" in text]
    error, *report = shown.splitlines()
    assert error.startswith("SendosoAuthError: ")
    assert alike("\n".join(report)) == alike("\n".join(caught.value.report)), "\n".join(caught.value.report)
    assert "example.com" not in shown
