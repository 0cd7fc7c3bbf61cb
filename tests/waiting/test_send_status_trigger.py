"""SendStatusTrigger: fires once, says why, neither spins nor blocks the triggerer, and survives its restart."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from watchers import Onlooker, fire, gets, largest_gap, trigger

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.account import Account
from airflow_provider_sendoso.sandbox.tokens import Tokens
from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger
from airflow_provider_sendoso.waiting.watch import TRANSIENT_FAILURES

Sent = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sendoso.triggers.sendoso._SHORTEST_PAUSE", 0.02)


def test_a_trigger_is_restored_from_plain_json_with_the_same_deadline() -> None:
    first = trigger(
        send_ids=("a", "b"), target_statuses=("shipped",), failed_statuses=(), poke_interval=7, sendoso_conn_id="mine"
    )
    path, arguments = first.serialize()
    assert path == "airflow_provider_sendoso.triggers.sendoso.SendStatusTrigger"
    second = SendStatusTrigger(**json.loads(json.dumps(arguments)))
    assert second.serialize() == first.serialize()
    assert second.deadline == first.deadline


async def test_the_trigger_fires_when_all_sends_are_settled(sent: Sent, patient: Sandbox) -> None:
    one, two = sent(None, "failed")
    before = gets(patient)
    task = asyncio.create_task(fire(trigger(send_ids=[one, two])))
    while gets(patient) - before < 4 and not task.done():  # noqa: ASYNC110 - at the other end of a socket
        await asyncio.sleep(0.01)
    assert not task.done()
    await asyncio.to_thread(patient.finish, one, "delivered")
    assert await task == {
        "status": "settled",
        "report": {
            "sends": 2,
            "reached": 1,
            "counts": {"delivered": 1, "failed": 1},
            "failed": 1,
            "failed_ids": [two],
            "on_hold": 0,
            "on_hold_ids": [],
            "statuses": {one: "delivered", two: "failed"},
            "status_words": {one: "delivered", two: "failed"},
        },
    }


async def test_a_settled_send_is_not_asked_for_again(sent: Sent, patient: Sandbox) -> None:
    one, two = sent("delivered", None)

    def asked(send_id: str) -> int:
        return [request.path for request in patient.requests].count(f"/api/v3/sends/{send_id}")

    task = asyncio.create_task(fire(trigger(send_ids=[one, two])))
    while asked(two) < 3 and not task.done():  # noqa: ASYNC110 - at the other end of a socket
        await asyncio.sleep(0.01)
    assert asked(one) == 1
    await asyncio.to_thread(patient.finish, two, "delivered")
    assert (await task)["status"] == "settled"
    assert asked(one) == 1


@pytest.mark.parametrize("by", ["batch_id", "dedupe_scope"])
async def test_a_batch_or_scope_is_read_from_the_ledger(sent_batch: Any, by: str) -> None:
    summary = await asyncio.to_thread(sent_batch, "delivered", "delivered")
    event = await fire(trigger(**{by: summary[by]}))
    assert (event["status"], event["report"]["reached"]) == ("settled", 2)
    assert event["report"]["statuses"] is None


async def test_a_deadline_in_the_past_fires_after_one_look(sent: Sent, patient: Sandbox) -> None:
    pending, delivered = sent(None, "delivered")
    before = gets(patient)
    event = await asyncio.wait_for(fire(trigger(-100, send_ids=[pending, delivered], poke_interval=300)), 60)
    assert (event["status"], event["report"]["reached"]) == ("timeout", 1)
    assert gets(patient) - before == 2
    event = await fire(trigger(-100, send_ids=[delivered]))
    assert event["status"] == "settled"


async def test_a_restart_does_not_extend_the_deadline(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    (pending,) = sent(None)
    first = trigger(600, send_ids=[pending], poke_interval=300)
    later = SimpleNamespace(time=lambda: time.time() + 599.8, monotonic=time.monotonic)
    monkeypatch.setattr("airflow_provider_sendoso.triggers.sendoso.time", later)
    event = await asyncio.wait_for(fire(SendStatusTrigger(**first.serialize()[1])), 60)
    assert event["status"] == "timeout"


async def test_a_trigger_without_sends_fires_as_settled(patient: Sandbox) -> None:
    assert (await fire(trigger(send_ids=[])))["status"] == "settled"
    assert gets(patient) == 0


ERRORS = [
    # fault's options, what the event says
    ({"path": "/api", "status": 401}, "answered 401"),
    ({"path": "/api", "status": 403}, "answered 403"),
    ({"path": "/api", "status": 404}, "answered 404"),
    ({"path": "/oauth/token", "status": 401}, "did not grant a token"),
]


@pytest.mark.parametrize(("options", "words"), ERRORS)
async def test_an_error_that_waiting_cannot_mend_fires_at_once(
    sent: Sent, patient: Sandbox, options: dict[str, Any], words: str
) -> None:
    ids = sent(None, None)
    patient.revoke_tokens()
    patient.fault("status", times=1000, **options)
    before = len(patient.requests)
    event = await asyncio.wait_for(fire(trigger(send_ids=ids, poke_interval=0)), 60)
    assert (event["status"], event["retryable"]) == ("error", False)
    assert words in event["message"]
    assert len(patient.requests) - before <= 4


async def test_a_wrong_secret_fires_an_error_without_the_secret(patient: Sandbox, set_connection: Any) -> None:
    connection = {"conn_type": "sendoso", "host": patient.url, "login": "sandbox", "password": "wrong-secret"}
    set_connection("sendoso_default", connection)
    event = await fire(trigger(send_ids=["send-1"]))
    assert (event["status"], event["retryable"]) == ("error", False)
    assert "wrong-secret" not in json.dumps(event)
    assert [request.path for request in patient.requests] == ["/oauth/token"]


@pytest.mark.parametrize("status", [500, 503])
async def test_server_errors_are_survived_a_few_rounds_in_a_row(sent: Sent, patient: Sandbox, status: int) -> None:
    ids = sent("delivered")
    patient.fault("error_before", times=TRANSIENT_FAILURES, method="GET", status=status)
    assert (await fire(trigger(send_ids=ids)))["status"] == "settled"
    patient.fault("error_before", times=1000, method="GET", status=status)
    before = gets(patient)
    event = await fire(trigger(send_ids=ids))
    assert (event["status"], event["retryable"]) == ("error", True)
    assert gets(patient) - before == TRANSIENT_FAILURES + 1


async def test_a_sendoso_that_is_down_ends_in_a_retryable_error(sent: Sent, patient: Sandbox) -> None:
    ids = sent(None)
    waiting = trigger(send_ids=ids)
    await asyncio.to_thread(patient.stop)
    event = await fire(waiting)
    assert (event["status"], event["retryable"]) == ("error", True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_id": "unknown"}, "knows no batch_id=unknown"),
        ({"send_ids": ["a"], "target_statuses": ["arrived"]}, "neither a status"),
    ],
)
async def test_wrong_arguments_fire_an_error(
    patient: Sandbox, ledger: Any, arguments: dict[str, Any], words: str
) -> None:
    event = await fire(trigger(**arguments))
    assert (event["status"], event["retryable"]) == ("error", False)
    assert words in event["message"]


async def test_a_connection_that_is_not_there_fires_an_error() -> None:
    event = await fire(trigger(send_ids=["a"], sendoso_conn_id="nobody"))
    assert event["status"] == "error"


async def test_a_wait_on_the_vendors_sandbox_for_a_status_that_never_comes_fires_an_error(set_connection: Any) -> None:
    host = "https://app.staging.sendo.so"
    set_connection("sendoso_default", {"conn_type": "sendoso", "host": host, "login": "l", "password": "p"})
    event = await fire(trigger(send_ids=["a"]))
    assert (event["status"], event["retryable"]) == ("error", False)
    assert "never pass 'processing'" in event["message"]


async def test_a_defect_fires_an_error_without_its_text(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("ada@example.com")

    monkeypatch.setattr("airflow_provider_sendoso.waiting.rounds.read_send_answer", broken)
    event = await fire(trigger(send_ids=sent(None)))
    assert event == {"status": "error", "message": "ZeroDivisionError", "retryable": True}


async def test_a_cancelled_trigger_fires_nothing(sent: Sent) -> None:
    task = asyncio.create_task(fire(trigger(send_ids=sent(None), poke_interval=300)))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_slow_ledger_or_sendoso_does_not_block_the_event_loop(
    sent: Sent,
    patient: Sandbox,
    database: str,
    tmp_path: Any,
    set_connection: Any,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    forget_ledgers: Callable[[], None],
) -> None:
    if database == "sqlite":
        set_connection("sendoso_ledger", {"conn_type": "sqlite", "host": str(tmp_path / "slow.db")})
    else:
        set_connection("sendoso_ledger", request.getfixturevalue("postgres_database")().connection)
    ids = sent("delivered")
    forget_ledgers()
    patient.revoke_tokens()
    onlooker = Onlooker()
    # Neither answers before the loop has gone on: the ledger's transactions, a token, a send.
    for owner, name in ((Database, "run"), (Tokens, "grant"), (Account, "find")):
        onlooker.watch(monkeypatch, owner, name)
    assert (await fire(trigger(send_ids=ids)))["status"] == "settled"
    assert set(onlooker.seen) == {"run", "grant", "find"}
    assert all(onlooker.seen.values())


async def test_a_locked_ledger_does_not_block_the_event_loop(sent_batch: Any, ledger: dict[str, Any]) -> None:
    summary = await asyncio.to_thread(sent_batch, "delivered")
    other = sqlite3.connect(ledger["host"], isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    asyncio.get_running_loop().call_later(0.5, other.execute, "ROLLBACK")
    # In the loop it would wait for what only the loop can end, and that for as long as SQLite lets it: 30 s.
    assert await largest_gap(fire(trigger(batch_id=summary["batch_id"]))) < 20
    hook = SendosoHook()
    assert hook.ledger.sends.batch_exists(hook.config.account, summary["batch_id"])


async def test_a_netrc_file_does_not_replace_the_triggers_token(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    event = await fire(trigger(send_ids=await asyncio.to_thread(sent, "delivered")))
    assert event["status"] == "settled"
