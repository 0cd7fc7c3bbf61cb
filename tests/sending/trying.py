"""What the tests of the protocol say about a try of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.sandbox import Sandbox

SENDS = "/api/v3/sends"
SCOPE = "q4"


@dataclass
class Try:
    """How one try of a batch ended; two are equal if they counted and raised the same."""

    error: str
    counts: dict[str, int]
    raised: SendosoError | None = field(default=None, compare=False)


class FakeTI:
    def __init__(self, run_id: str) -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "dag", "gifts", run_id, -1
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


def people(count: int) -> list[dict[str, Any]]:
    return [{"first_name": "Ada", "last_name": f"L{n}", "email": f"ada{n}@example.com"} for n in range(count)]


def posts(sandbox: Sandbox) -> int:
    return sum(request.method == "POST" and request.path == SENDS for request in sandbox.requests)
