"""The rate limit of an account as a task meets it: throttles, slow commits and frozen transactions stop nobody else."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from airflow_provider_sendoso.exceptions import SendosoLedgerError, SendosoRateLimitError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.pace import LedgerPace
from airflow_provider_sendoso.ledger.schema import pace

SENDS = "/api/v3/sends"


@pytest.mark.parametrize("retry_after", [3600, "99999999999999999999"])
def test_a_long_retry_after_blocks_the_account_for_two_minutes_at_most(sendoso, ledger, batch, execute, retry_after):
    sendoso.fault("throttle", method="POST", path=SENDS, retry_after=retry_after)
    with pytest.raises(SendosoRateLimitError):
        execute(batch())
    assert SendosoHook().session.pace.reserve(poll=False) <= 120


def test_a_throttle_that_the_ledger_cannot_record_does_not_stop_the_batch(sendoso, ledger, batch, execute, monkeypatch):
    def down(*args):
        raise SendosoLedgerError("The ledger is down.")

    sendoso.fault("throttle", method="POST", path=SENDS)
    monkeypatch.setattr(LedgerPace, "push_back", down)
    assert execute(batch())["sent"] == 3


def test_a_call_whose_commit_outlasts_its_slot_takes_another_slot(sendoso, ledger, monkeypatch):
    slots, commits = [], []
    session = SendosoHook().session
    reserve = type(session.pace).reserve

    def count(self, *, poll):
        slots.append(poll)
        return reserve(self, poll=poll)

    def commit():
        commits.append(len(slots))
        if len(commits) == 1:
            time.sleep(session.pace.lead + 0.09)

    monkeypatch.setattr(type(session.pace), "reserve", count)
    session.await_turn(before=commit)
    assert commits[:2] == [1, 2]


def test_a_transaction_frozen_with_the_lock_on_the_pace_does_not_stop_other_processes(
    sendoso, set_connection, postgres_database, monkeypatch
):
    monkeypatch.setattr("airflow_provider_sendoso.ledger.sessions.IDLE_TIMEOUT_MS", 1000)
    set_connection("sendoso_ledger", postgres_database().connection)
    session = SendosoHook().session
    session.pace.reserve(poll=False)
    reserved = []
    with suppress(SQLAlchemyError), SendosoHook().ledger._database.engine.begin() as frozen:
        frozen.execute(select(pace).with_for_update())
        waiting = threading.Thread(target=lambda: reserved.append(session.pace.reserve(poll=False)), daemon=True)
        waiting.start()
        waiting.join(100)
        assert len(reserved) == 1
