"""All tries of a task use the same ledger: it is recorded, and a try with another ledger fails with an error."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow 3.3 is the first with a store for tasks")

GONE = "No earlier try of this task has noted its ledger"


class Store:
    """Airflow's store, which drops what is older than 30 days unless it is told otherwise."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.retention: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        self.kept[key], self.retention = value, retention


@pytest.fixture(params=["gift", "batch"])
def go(request: pytest.FixtureRequest, sendoso: Sandbox, ledger: Any) -> Callable[..., Any]:
    """Runs a try of a task."""
    make = request.getfixturevalue(request.param)

    def run(store: Store, try_number: int = 1, max_tries: int = 2) -> Any:
        ti = SimpleNamespace(dag_id="dag", task_id="gifts", run_id="run-1", map_index=-1, try_number=try_number)
        ti.max_tries, ti.task, ti.xcom_push = max_tries, SimpleNamespace(retries=2), lambda key, value: None
        return make(dedupe_scope="q4").execute({"ti": ti, "dag_run": ti, "task_state_store": store})

    return run


def test_the_note_of_the_ledger_in_use_never_expires(go: Callable[..., Any]) -> None:
    store = Store()
    go(store)
    assert store.kept
    assert store.retention == timedelta.max


def test_a_second_try_on_another_ledger_is_refused(
    go: Callable[..., Any], set_connection: Callable[..., None], tmp_path: Path, sendoso: Sandbox
) -> None:
    store = Store()
    go(store)
    sent = len(sendoso.sends)
    set_connection("sendoso_ledger", {"conn_type": "sqlite", "host": str(tmp_path / "another.db")})
    with pytest.raises(SendosoConfigError, match="An earlier try of this task used the ledger"):
        go(store, 2)
    assert len(sendoso.sends) == sent


def test_a_note_that_is_gone_is_reported_and_written_again(
    go: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    go(store)
    noted = dict(store.kept)
    assert GONE not in "".join(capfd.readouterr())
    store.kept.clear()  # `airflow state-store clean`, for example
    go(store, 2)
    assert GONE in "".join(capfd.readouterr())
    assert store.kept == noted
    go(store, 3)
    assert GONE not in "".join(capfd.readouterr())


def test_a_cleared_task_is_not_taken_for_a_second_try(
    go: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    go(Store(), 4, max_tries=5)
    assert GONE not in "".join(capfd.readouterr())
