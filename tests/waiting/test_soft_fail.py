"""``soft_fail`` and ``never_fail`` skip waits that end without success, but no error that a person has to fix."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_sendoso import exceptions
from airflow_provider_sendoso.exceptions import SendosoAuthError, SendosoConfigError, SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.base import WaitingSensor
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor, SendStatusSensor

FAILS, SKIPS = False, True

DECIDED: dict[type[BaseException], tuple[bool, bool]] = {
    # with soft_fail, with never_fail
    exceptions.SendosoStatusError: (SKIPS, SKIPS),
    AirflowSensorTimeout: (SKIPS, SKIPS),
    AirflowTaskTimeout: (SKIPS, SKIPS),
    # A person has to mend these: a skipped task would be skipped every day.
    exceptions.SendosoConfigError: (FAILS, FAILS),
    exceptions.SendosoAuthError: (FAILS, FAILS),
    exceptions.SendosoBadRequestError: (FAILS, FAILS),
    exceptions.SendosoNotFoundError: (FAILS, FAILS),
    exceptions.SendosoUnprocessableError: (FAILS, FAILS),
    exceptions.SendosoRowsError: (FAILS, FAILS),
    exceptions.SendosoLimitError: (FAILS, FAILS),
    exceptions.SendOutcomeUnknownError: (FAILS, FAILS),
    exceptions.SendHeldError: (FAILS, FAILS),
    # The newer try decides.
    exceptions.SendosoSupersededError: (FAILS, FAILS),
    # A retry may mend these.
    exceptions.SendosoError: (FAILS, SKIPS),
    exceptions.SendosoApiError: (FAILS, SKIPS),
    exceptions.SendosoConnectionError: (FAILS, SKIPS),
    exceptions.SendosoServerError: (FAILS, SKIPS),
    exceptions.SendosoRateLimitError: (FAILS, SKIPS),
    exceptions.SendosoLedgerError: (FAILS, SKIPS),
    exceptions.SendosoNotReachedError: (FAILS, SKIPS),
    exceptions.SendosoResultsError: (FAILS, SKIPS),
    exceptions.SendosoSpoolError: (FAILS, SKIPS),
}

# Airflow 2 asks its database when a task was first rescheduled.
IN_A_PROCESS = ["poke", "reschedule", "deferrable"] if AIRFLOW_V_3_0_PLUS else ["poke", "deferrable"]
WAYS = [*IN_A_PROCESS, "resumed"]


def status(**arguments: Any) -> SendStatusSensor:
    return SendStatusSensor(
        **({"task_id": "arrived", "send_id": "a", "timeout": 60, "poke_interval": 0.01} | arguments)
    )


def event(**arguments: Any) -> SendosoEventSensor:
    return SendosoEventSensor(
        **({"task_id": "new", "object": "touches", "timeout": 60, "poke_interval": 0.01} | arguments)
    )


def test_the_table_of_decisions_names_every_error_of_this_provider() -> None:
    own = {one for _, one in inspect.getmembers(exceptions, inspect.isclass) if one.__module__ == exceptions.__name__}
    assert own <= set(DECIDED)


class TI:
    dag_id, task_id, run_id, map_index = "dag", "arrived", "run-1", -1

    def get_first_reschedule_date(self, context: Any) -> None:
        return None

    def xcom_push(self, key: str, value: Any) -> None:
        pass


def go(sensor: WaitingSensor, way: str) -> Any:
    if way == "resumed":
        return sensor.resume_execution("execute_complete", {"event": {"status": "settled"}}, {"ti": TI()})
    try:
        return sensor.execute({"ti": TI()})
    except TaskDeferred as deferred:
        event = asyncio.run(anext(aiter(deferred.trigger.run())))
        return sensor.resume_execution("execute_complete", {"event": event.payload}, {"ti": TI()})


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("error", DECIDED, ids=lambda error: error.__name__)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [status, event])
def test_soft_fail_and_never_fail_skip_exactly_the_errors_that_the_table_says(
    sendoso: Sandbox,
    ledger: Any,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., WaitingSensor],
    way: str,
    error: type[BaseException],
    flag: str,
) -> None:
    raised = error(503, "busy") if issubclass(error, exceptions.SendosoApiError) else error("it broke")

    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(SendStatusSensor, "_look", fail)
    for method in ("_wait", "execute_complete"):
        monkeypatch.setattr(SendosoEventSensor, method, fail)
    monkeypatch.setattr(SendStatusSensor, "execute_complete", fail)
    sensor = make(
        **{flag: True, "deferrable": way == "deferrable", "mode": "reschedule" if way == "reschedule" else "poke"}
    )
    if issubclass(error, AirflowTaskTimeout) and way in ("deferrable", "resumed"):
        return  # execution_timeout: Airflow's own loop makes a skip of it, and nothing else does
    skips = DECIDED[error][flag == "never_fail"]
    # A transient error in a poke is only a poke that failed.
    if make is event and isinstance(raised, exceptions.TRANSIENT_ERRORS) and way in ("poke", "reschedule"):
        monkeypatch.setattr(SendosoEventSensor, "poke", fail)
    with pytest.raises(AirflowSkipException if skips else error):
        go(sensor, way)


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("way", IN_A_PROCESS)
@pytest.mark.parametrize("make", [status, event])
class TestMisconfiguration:
    def sensor(self, make: Callable[..., WaitingSensor], way: str, flag: str, **more: Any) -> WaitingSensor:
        mode = "reschedule" if way == "reschedule" else "poke"
        return make(**{flag: True, "deferrable": way == "deferrable", "mode": mode} | more)

    def test_a_rotated_secret_fails_the_task(
        self,
        sendoso: Sandbox,
        ledger: Any,
        set_connection: Callable[..., None],
        make: Callable[..., WaitingSensor],
        way: str,
        flag: str,
    ) -> None:
        login = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "the-old-one"}
        set_connection("sendoso_default", login)
        with pytest.raises(SendosoConfigError if make is event and way == "deferrable" else SendosoAuthError):
            go(self.sensor(make, way, flag), way)

    def test_a_missing_connection_fails_the_task(
        self, ledger: Any, make: Callable[..., WaitingSensor], way: str, flag: str
    ) -> None:
        with pytest.raises((SendosoConfigError, AirflowNotFoundException)):
            go(self.sensor(make, way, flag, sendoso_conn_id="nobody"), way)

    def test_an_unknown_batch_or_object_fails_the_task(
        self, sendoso: Sandbox, ledger: Any, make: Callable[..., WaitingSensor], way: str, flag: str
    ) -> None:
        wrong = {"send_id": None, "batch_id": "0" * 32} if make is status else {"object": "parcels"}
        with pytest.raises(SendosoConfigError):
            go(self.sensor(make, way, flag, **wrong), way)

    def test_a_missing_ledger_fails_the_task(
        self, sendoso: Sandbox, make: Callable[..., WaitingSensor], way: str, flag: str
    ) -> None:
        wrong = {"send_id": None, "dedupe_scope": "q4"} if make is status else {}
        with pytest.raises(SendosoConfigError):
            go(self.sensor(make, way, flag, **wrong), way)


@pytest.mark.parametrize("make", [status, event])
def test_an_error_event_that_is_not_retryable_is_not_skipped(make: Callable[..., WaitingSensor]) -> None:
    for retryable, skips in ((False, False), (True, True)):
        said = {"event": {"status": "error", "message": "it broke", "retryable": retryable}}
        for flag in ("soft_fail", "never_fail"):
            expected = AirflowSkipException if skips and flag == "never_fail" else SendosoError
            with pytest.raises(expected, match="it broke"):
                make(**{flag: True}).resume_execution("execute_complete", said, {})


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("make", [status, event])
def test_a_trigger_that_timed_out_because_its_triggerer_was_down_is_skipped(
    make: Callable[..., WaitingSensor], flag: str
) -> None:
    words = "Trigger timeout" if AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"
    with pytest.raises(AirflowSkipException):
        make(**{flag: True}).resume_execution("__fail__", {"error": words}, {})


def test_soft_fail_skips_a_deferrable_sensor_whose_send_has_failed_at_the_first_look(sendoso: Sandbox) -> None:
    recipient = {"first_name": "A", "last_name": "B", "email": "a@x.org"}
    send_id = SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=recipient, message="m").id
    sendoso.finish(send_id, "failed")
    with pytest.raises(AirflowSkipException):
        status(send_id=send_id, soft_fail=True, deferrable=True).execute({})
