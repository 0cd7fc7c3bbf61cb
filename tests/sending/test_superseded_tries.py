"""A try that was frozen until the next one had begun: the newer try decides what the task says, and it alone.

The frozen tries are real processes that are stopped and woken by signals, with a POST in flight or a list half read.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import frozen
import pytest
from sqlalchemy import create_engine, text, update
from trying import SENDS, sendoso_connection

from airflow_provider_sendoso.exceptions import SendosoLedgerError, SendosoSupersededError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.cursors import Cursors
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.ledger.schema import sends
from airflow_provider_sendoso.ledger.tries import ThisTry
from airflow_provider_sendoso.sandbox import Sandbox


class Frozen:
    """A try in a process of its own; it is stopped, and goes on when it is woken."""

    def __init__(self, context: ForkServerContext, connections: dict[str, Any], what: str, changes: Any) -> None:
        self._queue = context.Queue()
        self.process = context.Process(target=frozen.a_try, args=(connections, what, changes, self._queue))
        self.process.start()

    def freeze(self) -> None:
        """Stop it while it waits for an answer: in the middle of a transaction it would keep the ledger locked."""
        assert self.process.pid
        time.sleep(0.5)
        os.kill(self.process.pid, signal.SIGSTOP)

    def wake(self) -> dict[str, Any]:
        """Let it go on to its end; return what it did."""
        assert self.process.pid
        os.kill(self.process.pid, signal.SIGCONT)
        outcome: dict[str, Any] = self._queue.get(timeout=120)
        self.process.join(20)
        return outcome


@pytest.fixture
def connections(
    sendoso: Sandbox, ledger: dict[str, Any], tmp_path: Path, set_connection: Callable[..., None]
) -> dict[str, Any]:
    made = {
        "sendoso_default": sendoso_connection(sendoso, requests_per_second=1000, timeout=2),
        "sendoso_ledger": ledger,
        "warehouse": {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")},
    }
    for conn_id, connection in made.items():
        set_connection(conn_id, connection)
    return made


@pytest.fixture
def begin(forkserver: ForkServerContext, connections: dict[str, Any]) -> Iterator[Callable[..., Frozen]]:
    begun: list[Frozen] = []

    def make(what: str, **changes: Any) -> Frozen:
        begun.append(Frozen(forkserver, connections, what, changes))
        return begun[-1]

    yield make
    for one in begun:
        one.process.kill()


@pytest.fixture
def next_try(sendoso: Sandbox, connections: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Runs the next try in this process, after the leases of what the frozen one is posting have lapsed."""
    patient = {"sendoso_default": sendoso_connection(sendoso, requests_per_second=1000, timeout=60)}

    def run(what: str, **changes: Any) -> dict[str, Any]:
        lapsed = update(sends).where(sends.c.state == State.POSTING).values(lease_until=0.0)
        SendosoHook().ledger._database.run(lambda connection: connection.execute(lapsed))
        return frozen.a_try(connections | patient, what, changes)

    return run


def errors(outcome: dict[str, Any]) -> list[str]:
    return [line for line in outcome["log"] if line.startswith("ERROR")]


def results(tmp_path: Path) -> list[str]:
    """The outcomes in the results table."""
    engine = create_engine(f"sqlite:///{tmp_path / 'warehouse.db'}")
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT outcome FROM results")).scalars())


@pytest.mark.parametrize("answered", [True, False])
def test_a_batch_that_wakes_after_the_next_try_leaves_its_xcom_its_results_and_its_callbacks_alone(
    sendoso: Sandbox,
    begin: Callable[..., Frozen],
    next_try: Callable[..., dict[str, Any]],
    connections: dict[str, Any],
    until: Callable[..., None],
    tmp_path: Path,
    answered: bool,
) -> None:
    """With an answer that waits for it when it wakes up, or with none within its timeout: then its POST is unknown."""
    tables = {"results_table": "results", "conn_id": "warehouse"}
    sendoso.fault("slow", times=2, method="POST", path=SENDS)
    sendoso.fault("slow", times=3, method="POST", path=SENDS, delay=4.0 if answered else 30.0)
    if answered:
        connections["sendoso_default"]["extra"]["timeout"] = 60
    old = begin("batch", **tables)
    until(lambda: len(sendoso.sends) >= 5)
    old.freeze()
    sendoso.clear_faults()

    new = next_try("batch", **tables)
    assert (new["error"], new["returned"]["sent"], len(sendoso.sends)) == ("", 8, 8)
    woken = old.wake()
    assert woken["error"] == "SendosoSupersededError"
    assert woken["xcom"].keys() == {"sendoso_link"}  # pushed before it was frozen
    assert woken["callbacks"] == []
    assert errors(woken) == []
    assert not [line for line in woken["log"] if "held" in line.lower()]
    assert results(tmp_path) == ["sent"] * 8
    assert SendosoHook().ledger.sends.states() == {State.SENT: 8}


def test_a_batch_that_wakes_while_the_next_try_sends_leaves_the_rest_to_it(
    sendoso: Sandbox,
    begin: Callable[..., Frozen],
    connections: dict[str, Any],
    until: Callable[..., None],
) -> None:
    connections["sendoso_default"]["extra"]["timeout"] = 60
    sendoso.fault("slow", times=4, method="POST", path=SENDS, delay=4.0)
    sendoso.fault("slow", times=100, method="POST", path=SENDS, delay=0.3)
    old = begin("batch", count=40)
    until(lambda: len(sendoso.sends) >= 2)
    old.freeze()
    new = begin("batch", count=40, claim_timeout=60)
    until(lambda: len(sendoso.sends) >= 12)
    woken = old.wake()
    posted_by_both = len(sendoso.sends)
    assert woken["error"] == "SendosoSupersededError"
    assert "return_value" not in woken["xcom"]
    assert posted_by_both < 40  # it did not wait for the newer try
    ended = new.wake()
    assert (ended["error"], ended["returned"]["sent"]) == ("", 40)


def test_a_single_gift_that_wakes_after_the_next_try_returns_nothing(
    sendoso: Sandbox, begin: Callable[..., Frozen], next_try: Callable[..., dict[str, Any]], until: Callable[..., None]
) -> None:
    sendoso.fault("slow", method="POST", path=SENDS, delay=30.0)
    old = begin("gift")
    until(lambda: len(sendoso.sends) == 1)
    old.freeze()
    new = next_try("gift")
    assert new["returned"] == sendoso.sends[0].id
    woken = old.wake()
    assert (woken["error"], woken["returned"], woken["callbacks"]) == ("SendosoSupersededError", None, [])
    assert "return_value" not in woken["xcom"]
    assert errors(woken) == []


def test_a_landing_that_wakes_after_the_next_try_does_not_write_what_it_read_before(
    sendoso: Sandbox,
    ledger: Any,
    begin: Callable[..., Frozen],
    next_try: Callable[..., dict[str, Any]],
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    def status() -> list[str]:
        engine = create_engine(f"sqlite:///{tmp_path / 'warehouse.db'}")
        with engine.connect() as connection:
            return list(connection.execute(text("SELECT status FROM landed")).scalars())

    next_try("gift")
    lists = {"method": "GET", "path": SENDS}
    old_row = sendoso.state()["sends"][0]
    sendoso.fault("slow", delay=4.0, **lists)
    old = begin("landing")
    until(lambda: any(request.method == "GET" and request.path == SENDS for request in sendoso.requests))
    old.freeze()  # it is answered while it is frozen, with what is old when it wakes
    until(lambda: sendoso.state()["sends"][0]["status"] == "delivered")
    assert old_row["status"] != "delivered"
    assert next_try("landing")["returned"]["rows"] == 1
    woken = old.wake()
    assert (woken["error"], woken["returned"]) == ("SendosoSupersededError", None)
    assert status() == ["delivered"]


def test_a_sensor_that_wakes_after_the_next_try_returns_nothing(
    sendoso: Sandbox, begin: Callable[..., Frozen], next_try: Callable[..., dict[str, Any]], until: Callable[..., None]
) -> None:
    next_try("batch", count=2)
    sendoso.fault("slow", times=100, method="GET", delay=4.0)
    seen = len(sendoso.requests)
    old = begin("sensor")
    until(lambda: len(sendoso.requests) > seen)
    old.freeze()
    sendoso.clear_faults()
    until(lambda: all(row["status"] == "delivered" for row in sendoso.state()["sends"]))
    assert next_try("sensor")["returned"]["reached"] == 2
    woken = old.wake()
    assert (woken["error"], woken["returned"], woken["callbacks"]) == ("SendosoSupersededError", None, [])


def test_what_an_earlier_try_has_claimed_and_not_posted_is_free_for_the_next_try_at_once(
    sendoso: Sandbox, begin: Callable[..., Frozen], connections: dict[str, Any], until: Callable[..., None]
) -> None:
    """For other runs it is not: they wait for its lease."""
    sendoso.fault("slow", method="POST", path=SENDS, delay=1.0)
    old = begin("batch", count=8)
    until(lambda: len(sendoso.sends) == 1)
    old.process.kill()
    old.process.join(20)
    states = SendosoHook().ledger.sends.states()
    assert states == {State.POSTING: 1, State.CLAIMED: 7}
    patient = {"sendoso_default": sendoso_connection(sendoso, requests_per_second=1000, timeout=60)}
    new = frozen.a_try(connections | patient, "batch", {"count": 8, "claim_timeout": 0})
    assert new["xcom"]["return_value"]["sent"] == 7
    assert new["xcom"]["return_value"]["not_reached"] == 1
    assert len(sendoso.sends) == 8


def test_where_the_ledger_does_not_answer_a_try_is_not_taken_for_superseded(
    ledger: Any, sendoso: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*arguments: Any) -> Any:
        raise SendosoLedgerError("the ledger is away")

    tries, this = SendosoHook().ledger.tries, ThisTry()
    assert not this.superseded()  # it has not begun
    this.begin(tries, "a" * 32)
    monkeypatch.setattr(Cursors, "read", away)
    assert not this.superseded()
    assert "is not known: the ledger is away" in caplog.text


def test_the_try_that_began_last_is_the_newest(ledger: Any, sendoso: Sandbox) -> None:
    tries = SendosoHook().ledger.tries
    old, new, other = ThisTry(), ThisTry(), ThisTry()
    old.begin(tries, "a" * 32)
    other.begin(tries, "b" * 32)
    assert not old.superseded()
    new.begin(tries, "a" * 32)
    assert [one.superseded() for one in (old, new, other)] == [True, False, False]
    with pytest.raises(SendosoSupersededError, match="A newer try of this task has begun"):
        old.check()


def test_a_try_that_was_frozen_before_it_began_does_not_supersede_the_next(ledger: Any, sendoso: Sandbox) -> None:
    tries = SendosoHook().ledger.tries
    first, second, resumed = ThisTry(), ThisTry(), ThisTry()
    second.begin(tries, "a" * 32, 2)
    with pytest.raises(SendosoSupersededError, match="A newer try of this task has begun"):
        first.begin(tries, "a" * 32, 1)
    assert not second.superseded()
    resumed.begin(tries, "a" * 32, 2)
    assert second.superseded()
    assert not resumed.superseded()
