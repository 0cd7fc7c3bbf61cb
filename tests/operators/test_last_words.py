"""The log of a failed task ends with its error; tests/system/test_system_dags_test.py has the log of a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_sendoso.exceptions import SendHeldError, SendosoConfigError
from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import (
    BatchSendOperator,
    EgiftLinksOperator,
    SendGiftOperator,
    SendosoToSqlOperator,
)

OPERATORS: dict[Any, dict[str, Any]] = {
    BatchSendOperator: {"dedupe_scope": "q4", "recipients": [], "sql": "SELECT 1"},
    EgiftLinksOperator: {"dedupe_scope": "q4", "recipients": [], "touch_id": 1, "links_table": None},
    SendGiftOperator: {"gift_id": "gift-mug", "recipient": {}},
    SendosoToSqlOperator: {"object": "nothing", "table": "t", "conn_id": "warehouse"},
    ResolveHeldOperator: {"resolution": "perhaps", "why": "I looked", "resolved_by": "ada"},
}
CALLBACKS = ("on_failure_callback", "on_retry_callback")


@pytest.mark.parametrize("make", OPERATORS, ids=lambda make: make.__name__)
def test_every_operator_logs_its_error_once_more_after_the_callbacks_of_the_dags_author(
    make: Any, ti: Any, read_logs: Callable[[], str]
) -> None:
    called: list[Any] = []
    own = {"on_failure_callback": called.append, "on_retry_callback": [called.append]}
    operator = make(task_id="gifts", sendoso_conn_id="none", **OPERATORS[make], **own)
    with pytest.raises(SendosoConfigError) as caught:
        operator.execute({"ti": ti("run-1")})
    for name in CALLBACKS:
        read_logs()
        *before, last = getattr(operator, name)
        assert before == [called.append]
        last({})
        assert f"SendosoConfigError: {caught.value}" in read_logs()


def test_the_report_of_a_batch_comes_after_its_error_and_ends_the_log(
    sendoso: Any, ledger: Any, batch: Callable[..., Any], execute: Callable[..., Any], read_logs: Callable[[], str]
) -> None:
    sendoso.fault("error_before", method="POST", path="/api/v3/sends")
    operator = batch(max_in_flight=1)
    with pytest.raises(SendHeldError):
        execute(operator)
    read_logs()
    operator.on_failure_callback[-1]({})
    said = read_logs()
    assert said.index("::endgroup::") < said.index("SendHeldError: 1 sends are held")  # of Airflow's "Post Execute"
    assert said.index("SendHeldError: 1 sends are held") < said.index("3  rows") < said.index("What to do now:")
    assert said.index("What to do now:") < said.rindex("airflow sendoso ledger resolve --send-key")


def test_a_batch_that_succeeds_logs_its_report(
    sendoso: Any, ledger: Any, batch: Callable[..., Any], execute: Callable[..., Any], read_logs: Callable[[], str]
) -> None:
    execute(batch())
    said = read_logs()
    assert said.index("3  sent          3 posted by this try") < said.index("Nothing. Clearing the task is safe")


def test_a_task_that_succeeds_has_the_callbacks_that_its_author_gave(
    sendoso: Any, ledger: Any, gift: Callable[..., Any], execute: Callable[..., Any]
) -> None:
    operator = gift()
    before = [getattr(operator, name) for name in CALLBACKS]
    execute(operator)
    assert [getattr(operator, name) for name in CALLBACKS] == before


def test_an_error_that_is_not_this_providers_is_left_to_airflow(
    sendoso: Any, ledger: Any, gift: Callable[..., Any], execute: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = gift()
    monkeypatch.setattr("airflow_provider_sendoso.runs.gift.GiftRun.execute", lambda self: 1 / 0)
    before = [getattr(operator, name) for name in CALLBACKS]
    with pytest.raises(ZeroDivisionError):
        execute(operator)
    assert [getattr(operator, name) for name in CALLBACKS] == before
