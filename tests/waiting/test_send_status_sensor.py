"""SendStatusSensor: what it waits for, when it fails, and that it never waits for what cannot come."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from airflow.serialization import serialized_objects
from watchers import gets

from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoConfigError,
    SendosoError,
    SendosoNotFoundError,
    SendosoServerError,
    SendosoStatusError,
)
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger
from airflow_provider_sendoso.waiting.watch import TRANSIENT_FAILURES

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

Sent = Callable[..., list[str]]
SentBatch = Callable[..., dict[str, Any]]


class RescheduledTI:
    """A task instance that was rescheduled before, so many seconds ago."""

    def __init__(self, seconds: float = 0) -> None:
        self._first = datetime.now(UTC) - timedelta(seconds=seconds)

    def get_first_reschedule_date(self, context: Any) -> datetime:
        return self._first

    def xcom_push(self, key: str, value: Any) -> None:
        pass


def sensor(**arguments: Any) -> SendStatusSensor:
    return SendStatusSensor(**({"task_id": "arrived", "deferrable": False, "poke_interval": 0.01} | arguments))


def wait(**arguments: Any) -> Any:
    return sensor(**arguments).execute({})


# -- one send ----------------------------------------------------------------------------------------------------------


def test_one_send_returns_its_status(sent: Sent) -> None:
    (send_id,) = sent("delivered")
    assert wait(send_id=send_id) == "delivered"


def test_the_sensor_looks_until_the_send_arrives(sent: Sent, patient: Sandbox) -> None:
    (send_id,) = sent(None)
    with ThreadPoolExecutor(1) as aside:
        waiting = aside.submit(wait, send_id=send_id, timeout=600)
        while gets(patient) < 3 and not waiting.done():
            time.sleep(0.01)
        assert not waiting.done()
        patient.finish(send_id, "delivered")
        assert waiting.result() == "delivered"


REACHED = [
    # status, targets
    ("shipped", ("shipped",)),
    ("delivered", ("shipped",)),
    ("shipped", ("processing",)),
    ("returned", ("returned",)),
    ("failed", ("delivered", "failed")),
]


@pytest.mark.parametrize(("status", "targets"), REACHED)
def test_a_status_at_or_beyond_a_target_counts_as_reached(sent: Sent, status: str, targets: tuple[str, ...]) -> None:
    assert wait(send_id=sent(status)[0], target_statuses=targets) == status


@pytest.mark.parametrize("status", ["failed", "returned"])
def test_a_send_that_failed_or_came_back_fails_at_once_without_retries(sent: Sent, status: str) -> None:
    (send_id,) = sent(status)
    with pytest.raises(SendosoStatusError, match=rf"1 of 1 sends failed or came back.*{send_id}") as caught:
        wait(send_id=send_id)
    assert isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("status", ["delivered", "failed", "returned"])
def test_without_failed_statuses_any_final_status_is_returned(sent: Sent, status: str) -> None:
    assert wait(send_id=sent(status)[0], failed_statuses=()) == status


def test_a_send_that_sendoso_does_not_know_is_not_found(sent: Sent) -> None:
    with pytest.raises(SendosoNotFoundError, match="send-nobody"):
        wait(send_id="send-nobody")


# -- many --------------------------------------------------------------------------------------------------------------


def test_a_list_returns_a_status_for_each(sent: Sent) -> None:
    one, two = sent("delivered", "delivered")
    assert wait(send_id=[one, two]) == {one: "delivered", two: "delivered"}


def test_a_list_of_one_id_returns_a_dict(sent: Sent) -> None:
    (send_id,) = sent("delivered")
    assert wait(send_id=[send_id]) == {send_id: "delivered"}


def test_an_empty_list_of_ids_succeeds_without_a_request(sent: Sent, patient: Sandbox) -> None:
    assert wait(send_id=[]) == {}
    assert patient.requests == []


def test_all_sends_of_a_list_are_waited_for_before_one_failure_fails_the_task(sent: Sent) -> None:
    failed, pending = sent("failed", None)
    assert not sensor(send_id=[failed, pending]).poke({})
    with pytest.raises(SendosoStatusError, match=rf"1 of 2 sends failed.*none may fail. First ids: {failed}\."):
        wait(send_id=[failed, *sent("delivered")])


MIN_DELIVERED = [
    # of four sends three are delivered
    (None, False),
    (1.0, False),
    (0.76, False),
    ("0.8", False),
    (0.75, True),
    ("0.5", True),
    (0, True),
    ("None", False),
]


@pytest.mark.parametrize(("share", "enough"), MIN_DELIVERED)
def test_min_delivered_is_a_share_of_all_sends(sent: Sent, share: Any, enough: bool) -> None:
    ids = sent("delivered", "delivered", "delivered", "returned")
    if enough:
        assert wait(send_id=ids, min_delivered=share)[ids[3]] == "returned"
        return
    with pytest.raises(SendosoStatusError, match="1 of 4 sends failed"):
        wait(send_id=ids, min_delivered=share)


@pytest.mark.parametrize("by", ["batch_id", "dedupe_scope"])
def test_all_sends_of_a_batch_or_scope_are_waited_for(sent_batch: SentBatch, by: str) -> None:
    summary = sent_batch("delivered", "delivered", "failed")
    result = wait(**{by: summary[by]}, min_delivered=0.6)
    assert (result["sends"], result["reached"], result["failed"]) == (3, 2, 1)
    assert result["counts"] == {"delivered": 2, "failed": 1}
    assert len(result["failed_ids"]) == 1
    json.dumps(result)


@pytest.mark.parametrize("by", ["batch_id", "dedupe_scope"])
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_batch_or_scope_that_the_ledger_does_not_know_is_refused(
    sent_batch: SentBatch, by: str, deferrable: bool
) -> None:
    sent_batch("delivered")
    with pytest.raises(SendosoConfigError, match=f"knows no .*{by}=unknown"):
        wait(**{by: "unknown"}, deferrable=deferrable)


def test_a_batch_without_sends_succeeds(sent_batch: SentBatch) -> None:
    assert wait(batch_id=sent_batch()["batch_id"])["sends"] == 0


def test_without_a_ledger_a_batch_cannot_be_found_but_a_send_can(sent: Sent) -> None:
    with pytest.raises(SendosoConfigError, match="AIRFLOW_CONN_SENDOSO_LEDGER='sqlite:////"):
        wait(batch_id="abc")
    assert wait(send_id=sent("delivered")[0]) == "delivered"


# -- arguments ---------------------------------------------------------------------------------------------------------

WRONG = [
    ({}, "got none"),
    ({"send_id": None}, "perhaps an XCom that is not there"),
    ({"send_id": "a", "batch_id": "b"}, "got send_id and batch_id"),
    ({"send_id": "None"}, "send_id holds 'None'"),
    ({"send_id": ""}, "send_id holds ''"),
    ({"send_id": ["a", None]}, "send_id holds None"),
    ({"send_id": "['a', 'b']"}, "rather than a template that renders it as text"),
    ({"send_id": "a", "target_statuses": ()}, "target_statuses is empty"),
    (
        {"send_id": "a", "target_statuses": ("arrived",)},
        "target_statuses has 'arrived', which is neither a status .* nor a word of Sendoso's",
    ),
    ({"send_id": "a", "failed_statuses": ("lost",)}, "failed_statuses has 'lost', which is neither"),
    ({"send_id": "a", "min_delivered": 95}, "min_delivered is 95; use a share"),
    ({"send_id": "a", "min_delivered": "most"}, "min_delivered is 'most'"),
    ({"send_id": "a", "min_delivered": float("nan")}, "min_delivered is nan"),
]


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_wrong_arguments_fail_before_anything_is_asked(
    patient: Sandbox, arguments: dict[str, Any], words: str, deferrable: bool
) -> None:
    with pytest.raises(SendosoConfigError, match=words):
        wait(**arguments, deferrable=deferrable)
    assert patient.requests == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_wait_on_the_vendors_sandbox_for_a_status_that_never_comes_is_refused(
    set_connection: Callable[..., None], deferrable: bool
) -> None:
    host = "https://app.staging.sendo.so"
    set_connection("sendoso_default", {"conn_type": "sendoso", "host": host, "login": "l", "password": "p"})
    with pytest.raises(SendosoConfigError, match="never pass 'processing'"):
        wait(send_id="send-1", deferrable=deferrable)


# -- patience ----------------------------------------------------------------------------------------------------------


def test_transient_failures_are_survived_a_few_times_in_a_row(sent: Sent, patient: Sandbox) -> None:
    (send_id,) = sent("delivered")
    patient.fault("error_before", times=TRANSIENT_FAILURES, method="GET", status=502)
    assert wait(send_id=send_id) == "delivered"
    patient.fault("error_before", times=TRANSIENT_FAILURES + 1, method="GET", status=502)
    with pytest.raises(SendosoServerError):
        wait(send_id=send_id)


def test_a_sendoso_that_is_down_for_a_moment_is_survived(sent: Sent, patient: Sandbox) -> None:
    waiting = sensor(send_id=sent("delivered")[0])
    patient.stop()
    assert not waiting.poke({})
    patient.start()
    assert waiting.poke({})


def test_credentials_that_are_not_accepted_are_not_tried_again(sent: Sent, patient: Sandbox) -> None:
    (send_id,) = sent("delivered")
    patient.fault("status", times=100, method="GET", status=401)
    before = len(patient.requests)
    with pytest.raises(SendosoAuthError):
        wait(send_id=send_id)
    assert len(patient.requests) - before <= 4


def test_the_timeout_ends_a_wait(sent: Sent) -> None:
    with pytest.raises(AirflowSensorTimeout):
        wait(send_id=sent(None)[0], timeout=0.05)


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 asks its database when a task was first rescheduled")
def test_a_rescheduled_sensor_looks_once_per_process_and_its_timeout_spans_them(sent: Sent, patient: Sandbox) -> None:
    (send_id,) = sent(None)
    before = len(patient.requests)
    with pytest.raises(AirflowRescheduleException):
        sensor(send_id=send_id, mode="reschedule", timeout=60).execute({"ti": RescheduledTI()})
    assert [request.path for request in patient.requests[before:]][-1] == f"/api/v3/sends/{send_id}"
    assert sum(request.method == "GET" for request in patient.requests[before:]) == 1
    with pytest.raises(AirflowSensorTimeout):
        sensor(send_id=send_id, mode="reschedule", timeout=60).execute({"ti": RescheduledTI(seconds=61)})
    patient.finish(send_id, "delivered")
    assert sensor(send_id=send_id, mode="reschedule").execute({"ti": RescheduledTI()}) == "delivered"


@pytest.mark.parametrize(("status", "timeout"), [("failed", 60), (None, 0.05)])
def test_soft_fail_skips_on_a_failed_send_and_on_a_timeout(sent: Sent, status: str | None, timeout: float) -> None:
    with pytest.raises(AirflowSkipException):
        wait(send_id=sent(status)[0], soft_fail=True, timeout=timeout)


# -- deferred ----------------------------------------------------------------------------------------------------------


def test_a_send_that_is_settled_at_the_first_look_is_not_deferred(sent: Sent) -> None:
    assert wait(send_id=sent("delivered")[0], deferrable=True) == "delivered"


def test_the_sensor_defers_with_all_its_arguments_and_an_absolute_deadline(sent: Sent) -> None:
    ids = sent("failed", None)
    with pytest.raises(TaskDeferred) as caught:
        wait(
            send_id=ids,
            target_statuses=("shipped",),
            failed_statuses=("failed",),
            deferrable=True,
            poke_interval=timedelta(seconds=30),
            timeout=600,
        )
    trigger, deferred = caught.value.trigger, caught.value
    assert isinstance(trigger, SendStatusTrigger)
    assert trigger.serialize()[1] == {
        "send_ids": ids,
        "list_id": None,
        "batch_id": None,
        "dedupe_scope": None,
        "target_statuses": ["shipped"],
        "failed_statuses": ["failed"],
        "poke_interval": 30.0,
        "deadline": pytest.approx(time.time() + 600, abs=100),
        "sendoso_conn_id": "sendoso_default",
    }
    assert deferred.method_name == "execute_complete"
    assert deferred.timeout > timedelta(seconds=600)


def test_the_sensor_defers_if_the_first_look_fails(sent: Sent, patient: Sandbox) -> None:
    (send_id,) = sent("delivered")
    patient.fault("error_before", method="GET")
    with pytest.raises(TaskDeferred):
        wait(send_id=send_id, deferrable=True)


def event(status: str, **report: Any) -> dict[str, Any]:
    whole = {"sends": 2, "reached": 2, "counts": {"delivered": 2}, "failed": 0, "failed_ids": [], "statuses": None}
    return {"status": status, "report": whole | report}


def test_a_settled_event_returns_what_a_look_would_return() -> None:
    named = event("settled", statuses={"a": "delivered", "b": "delivered"})
    assert sensor(send_id=["a", "b"]).execute_complete({}, named) == {"a": "delivered", "b": "delivered"}
    one = event("settled", sends=1, reached=1, statuses={"a": "delivered"})
    assert sensor(send_id="a").execute_complete({}, one) == "delivered"
    assert sensor(batch_id="b").execute_complete({}, event("settled"))["reached"] == 2


def test_a_settled_event_with_failures_fails() -> None:
    bad = event("settled", reached=1, failed=1, failed_ids=["b"], counts={"delivered": 1, "failed": 1})
    with pytest.raises(SendosoStatusError, match=r"1 of 2 sends failed.*First ids: b\."):
        sensor(batch_id="b").execute_complete({}, bad)
    assert sensor(batch_id="b", min_delivered=0.5).execute_complete({}, bad)["failed_ids"] == ["b"]


def test_a_timeout_event_raises_airflows_sensor_timeout() -> None:
    with pytest.raises(AirflowSensorTimeout, match=r"not all sends are settled.*1 pending"):
        sensor(send_id="a").execute_complete({}, event("timeout", counts={"pending": 1}))


@pytest.mark.parametrize(("retryable", "fails_for_good"), [(True, False), (False, True), (None, True)])
def test_an_error_event_fails_the_task_and_without_retries_unless_it_is_retryable(
    retryable: bool | None, fails_for_good: bool
) -> None:
    with pytest.raises(SendosoError, match="it broke") as caught:
        sensor(send_id="a").execute_complete({}, {"status": "error", "message": "it broke", "retryable": retryable})
    assert isinstance(caught.value, AirflowFailException) == fails_for_good


@pytest.mark.parametrize(
    "unknown", [None, {}, {"status": "success"}, {"status": "settled"}, {"status": "settled", "report": None}, "done"]
)
def test_an_event_without_a_valid_report_fails_the_task(unknown: Any) -> None:
    with pytest.raises(AirflowException, match="says nothing about the sends"):
        sensor(send_id="a").execute_complete({}, unknown)


@pytest.mark.parametrize("name", ["settled", "timeout"])
def test_soft_fail_skips_a_resumed_task(name: str) -> None:
    bad = event(name, reached=1, failed=1, failed_ids=["b"])
    with pytest.raises(AirflowSkipException):
        sensor(batch_id="b", soft_fail=True).resume_execution("execute_complete", {"event": bad}, {})


# -- in a DAG ----------------------------------------------------------------------------------------------------------


def test_templates_are_rendered(sent_batch: SentBatch) -> None:
    summary = sent_batch("delivered")
    waiting = sensor(batch_id="{{ params.batch }}", min_delivered="{{ params.share }}")
    waiting.render_template_fields({"params": {"batch": summary["batch_id"], "share": 0.9}})
    assert waiting.execute({})["reached"] == 1


def test_the_sensor_can_be_copied_and_serialised() -> None:
    with DAG("campaign", schedule=None) as dag:
        waiting = sensor(send_id=["a"], target_statuses=("shipped",))
    assert copy.deepcopy(waiting).send_id == ["a"]
    serialise = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)
    data = serialise.to_dict(dag)
    json.dumps(data)
    assert serialise.from_dict(data).get_task("arrived").task_type == "SendStatusSensor"
