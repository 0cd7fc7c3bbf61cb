"""``timeout`` counts from the first look of all tries of a sensor, in every mode; a clear begins anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS
from sqlalchemy import create_engine, text

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.base import WaitingSensor
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor, SendStatusSensor

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

HOUR = 3600.0
RETRIES = 2


class Store:
    """Airflow's store of a task's state, which drops what is older than 30 days unless it is told otherwise."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        assert retention == timedelta.max
        self.kept[key] = value


class Tries:
    """A task with the data that it keeps between tries."""

    def __init__(self, context: dict[str, Any], passed: Callable[[float], None]) -> None:
        self.context = context
        self.passed = passed
        self.max_tries = RETRIES

    def clear(self, after: int) -> None:
        """Clear the task as Airflow does, which continues the numbers of the tries."""
        self.max_tries = after + RETRIES

    def go(self, sensor: WaitingSensor, map_index: int = -1, run_id: str = "run-1") -> Any:
        task = SimpleNamespace(retries=RETRIES)
        ti = SimpleNamespace(dag_id="dag", task_id="wait", run_id=run_id, map_index=map_index, task=task)
        ti.max_tries = self.max_tries
        ti.xcom_push = lambda key, value: None
        ti.get_first_reschedule_date = lambda context: None
        return sensor.execute(self.context | {"ti": ti})

    def left(self, sensor: WaitingSensor, **of: Any) -> float:
        """Return how many seconds are left to the trigger of a try."""
        with pytest.raises(TaskDeferred) as deferred:
            self.go(sensor, **of)
        left = deferred.value.trigger.deadline - time.time()
        assert deferred.value.timeout.total_seconds() == pytest.approx(max(left, 0) + 300, abs=60)
        return left


@pytest.fixture(params=["store", "ledger"] if AIRFLOW_V_3_3_PLUS else ["ledger"])
def tries(request: pytest.FixtureRequest, ledger: Any, patient: Sandbox) -> Tries:
    """With Airflow's store (3.3 and newer), or without it: then the first look is in the ledger."""
    store = Store()

    def passed(seconds: float) -> None:
        for kept in store.kept.values():
            kept["at"] -= seconds
        engine = create_engine(f"sqlite:///{ledger['host']}")
        with engine.begin() as connection:
            for name, moment in connection.execute(text("SELECT list_id, send_ids FROM sendoso_lists")).all():
                earlier = {"name": name, "moment": f"[{float(moment.strip('[]')) - seconds}]"}
                connection.execute(text("UPDATE sendoso_lists SET send_ids = :moment WHERE list_id = :name"), earlier)
        engine.dispose()

    return Tries({"task_state_store": store} if request.param == "store" else {}, passed)


@pytest.fixture
def status(patient: Sandbox) -> Callable[..., SendStatusSensor]:
    recipient = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
    send_id = SendosoHook().send_gift(gift_id="gift-egift-books", recipient=recipient, message="Thanks").id

    def make(**arguments: Any) -> SendStatusSensor:
        return SendStatusSensor(
            **({"task_id": "wait", "send_id": send_id, "timeout": HOUR, "deferrable": True} | arguments)
        )

    return make


def event(**arguments: Any) -> SendosoEventSensor:
    return SendosoEventSensor(
        **({"task_id": "wait", "object": "touches", "timeout": HOUR, "deferrable": True} | arguments)
    )


@pytest.fixture(params=["status", "event"])
def make(request: pytest.FixtureRequest, status: Callable[..., SendStatusSensor]) -> Callable[..., WaitingSensor]:
    return status if request.param == "status" else event


def test_later_tries_have_the_time_that_the_first_look_left(tries: Tries, make: Callable[..., WaitingSensor]) -> None:
    assert tries.left(make()) == pytest.approx(HOUR, abs=60)
    tries.passed(1000)
    assert tries.left(make()) == pytest.approx(HOUR - 1000, abs=60)
    tries.passed(2000)
    assert tries.left(make()) == pytest.approx(HOUR - 3000, abs=60)
    tries.passed(2000)
    assert tries.left(make()) < 0  # the trigger looks once more, and then its time is over


def test_a_longer_timeout_counts_from_the_first_look(tries: Tries, make: Callable[..., WaitingSensor]) -> None:
    tries.left(make())
    tries.passed(1000)
    assert tries.left(make(timeout=2 * HOUR)) == pytest.approx(2 * HOUR - 1000, abs=60)


def test_a_cleared_task_has_the_whole_timeout_again(tries: Tries, make: Callable[..., WaitingSensor]) -> None:
    tries.left(make())
    tries.passed(5 * HOUR)
    tries.clear(after=1)
    assert tries.left(make()) == pytest.approx(HOUR, abs=60)
    tries.passed(1000)
    assert tries.left(make()) == pytest.approx(HOUR - 1000, abs=60)


def test_each_run_and_each_mapped_task_has_its_own_first_look(
    tries: Tries, make: Callable[..., WaitingSensor], request: pytest.FixtureRequest
) -> None:
    tries.left(make(), map_index=0)
    tries.passed(1000)
    if "task_state_store" not in tries.context:  # which is each task's own
        assert tries.left(make(), map_index=1) == pytest.approx(HOUR, abs=60)
        assert tries.left(make(), map_index=0, run_id="run-2") == pytest.approx(HOUR, abs=60)
    assert tries.left(make(), map_index=0) == pytest.approx(HOUR - 1000, abs=60)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_sensor_in_a_worker_counts_its_timeout_from_the_first_look(
    tries: Tries, make: Callable[..., WaitingSensor], mode: str
) -> None:
    if mode == "reschedule":
        if not AIRFLOW_V_3_0_PLUS:
            pytest.skip("Airflow 2 asks its database when a task was first rescheduled")
        with pytest.raises(AirflowRescheduleException):
            tries.go(make(deferrable=False, mode=mode))
    else:
        tries.left(make())
    tries.passed(HOUR + 1)
    began = time.monotonic()
    with pytest.raises(AirflowSensorTimeout, match=r"After 3600 s"):
        tries.go(make(deferrable=False, mode=mode, poke_interval=600))
    assert time.monotonic() - began < 300


def test_the_timeout_counts_from_a_first_look_that_failed(
    tries: Tries, status: Callable[..., WaitingSensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(SendStatusSensor, "_look", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tries.go(status())
    tries.passed(1000)
    assert tries.left(status()) == pytest.approx(HOUR - 1000, abs=60)


def test_without_store_and_ledger_each_try_has_the_whole_timeout(patient: Sandbox, ledger: Any, status: Any) -> None:
    tries = Tries({}, lambda _: None)
    sensor = status()
    sensor.hook._ledger = None
    assert tries.left(sensor) == pytest.approx(HOUR, abs=60)
