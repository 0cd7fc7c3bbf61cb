"""Waiting for sends of the marketplace and of SmartSend: on hold until they are approved, or in no list at all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

from airflow_provider_sendoso.exceptions import SendosoStatusError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

KINDS = {
    "marketplace": {"marketplace_variant_id": "var-tea"},
    "smart_send": {"smart_send": True, "price_lte_usd": 50},
}


class TI:
    dag_id, task_id, run_id, map_index = "dag", "gifts", "run-1", -1

    def __init__(self) -> None:
        self.pushed: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append((key, value))


@pytest.fixture(params=KINDS)
def batch_id(request: pytest.FixtureRequest, patient: Sandbox, ledger: Any, set_connection: Callable[..., None]) -> str:
    """Two sends that a manager has to approve."""
    extra = {"requests_per_second": 500, "timeout": 60, "scope": "public write marketplace smartsend"}
    connection = {"conn_type": "sendoso", "host": patient.url, "login": "sandbox", "password": "sandbox"}
    set_connection("sendoso_default", connection | {"extra": extra})
    people = [{"first_name": "Ada", "last_name": "L", "email": f"ada{number}@example.com"} for number in range(2)]
    operator = BatchSendOperator(
        task_id="gifts", recipients=people, require_approval=True, dedupe_scope="q4", **KINDS[request.param]
    )
    return str(operator.execute({"ti": TI()})["batch_id"])


def sensor(**arguments: Any) -> SendStatusSensor:
    return SendStatusSensor(**({"task_id": "arrived", "deferrable": False, "poke_interval": 0.01} | arguments))


def records() -> list[Record]:
    return list(SendosoHook().ledger.sends.records(*State))


def finish(sandbox: Sandbox, *words: str) -> None:
    for send, word in zip(sandbox.campaign_sends(), words, strict=True):
        sandbox.finish(send.id, word)


def test_a_send_that_waits_for_approval_is_on_hold_until_a_manager_approves_it(
    patient: Sandbox, batch_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "airflow_provider_sendoso")
    ti = TI()
    assert not sensor(batch_id=batch_id).poke({"ti": ti}).is_done
    assert "2 sends are on hold at Sendoso (Pending Approval: 2)" in caplog.text
    assert "under their ids" not in caplog.text
    assert ("sendoso_on_hold_link", patient.url) in ti.pushed
    assert {(record.status, record.status_word) for record in records()} == {("pending", "Pending Approval")}
    finish(patient, "Fulfilling", "Pending Approval")
    assert not sensor(batch_id=batch_id).poke({"ti": ti}).is_done
    finish(patient, "Delivered", "Delivered")
    done = sensor(batch_id=batch_id, timeout=60).execute({"ti": ti})
    assert (done["counts"], done["on_hold"]) == ({"delivered": 2}, 0)


def test_a_send_that_a_manager_cancels_has_failed(patient: Sandbox, batch_id: str) -> None:
    finish(patient, "Cancelled", "Delivered")
    with pytest.raises(SendosoStatusError, match="1 of 2 sends failed or came back"):
        sensor(batch_id=batch_id).poke({"ti": TI()})


def test_sends_that_no_list_shows_are_said_once_and_the_wait_ends_by_its_timeout(
    patient: Sandbox, batch_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "airflow_provider_sendoso")
    patient.shows_products = False
    waiting = sensor(batch_id=batch_id, timeout=0.5)
    with pytest.raises(AirflowSensorTimeout):
        waiting.execute({"ti": TI()})
    said = [entry.getMessage() for entry in caplog.records if "under their ids" in entry.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("2 sends are not in Sendoso's list of sends under their ids.")
    assert "soft_fail=True" in said[0]
    assert {record.status for record in records()} == {None}
    with pytest.raises(AirflowSkipException):
        sensor(batch_id=batch_id, timeout=0.5, soft_fail=True).execute({"ti": TI()})


def test_a_send_that_the_list_shows_later_is_followed_then(patient: Sandbox, batch_id: str) -> None:
    patient.shows_products = False
    waiting = sensor(batch_id=batch_id)
    assert not waiting.poke({"ti": TI()}).is_done
    patient.shows_products = True
    finish(patient, "Delivered", "Delivered")
    assert sensor(batch_id=batch_id, timeout=60).execute({"ti": TI()})["counts"] == {"delivered": 2}
