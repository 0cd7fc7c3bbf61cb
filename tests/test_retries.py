"""The retry policy decides how long the pause before the next try is, never whether there is a next try."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.serialization import serialized_objects

from airflow_provider_sendoso import retries
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoApiError,
    SendosoError,
    SendosoNotReachedError,
    SendosoRateLimitError,
    SendosoServerError,
)
from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.retries import SendosoRetryPolicy
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow before 3.3 has no retry policies")
from airflow.providers.common.compat.sdk import RetryAction, RetryDecision

MINUTE = timedelta(minutes=1)


def every_error() -> list[SendosoError]:
    def below(kind: type[SendosoError]) -> list[type[SendosoError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    return [kind(418, "no") if issubclass(kind, SendosoApiError) else kind("no") for kind in below(SendosoError)]


def decide(error: BaseException, **arguments: Any) -> RetryDecision:
    return SendosoRetryPolicy(**arguments).evaluate(error, try_number=1, max_tries=3)


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_the_policy_does_not_decide_whether_there_is_a_next_try(error: SendosoError) -> None:
    assert (decide(error).action is RetryAction.FAIL) is isinstance(error, AirflowFailException)


@pytest.mark.parametrize(
    ("asked", "delay"),
    [(300.0, timedelta(minutes=5)), (86400.0, timedelta(days=1)), (2.5, MINUTE), (0.0, MINUTE)],
)
def test_after_a_429_the_next_try_comes_when_sendoso_asked_for_it(asked: float, delay: timedelta) -> None:
    decision = decide(SendosoRateLimitError(429, "too fast", None, asked))
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, delay)
    assert decision.reason == f"Sendoso asked to wait {asked:g} s (429)."


def test_rows_that_were_not_reached_are_tried_again_soon() -> None:
    assert decide(SendosoNotReachedError("3 rows were not reached")).retry_delay == MINUTE
    assert decide(SendosoNotReachedError("3 rows"), min_delay=timedelta(0)).retry_delay == timedelta(0)


@pytest.mark.parametrize("error", [SendosoServerError(503, "No"), SendosoRateLimitError(429, "No"), SendosoError("No")])
def test_after_any_other_error_the_tasks_own_delay_applies(error: SendosoError) -> None:
    assert decide(error) == RetryDecision.default()


def test_errors_of_others_keep_airflows_default() -> None:
    for error in (ValueError("no"), KeyboardInterrupt(), AirflowFailException("no")):
        assert decide(error) == RetryDecision.default()


def test_the_reason_that_airflow_keeps_quotes_nothing() -> None:
    assert decide(SendHeldError("ada@example.com")).reason == "Retrying cannot mend a SendHeldError."


ARGUMENTS = {"task_id": "task", "retry_policy": SendosoRetryPolicy(), "retries": 3}
MAKE = {
    "gift": lambda: SendGiftOperator(recipient={}, **ARGUMENTS),
    "batch": lambda: BatchSendOperator(dedupe_scope="q4", **ARGUMENTS),
    "sensor": lambda: SendStatusSensor(batch_id="b", **ARGUMENTS),
    "resolve": lambda: ResolveHeldOperator(resolution="sent", why="found", **ARGUMENTS),
}


@pytest.mark.parametrize("kind", MAKE)
def test_every_operator_takes_the_policy_and_can_be_serialised(kind: str) -> None:
    with DAG("campaign", schedule=None) as dag:
        operator = MAKE[kind]()
    assert operator.retry_policy is ARGUMENTS["retry_policy"]
    assert isinstance(copy.deepcopy(operator).retry_policy, SendosoRetryPolicy)
    data = serialized_objects.DagSerialization.to_dict(dag)
    json.dumps(data)
    (task,) = serialized_objects.DagSerialization.from_dict(data).tasks
    assert task.has_retry_policy


def test_a_mapped_task_takes_the_policy() -> None:
    with DAG("campaign", schedule=None) as dag:
        SendGiftOperator.partial(**ARGUMENTS).expand(recipient=[{}, {}])
    data = serialized_objects.DagSerialization.to_dict(dag)
    json.dumps(data)
    (task,) = serialized_objects.DagSerialization.from_dict(data).tasks
    assert task.has_retry_policy


@pytest.mark.parametrize("kind", MAKE)
def test_before_airflow_3_3_the_policy_is_accepted_and_unused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "HAS_RETRY_POLICIES", False)
    assert MAKE[kind]().retry_policy is None


def test_before_airflow_3_3_the_policy_can_be_imported_and_constructed() -> None:
    script = """
import airflow.providers.common.compat.sdk as sdk
for name in ("RetryDecision", "RetryPolicy"):
    del sdk._IMPORT_MAP[name]
from airflow_provider_sendoso import retries
assert not retries.HAS_RETRY_POLICIES
assert retries.SendosoRetryPolicy.__bases__ == (object,)
retries.SendosoRetryPolicy()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
