"""Waiting for sends of campaigns: found in the Send Tracker's list without an id, bound once, and followed by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from watchers import fire, trigger

from airflow_provider_sendoso.exceptions import SendosoStatusError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

EGIFT, OTHER = 102, 104
LIST = "/api/v3/send"


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.triggers.sendoso._SHORTEST_PAUSE", 0.02)


class TI:
    dag_id, task_id, run_id, map_index = "dag", "gifts", "run-1", -1

    def xcom_push(self, key: str, value: Any) -> None:
        pass


@pytest.fixture
def campaign(patient: Sandbox, ledger: Any) -> Callable[..., dict[str, Any]]:
    """Sends a campaign to people, once each or in some scopes; returns the summary."""

    def run(people: int = 1, touch_id: int = EGIFT, scope: str = "q4", first: int = 0) -> dict[str, Any]:
        recipients = [{"email": f"ada{number}@example.com"} for number in range(first, first + people)]
        operator = BatchSendOperator(task_id="gifts", recipients=recipients, touch_id=touch_id, dedupe_scope=scope)
        ti = TI()
        ti.run_id = f"run of {scope}"
        summary: dict[str, Any] = operator.execute({"ti": ti})
        return summary

    return run


def pages(sandbox: Sandbox) -> int:
    return sum((request.method, request.path) == ("GET", LIST) for request in sandbox.requests)


def asked_by_id(sandbox: Sandbox) -> int:
    return sum(request.path.startswith("/api/v3/sends") for request in sandbox.requests)


def records() -> list[Record]:
    return list(SendosoHook().ledger.sends.records(*State))


def look(**arguments: Any) -> Any:
    """One look of a sensor that does not wait."""
    return SendStatusSensor(**({"task_id": "arrived", "deferrable": False} | arguments)).poke({})


WORDS = [("Delivered", "delivered"), ("redeemed", "delivered"), ("Expired", "returned"), ("email_blacklist", "failed")]


@pytest.mark.parametrize(("word", "status"), WORDS)
def test_a_campaign_send_is_followed_by_its_tracking_code_and_bound_to_its_id(
    patient: Sandbox, campaign: Callable[..., Any], word: str, status: str
) -> None:
    campaign()
    [accepted] = patient.campaign_sends()
    send_id = f"tracking:{accepted.tracking_code}"
    assert not look(send_id=send_id).is_done
    patient.finish(accepted.id, word)
    assert look(send_id=send_id, failed_statuses=()).xcom_value == status
    [record] = records()
    assert (record.send_id, record.bound_id, record.status) == (send_id, str(accepted.id), status)
    # Its id in the list does as well, also in another process that knows the ledger alone.
    assert look(send_id=str(accepted.id), failed_statuses=()).xcom_value == status
    assert asked_by_id(patient) == 0


def test_an_unknown_status_word_never_ends_a_wait(
    patient: Sandbox, campaign: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    batch_id = campaign(2)["batch_id"]
    for accepted in patient.campaign_sends():
        patient.finish(accepted.id, "On the moon")
    for _ in range(2):
        assert not look(batch_id=batch_id, target_statuses=("delivered",)).is_done
    assert [record.status for record in records()] == ["processing"] * 2
    assert sum("On the moon" in record.getMessage() for record in caplog.records) == 1


async def test_a_batch_of_campaign_sends_is_followed_in_one_walk_through_the_list_per_round(
    patient: Sandbox, campaign: Callable[..., Any]
) -> None:
    summary = await asyncio.to_thread(campaign, 150)
    for accepted in patient.campaign_sends():
        patient.finish(accepted.id, "Delivered")
    event = await fire(trigger(batch_id=summary["batch_id"]))
    assert (event["status"], event["report"]["reached"]) == ("settled", 150)
    assert (pages(patient), asked_by_id(patient)) == (2, 0)
    assert len({record.bound_id for record in await asyncio.to_thread(records)}) == 150


async def test_gifts_and_campaign_sends_of_one_scope_are_followed_together(
    patient: Sandbox, campaign: Callable[..., Any]
) -> None:
    def send() -> None:
        campaign(3)
        recipient = {"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com"}
        gift = {"gift_id": "gift-donation-trees", "message": "Hi", "dedupe_scope": "q4"}
        SendGiftOperator(task_id="thank", recipient=recipient, **gift).execute({"ti": TI()})

    await asyncio.to_thread(send)
    for accepted in (*patient.campaign_sends(), *patient.sends):
        await asyncio.to_thread(patient.finish, accepted.id, "delivered")
    event = await fire(trigger(dedupe_scope="q4"))
    assert event["report"]["counts"] == {"delivered": 4}


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_two_campaign_sends_to_one_person_have_their_own_statuses(
    patient: Sandbox, campaign: Callable[..., Any], order: str
) -> None:
    patient.order = order
    campaign(scope="one")
    campaign(scope="two")
    campaign(scope="three", touch_id=OTHER)
    first, second, third = patient.campaign_sends()
    patient.finish(first.id, "Delivered")
    patient.finish(second.id, "Expired")
    patient.finish(third.id, "Redeemed")
    with pytest.raises(SendosoStatusError, match="1 of 1 sends failed"):
        look(dedupe_scope="two")
    assert look(dedupe_scope="one").xcom_value["counts"] == {"delivered": 1}
    assert look(dedupe_scope="three").xcom_value["counts"] == {"delivered": 1}
    assert len({record.bound_id for record in records()}) == 3


def test_the_walk_ends_before_sends_older_than_the_batch(patient: Sandbox, campaign: Callable[..., Any]) -> None:
    patient.preload(100_000, touch_ids=(EGIFT,), spacing=60.0)
    batch_id = campaign(2)["batch_id"]
    assert not look(batch_id=batch_id).is_done
    assert pages(patient) <= 3


def test_a_tracking_code_that_the_ledger_does_not_know_is_an_error(
    patient: Sandbox, campaign: Callable[..., Any]
) -> None:
    campaign()
    with pytest.raises(Exception, match="ledger knows no send 'tracking:XYZ'"):
        look(send_id="tracking:XYZ")
    assert asked_by_id(patient) == 0


def test_a_campaign_send_made_by_hand_is_followed_by_its_id(patient: Sandbox, ledger: Any) -> None:
    """Sent by hand in Sendoso: no ledger knows it, and it is no gift send."""
    SendosoHook().send_gift(touch_id=EGIFT, recipient={"email": "ada@example.com"})
    [accepted] = patient.campaign_sends()
    assert not look(send_id=str(accepted.id)).is_done
    patient.finish(accepted.id, "Delivered")
    assert look(send_id=str(accepted.id)).xcom_value == "delivered"


def test_a_list_that_fails_once_is_read_again_at_the_next_poke(patient: Sandbox, campaign: Callable[..., Any]) -> None:
    batch_id = campaign()["batch_id"]
    patient.finish(patient.campaign_sends()[0].id, "Delivered")
    patient.fault("error_before", times=1, method="GET", path=LIST)
    waiting = SendStatusSensor(task_id="arrived", deferrable=False, poke_interval=0.01, batch_id=batch_id)
    assert not waiting.poke({}).is_done
    time.sleep(0.1)
    assert waiting.poke({}).is_done


def test_the_log_has_no_personal_data(
    patient: Sandbox, campaign: Callable[..., Any], caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level("DEBUG", "airflow_provider_sendoso")
    batch_id = campaign(3)["batch_id"]
    patient.fault("garbage", method="GET", path=LIST)
    look(batch_id=batch_id)
    look(batch_id=batch_id)
    logged = "\n".join([caplog.text, *capfd.readouterr()])
    assert "@example.com" not in logged
    with SendosoHook().ledger._database.engine.connect() as connection:
        rows = connection.execute(select(sends)).fetchall()
    assert "example.com" not in str(rows)
