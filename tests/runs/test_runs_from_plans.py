"""Runs work from plans alone: no operator is used, and none is imported."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_sendoso.runs
from airflow_provider_sendoso.batch.limits import Limits
from airflow_provider_sendoso.batch.row_reader import Layout
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLimitError, SendosoNotReachedError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.models import GiftSend
from airflow_provider_sendoso.runs.base import SendPlan
from airflow_provider_sendoso.runs.batch import BatchRun
from airflow_provider_sendoso.runs.batch_plan import BatchPlan
from airflow_provider_sendoso.runs.gift import GiftPlan, GiftRun
from airflow_provider_sendoso.runs.single_gift import OneGift
from airflow_provider_sendoso.runs.task import Task
from airflow_provider_sendoso.sandbox import Sandbox

GIFT = "gift-donation-trees"
LAYOUT = Layout({"gift_id": GIFT, "message": "Thank you, {first_name}."})
PEOPLE = [{"first_name": name, "last_name": "L", "email": f"{name}@example.com"} for name in ("ada", "grace")]


pytestmark = pytest.mark.usefixtures("ledger")


@pytest.fixture
def ledger_connection(tmp_path: Path) -> dict[str, Any]:
    """One database only, because a run does not depend on the ledger's database."""
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


class TaskInstance:
    dag_id, task_id, run_id, map_index = "dag", "gifts", "run-1", -1

    def __init__(self) -> None:
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


def task(**changes: Any) -> Task:
    context: Any = {"ti": TaskInstance()}
    return Task(context, SendosoHook(), logging.getLogger("task"), "Test", **changes)


def test_a_plan_of_a_batch_is_sent_without_an_operator(sendoso: Sandbox) -> None:
    run = BatchRun(BatchPlan(dedupe_scope="q4", layout=LAYOUT, recipients=[*PEOPLE, PEOPLE[0]]), task())
    summary = run.execute()
    assert (summary["sent"], summary["duplicate"], summary["rows"]) == (2, 1, 3)
    assert [send.body["message"] for send in sendoso.sends] == ["Thank you, ada.", "Thank you, grace."]
    assert run.sent is not None
    assert run.sent[1] == 2


def test_a_batch_that_fails_pushes_what_it_would_return(sendoso: Sandbox) -> None:
    plan = BatchPlan(dedupe_scope="q4", layout=LAYOUT, recipients=PEOPLE, limits=Limits(max_sends=1))
    given = task()
    with pytest.raises(SendosoLimitError):
        BatchRun(plan, given).execute()
    assert given.context["ti"].xcom["return_value"]["not_reached"] == 2  # type: ignore[attr-defined]
    silent = task(do_xcom_push=False)
    with pytest.raises(SendosoLimitError):
        BatchRun(plan, silent).execute()
    assert "return_value" not in silent.context["ti"].xcom  # type: ignore[attr-defined]
    assert sendoso.sends == []


def test_a_batch_that_is_stopped_sends_nothing(sendoso: Sandbox) -> None:
    plan = BatchPlan(dedupe_scope="q4", layout=LAYOUT, recipients=PEOPLE)
    given = task(stopped=lambda: True)
    with pytest.raises(Exception, match="2 rows were not reached"):
        BatchRun(plan, given).execute()
    assert sendoso.sends == []


def test_a_batch_that_is_stopped_claims_nothing(sendoso: Sandbox) -> None:
    given = task(stopped=lambda: True)
    with pytest.raises(SendosoNotReachedError):
        BatchRun(BatchPlan(dedupe_scope="q4", layout=LAYOUT, recipients=PEOPLE), given).execute()
    assert list(given.hook.ledger.sends.records(*State)) == []


def test_one_gift_twice_is_one_send(sendoso: Sandbox) -> None:
    send = GiftSend.model_validate({"gift_id": GIFT, "recipient": PEOPLE[0], "message": "Thank you"})
    plan = GiftPlan(gift=OneGift(send), dedupe_scope="q4")
    assert GiftRun(plan, task()).execute() == GiftRun(plan, task()).execute() == sendoso.sends[0].id
    assert len(sendoso.sends) == 1


@pytest.mark.parametrize(("settled", "waits"), [(False, 1), (True, 0)])
def test_a_run_is_deferred_once_before_it_sends_again(sendoso: Sandbox, settled: bool, waits: int) -> None:
    sendoso.fault("status", status=500, method="POST", path="/api/v3/sends")
    deferred: list[Any] = []
    plan = BatchPlan(dedupe_scope="q4", layout=LAYOUT, recipients=PEOPLE[:1], resend_absent=True, fail_on_held=False)
    assert BatchRun(plan, task(defer=None if settled else deferred.append)).execute()["held"] == 1
    assert len(deferred) == waits


def test_a_plan_with_wrong_values_cannot_be_built() -> None:
    with pytest.raises(SendosoConfigError, match="lease is 3 s"):
        SendPlan(dedupe_scope="q4", lease=3)
    with pytest.raises(SendosoConfigError, match="either sql and conn_id, or recipients"):
        BatchPlan(dedupe_scope="q4", layout=LAYOUT)
    with pytest.raises(SendosoConfigError, match="sql needs conn_id"):
        BatchPlan(dedupe_scope="q4", layout=LAYOUT, sql="SELECT 1")


def test_the_repr_of_a_plan_shows_no_person_and_no_secret() -> None:
    plan = BatchPlan(dedupe_scope="q4", layout=LAYOUT, recipients=PEOPLE, hook_params={"token": "s3cret"})
    send = GiftSend.model_validate({"gift_id": GIFT, "recipient": PEOPLE[0], "message": "Thank you"})
    shown = repr(plan) + repr(GiftPlan(gift=OneGift(send), dedupe_scope="q4"))
    assert not [word for word in ("ada", "Thank you", "s3cret") if word in shown]


def test_no_run_imports_an_operator() -> None:
    for path in Path(airflow_provider_sendoso.runs.__path__[0]).glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [
            node.module for node in imports if (node.module or "").startswith("airflow_provider_sendoso.operators")
        ], path
