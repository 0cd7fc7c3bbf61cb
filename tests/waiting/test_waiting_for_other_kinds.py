"""Waiting for sends that no list shows: the ledger's status counts, and they never count as lost."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import update

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

EGIFT = 102


class TI:
    dag_id, task_id, run_id, map_index = "dag", "gifts", "run-1", -1

    def xcom_push(self, key: str, value: Any) -> None:
        pass


@pytest.fixture
def batch_id(patient: Sandbox, ledger: Any) -> str:
    """Two sends of a campaign that have arrived, of which the ledger does not know it yet."""
    recipients = [{"email": f"ada{number}@example.com"} for number in range(2)]
    operator = BatchSendOperator(task_id="gifts", recipients=recipients, touch_id=EGIFT, dedupe_scope="q4")
    summary = operator.execute({"ti": TI()})
    for accepted in patient.campaign_sends():
        patient.finish(accepted.id, "Delivered")
    return str(summary["batch_id"])


def rewrite(*where: Any, **values: Any) -> None:
    statement = update(sends).where(*where).values(**values)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(statement))


def look(**arguments: Any) -> Any:
    """One look of a sensor that does not wait."""
    return SendStatusSensor(**({"task_id": "arrived", "deferrable": False} | arguments)).poke({})


def asked(sandbox: Sandbox) -> int:
    return sum(request.method == "GET" for request in sandbox.requests)


def records() -> list[Record]:
    return list(SendosoHook().ledger.sends.records(*State))


@pytest.mark.parametrize("kind", ["bouquet", "link"])
@pytest.mark.parametrize("touch_id", [None, str(EGIFT)])
def test_sends_of_a_kind_without_a_way_to_look_are_not_asked_for_and_not_taken_for_lost(
    patient: Sandbox, batch_id: str, kind: str, touch_id: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "airflow_provider_sendoso")
    rewrite(kind=kind, touch_id=touch_id)
    before = asked(patient)
    assert not look(batch_id=batch_id).is_done
    assert not look(send_id=records()[0].send_id).is_done
    assert asked(patient) == before
    assert "2 sends cannot be looked for in Sendoso" in caplog.text
    assert {(record.status, record.bound_id) for record in records()} == {(None, None)}


def test_a_status_noted_by_another_worker_settles_the_wait(patient: Sandbox, batch_id: str) -> None:
    rewrite(kind="bouquet")
    waiting = SendStatusSensor(task_id="arrived", deferrable=False, poke_interval=0.01, batch_id=batch_id)
    assert not waiting.poke({}).is_done
    hook = SendosoHook()
    hook.note_statuses({str(record.send_id): "delivered" for record in records()})
    assert waiting.poke({}).xcom_value["counts"] == {"delivered": 2}


def test_a_link_whose_id_a_person_has_noted_is_followed(patient: Sandbox, batch_id: str) -> None:
    for accepted in patient.campaign_sends():
        listed = str(accepted.id)
        this = sends.c.send_id == f"tracking:{accepted.tracking_code}"
        rewrite(this, kind="link", bound_id=listed, send_id=listed)
    assert look(batch_id=batch_id).xcom_value["counts"] == {"delivered": 2}
