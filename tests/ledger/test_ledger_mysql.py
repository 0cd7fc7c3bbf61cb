"""Differences of MySQL and its drivers, of which the ledger shows none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.engine import Connection, Engine

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger, sessions
from airflow_provider_sendoso.ledger.records import Batch, Wanted
from airflow_provider_sendoso.ledger.schema import db_now, scopes, sends
from airflow_provider_sendoso.models import Item, Kind

BATCH = Batch("batch", "account", "scope", "email", "dag", "task", "run", -1)


@pytest.fixture(params=["pymysql", "mysqlconnector"])
def engine(request: pytest.FixtureRequest, mysql_database: Callable[[], Any]) -> Iterator[Engine]:
    """An empty database, by each driver that comes as a wheel."""
    url = mysql_database().url.replace("pymysql", request.param)
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)
    yield engine
    engine.dispose()


@pytest.fixture
def opened(engine: Engine) -> Ledger:
    """A ledger with two sends."""
    ledger = Ledger(engine)
    ledger.sends.claim(BATCH, "owner", 60, [Wanted(key, "payload", Item("gift"), None, kind=Kind.GIFT) for key in "ab"])
    return ledger


def touch(key: str) -> Any:
    return update(sends).where(sends.c.send_key == key).values(reason="touched")


@pytest.mark.parametrize("client", ["pymysql", "mysql-connector-python"])
def test_the_extra_of_the_connection_chooses_the_driver(
    client: str, sendoso: Any, mysql_database: Callable[[], Any], set_connection: Callable[..., None]
) -> None:
    connection = mysql_database().connection
    connection["extra"]["client"] = client
    set_connection("sendoso_ledger", connection)
    assert SendosoHook().ledger.identity.ledger_uuid


def test_a_transaction_that_met_a_deadlock_is_repeated(opened: Ledger) -> None:
    both_have_one, runs = threading.Barrier(2), []

    def work(connection: Connection, first: str, second: str) -> None:
        connection.execute(touch(first))
        runs.append(first)
        if len(runs) <= 2:
            both_have_one.wait(60)
        connection.execute(touch(second))

    threads = [
        threading.Thread(target=opened._database.run, args=(lambda connection, order=order: work(connection, *order),))
        for order in ("ab", "ba")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(runs) == 3


def test_a_transaction_whose_lock_timed_out_is_repeated(
    engine: Engine, opened: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LOCK_TIMEOUT_MS", 1000)
    other = Ledger(create_engine(engine.url))._database
    with engine.begin() as holding:
        holding.execute(touch("a"))
        waiting = threading.Thread(target=other.run, args=(lambda connection: connection.execute(touch("a")),))
        waiting.start()
        waiting.join(1.5)
        assert waiting.is_alive()
    waiting.join(60)
    assert not waiting.is_alive()
    other.engine.dispose()


def test_a_transaction_whose_connection_was_lost_is_repeated(engine: Engine, opened: Ledger) -> None:
    runs = []

    def work(connection: Connection) -> int:
        runs.append(connection.execute(text("SELECT CONNECTION_ID()")).scalar())
        if len(runs) == 1:
            with engine.connect() as other:
                other.execute(text(f"KILL {runs[0]}"))
        return connection.execute(touch("a")).rowcount

    assert opened._database.run(work) == 1
    assert len(runs) == 2


def test_a_transaction_of_a_frozen_process_is_rolled_back(
    engine: Engine, opened: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "IDLE_TIMEOUT_MS", 1000)
    frozen = Ledger(create_engine(engine.url))._database.engine
    holding = frozen.connect()
    began = time.monotonic()
    holding.begin()
    holding.execute(touch("a"))
    opened._database.run(lambda connection: connection.execute(touch("a")))
    assert time.monotonic() - began > 0.5
    holding.invalidate()
    frozen.dispose()


def test_an_update_counts_rows_that_it_leaves_unchanged(opened: Ledger) -> None:
    for _ in range(2):
        assert opened._database.run(lambda connection: connection.execute(touch("a"))).rowcount == 1


@pytest.mark.parametrize("change", [{"account": "a" * 191}, {"recipient_key": None}])
def test_a_value_that_does_not_fit_its_column_is_an_error(opened: Ledger, change: dict[str, Any]) -> None:
    row = {"account": "a", "dedupe_scope": "scope", "recipient_key": "email", "created_at": 1.0} | change
    with pytest.raises(SendosoLedgerError, match=next(iter(change))):
        opened._database.run(lambda connection: opened._database.insert_ignore(connection, scopes, [row]))


def test_the_clock_is_utc_and_moves_while_a_statement_waits(engine: Engine, opened: Ledger) -> None:
    def stamp() -> None:
        late = update(sends).where(sends.c.send_key == "a").values(posted_at=db_now())
        opened._database.run(lambda connection: connection.execute(late))

    with engine.begin() as holding:
        holding.execute(touch("a"))
        waiting = threading.Thread(target=stamp)
        waiting.start()
        waiting.join(0.3)
        before = time.time()
        released = holding.execute(select(db_now())).scalar_one()
        assert before - 0.5 <= released <= time.time() + 0.5
    waiting.join(60)
    of_a = select(sends.c.posted_at).where(sends.c.send_key == "a")
    posted = opened._database.run(lambda connection: connection.execute(of_a).scalar_one())
    assert posted >= released


def test_the_lock_on_creating_the_tables_ends_with_its_connection(engine: Engine, opened: Ledger) -> None:
    with engine.connect() as connection:
        assert connection.execute(text("SELECT IS_FREE_LOCK('sendoso_ledger')")).scalar() == 1
