"""What went wrong once, each with the least that showed it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from airflow_provider_sendoso.client.answers import Exchange, Phase
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoLedgerError,
    SendosoLimitError,
    SendosoRateLimitError,
    SendOutcomeUnknownError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.pace import LedgerPace
from airflow_provider_sendoso.ledger.schema import pace
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger

SENDS = "/api/v3/sends"


@pytest.mark.parametrize("retry_after", [3600, "99999999999999999999"])
def test_a_long_retry_after_does_not_put_the_account_to_sleep(sendoso, ledger, batch, execute, retry_after):
    sendoso.fault("throttle", method="POST", path=SENDS, retry_after=retry_after)
    with pytest.raises(SendosoRateLimitError):
        execute(batch())
    assert SendosoHook().session.pace.reserve(poll=False) <= 120


def test_gift_unknown(sendoso, ledger, gift, execute):
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET")
    with pytest.raises(SendOutcomeUnknownError):
        execute(gift())


def test_gift_unknown_down(sendoso, ledger, gift, execute, monkeypatch):
    ex = SendosoSession._exchange

    def die(self, request, token):
        r = ex(self, request, token)
        if request.path == SENDS:
            sendoso.stop()
            return Exchange(Phase.LOST, error="ReadTimeout")
        return r

    monkeypatch.setattr(SendosoSession, "_exchange", die)
    with pytest.raises(SendOutcomeUnknownError):
        execute(gift())


def test_last_row_unknown(sendoso, ledger, batch, execute, people):
    sendoso.fault("drop_after", method="POST", path=SENDS)
    sendoso.fault("error_before", times=100, method="GET")
    with pytest.raises(SendHeldError):
        execute(batch(recipients=people(1)))


def test_five_unknown_at_the_end(sendoso, ledger, batch, execute, people):
    sendoso.fault("drop_before", times=5, method="POST", path=SENDS)
    assert execute(batch(recipients=people(5), on_held="continue"))["held"] == 5


@pytest.mark.parametrize("body", [{"id": ["x"]}, {"send": {"id": {}}}])
def test_unreadable_id(sendoso, ledger, batch, execute, body):
    sendoso.fault("status", method="POST", path=SENDS, status=201, body=body)
    summary = execute(batch(on_held="continue"))
    assert (summary["held"], summary["sent"]) == (1, 2)


def test_row_ref_pg(sendoso, set_connection, postgres_database, batch, execute, people):
    set_connection("sendoso_ledger", postgres_database().connection)
    rows = [row | {"ref": "x"} for row in people(3)]
    rows[1]["ref"] = "x" * 251
    assert execute(batch(recipients=rows, row_ref="ref"))["sent"] >= 2


@pytest.mark.parametrize("limit", [{"max_sends": 0}, {"max_cost": 0}, {"max_cost": 0.0}])
def test_limit_zero(sendoso, ledger, batch, execute, limit):
    with pytest.raises(SendosoLimitError):
        execute(batch(**limit))


@pytest.mark.parametrize("dry_run", ["", "None"])
def test_dry(sendoso, ledger, batch, execute, dry_run):
    with pytest.raises(SendosoConfigError):
        execute(batch(dry_run=dry_run))


def test_nan(sendoso, ledger, batch, execute):
    with pytest.raises(SendosoConfigError):
        execute(batch(max_invalid="nan"))


def test_soft(sendoso):
    r = {"first_name": "A", "last_name": "B", "email": "a@x.org"}
    i = SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=r, message="m").id
    sendoso.finish(i, "failed")
    with pytest.raises(AirflowSkipException):
        SendStatusSensor(task_id="s", send_id=i, soft_fail=True, deferrable=True).execute({})


async def test_netrc(sendoso, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    r = {"first_name": "A", "last_name": "B", "email": "a@x.org"}
    i = SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=r, message="m").id
    sendoso.finish(i, "delivered")
    event = await anext(aiter(SendStatusTrigger(send_ids=[i], deadline=time.time() + 600).run()))
    assert event.payload["status"] == "settled"


def test_slow_commit(sendoso, ledger, monkeypatch):
    """A slot that a slow commit has outlived is somebody else's second: the call takes another one."""
    slots, commits = [], []
    reserve = LedgerPace.reserve

    def count(self, *, poll):
        slots.append(poll)
        return reserve(self, poll=poll)

    def commit():
        commits.append(len(slots))
        if len(commits) == 1:
            time.sleep(0.09)

    monkeypatch.setattr(LedgerPace, "reserve", count)
    SendosoHook().session.await_turn(before=commit)
    assert commits[:2] == [1, 2]


def test_a_frozen_transaction_does_not_stop_the_deployment(sendoso, set_connection, postgres_database, monkeypatch):
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


def test_probe_403(sendoso, ledger, batch, execute):
    sendoso.fault("drop_before", method="POST", path=SENDS)
    sendoso.fault("status", times=100, method="GET", path="/api/v3/gifts", status=403)
    assert execute(batch(on_held="continue"))["sent"] == 2


@pytest.mark.parametrize("row", [{"first_name": "\ud800"}, {"email": "\ud800@example.com"}])
def test_surrogate(sendoso, ledger, batch, execute, people, row):
    rows = people(3)
    rows[1] |= row
    assert execute(batch(recipients=rows))["invalid"] == 1


def test_pushback_down(sendoso, ledger, batch, execute, monkeypatch):
    def down(*args):
        raise SendosoLedgerError("The ledger is down.")

    sendoso.fault("throttle", method="POST", path=SENDS)
    monkeypatch.setattr(LedgerPace, "push_back", down)
    assert execute(batch())["sent"] == 3


def test_timeout_xcom(sendoso, ledger, batch, ti, people, monkeypatch):
    from airflow.providers.common.compat.sdk import AirflowTaskTimeout

    def after_two(self):
        if len(sendoso.sends) == 2:
            raise AirflowTaskTimeout

    monkeypatch.setattr("airflow_provider_sendoso.runs.base.ProgressLog.__call__", after_two)
    task = ti("run-1")
    with pytest.raises(AirflowTaskTimeout):
        batch(max_in_flight=1).execute({"ti": task})
    assert task.xcom["return_value"]["sent"] == 2
