"""The buttons on a task's page: the links that a task pushes, and when it pushes them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom
from airflow.providers_manager import ProvidersManager

from airflow_provider_sendoso.exceptions import SendosoUnprocessableError, SendOutcomeUnknownError
from airflow_provider_sendoso.links.sendoso import OnHoldLink, SendosoLink, TrackingLink
from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

RECIPIENT = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
GIFT = {"gift_id": "gift-donation-trees", "message": "Thank you", "dedupe_scope": "links"}


class FakeTI:
    """A task instance that records what it pushes, and the number of sends that were posted by then."""

    dag_id, task_id, run_id, map_index = "dag", "task", "run-1", -1

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.pushed: dict[str, Any] = {}
        self.sends_before: dict[str, int] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value
        self.sends_before[key] = len(self._sandbox.sends)


@pytest.fixture
def ti(sendoso: Sandbox, ledger: Any) -> FakeTI:
    return FakeTI(sendoso)


@pytest.fixture
def ledger_connection(tmp_path: Any) -> dict[str, Any]:
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


def links(operator: type) -> list[type]:
    return [type(link) for link in operator.operator_extra_links]  # type: ignore[attr-defined]


def test_operators_and_provider_declare_the_links() -> None:
    assert links(SendGiftOperator) == [SendosoLink, TrackingLink]
    assert links(SendStatusSensor) == [SendosoLink, OnHoldLink]
    for operator in (BatchSendOperator, ResolveHeldOperator):
        assert links(operator) == [SendosoLink]
    declared = {name for name in ProvidersManager().extra_links_class_names if name.startswith("airflow_provider_send")}
    assert declared == {f"{link.__module__}.{link.__qualname__}" for link in (OnHoldLink, SendosoLink, TrackingLink)}


def test_batch_links_to_sendoso_before_anything_is_sent(sendoso: Sandbox, ti: FakeTI) -> None:
    BatchSendOperator(task_id="task", recipients=[RECIPIENT], **GIFT).execute({"ti": ti})
    assert ti.pushed["sendoso_link"] == sendoso.url
    assert ti.sends_before["sendoso_link"] == 0
    assert len(sendoso.sends) == 1


def test_gift_links_to_its_tracking_address(sendoso: Sandbox, ti: FakeTI) -> None:
    thank = SendGiftOperator(task_id="task", recipient=RECIPIENT, **GIFT)
    send_id = thank.execute({"ti": ti})
    tracking = f"{sendoso.url}/?send={send_id}"
    assert ti.pushed == {"sendoso_link": sendoso.url, "sendoso_tracking_link": tracking}
    assert ti.sends_before == {"sendoso_link": 0, "sendoso_tracking_link": 1}

    # The ledger stores no tracking addresses, so a send of an earlier try has none.
    again = FakeTI(sendoso)
    assert SendGiftOperator(task_id="task", recipient=RECIPIENT, **GIFT).execute({"ti": again}) == send_id
    assert again.pushed == {"sendoso_link": sendoso.url, "sendoso_tracking_link": ""}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"fault": "status", "status": 422}, SendosoUnprocessableError),
        ({"fault": "error_before"}, SendOutcomeUnknownError),
    ],
)
def test_gift_that_was_not_sent_links_to_sendoso(
    sendoso: Sandbox, ti: FakeTI, fault: dict[str, Any], error: type[Exception]
) -> None:
    sendoso.fault(fault.pop("fault"), method="POST", path="/api/v3/sends", **fault)
    with pytest.raises(error):
        SendGiftOperator(task_id="task", recipient=RECIPIENT, **GIFT).execute({"ti": ti})
    assert ti.pushed == {"sendoso_link": sendoso.url, "sendoso_tracking_link": ""}


@pytest.mark.parametrize("deferrable", [True, False])
def test_sensor_links_to_sendoso_before_it_looks(sendoso: Sandbox, ti: FakeTI, deferrable: bool) -> None:
    send_id = SendGiftOperator(task_id="task", recipient=RECIPIENT, **GIFT).execute({"ti": FakeTI(sendoso)})
    sendoso.finish(send_id, "failed")
    sensor = SendStatusSensor(task_id="task", send_id=send_id, failed_statuses=(), deferrable=deferrable)
    assert sensor.execute({"ti": ti}) == "failed"
    assert ti.pushed == {"sendoso_link": sendoso.url, "sendoso_on_hold_link": ""}


def test_resolving_links_to_sendoso(sendoso: Sandbox, ti: FakeTI, make_open: Callable[..., list[str]]) -> None:
    keys = make_open("ada@example.com")
    run = SimpleNamespace(dag_id="dag", run_id="run-1", triggering_user_name="grace")
    resolve = ResolveHeldOperator(task_id="task", send_keys=keys, resolution="sent", why="found in the tracker")
    resolve.execute({"ti": ti, "dag_run": run})
    assert ti.pushed == {"sendoso_link": sendoso.url}


@pytest.mark.parametrize(("pushed", "shown"), [("https://app.sendoso.com", "https://app.sendoso.com"), (None, "")])
def test_address_is_read_from_xcom_and_empty_without_one(
    monkeypatch: pytest.MonkeyPatch, pushed: str | None, shown: str
) -> None:
    """Airflow would write ``None`` down as text, and show a button for it."""
    key = SimpleNamespace(dag_id="dag", task_id="task", run_id="run-1", map_index=3)
    asked: list[Any] = []

    def get_value(*, key: str, ti_key: Any) -> str | None:
        asked.append((key, ti_key))
        return pushed

    monkeypatch.setattr(XCom, "get_value", get_value)
    assert SendosoLink().get_link(SimpleNamespace(), ti_key=key) == shown
    assert asked == [("sendoso_link", key)]
