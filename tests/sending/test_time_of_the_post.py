"""The time that is shown of a held send is that of its POST, from the ledger, however late its outcome was recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update
from trying import SENDS, FakeTI, batch, people, sendoso_connection

from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator
from airflow_provider_sendoso.runs.base import ProgressLog
from airflow_provider_sendoso.sandbox import Sandbox


@pytest.fixture(autouse=True)
def unanswered(sendoso: Sandbox, ledger: Any, set_connection: Callable[..., None]) -> None:
    """Each POST is accepted and not answered for two seconds, and the list of sends cannot be read."""
    set_connection("sendoso_default", sendoso_connection(sendoso, requests_per_second=1000, timeout=2))
    sendoso.fault("slow", times=100, method="POST", path=SENDS, delay=30.0)
    sendoso.fault("status", times=1000, method="GET", path=SENDS, status=404)


def backdate(seconds: float) -> None:
    """Make the time of the POST on the ledger's clock another one than any clock of this process has ever shown."""
    earlier = update(sends).values(posted_at=sends.c.posted_at - seconds)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(earlier))


def in_ledger() -> tuple[Record, str]:
    [record] = SendosoHook().ledger.sends.records(State.HELD, State.UNKNOWN, State.POSTING)
    assert record.posted_at is not None
    return record, datetime.fromtimestamp(record.posted_at, UTC).isoformat(timespec="seconds")


def stopped_while_posting(sendoso: Sandbox, operator: Any, until: Callable[..., None]) -> SendosoError:
    """Run an operator that is told to stop while its POST is in flight."""
    raised: list[SendosoError] = []

    def run() -> None:
        try:
            operator.execute({"ti": FakeTI("run-1")})
        except SendosoError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: len(sendoso.sends) == 1)
    backdate(5000)
    operator.on_kill()
    thread.join(60)
    return raised[0]


def test_the_report_of_a_batch_has_the_time_of_the_post(sendoso: Sandbox, until: Callable[..., None]) -> None:
    error = stopped_while_posting(sendoso, batch(3), until)
    _, posted = in_ledger()
    [line] = [line for line in error.report if line.strip().startswith("key ")]
    assert f"posted at {posted}" in line


def test_so_has_that_of_a_batch_whose_post_is_not_answered_when_it_ends(
    sendoso: Sandbox, set_connection: Callable[..., None], until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection("sendoso_default", sendoso_connection(sendoso, requests_per_second=1000, timeout=8))
    for name, seconds in (("OUTCOME_PATIENCE", 0.0), ("_ENDING", -7.9)):
        monkeypatch.setattr(f"airflow_provider_sendoso.sending.sender.{name}", seconds)
    operator = batch(3)

    def tick(progress: ProgressLog) -> None:
        if operator.stopped:
            raise SendosoError("it ends while a POST is in flight")

    monkeypatch.setattr(ProgressLog, "__call__", tick)
    error = stopped_while_posting(sendoso, operator, until)
    [line] = [line for line in error.report if line.strip().startswith("key ")]
    _, posted = in_ledger()
    assert "no_answer_yet" in line
    assert f"posted at {posted}" in line
    until(lambda: in_ledger()[0].state is not State.POSTING)  # its thread has ended


def test_the_error_of_a_single_gift_has_the_time_of_the_post(sendoso: Sandbox, until: Callable[..., None]) -> None:
    operator = SendGiftOperator(
        task_id="gifts", gift_id="gift-donation-trees", recipient=people(1)[0], message="Hi", dedupe_scope="q4"
    )
    error = stopped_while_posting(sendoso, operator, until)
    _, posted = in_ledger()
    assert f"posted at {posted}" in str(error)
    assert abs(time.time() - 5000 - datetime.fromisoformat(posted).timestamp()) < 60
