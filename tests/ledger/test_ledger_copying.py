"""A ledger moves to another store with everything in it, and at no moment two of them are in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledger_workers
import pytest
from buckets import folder_address, folder_engine, folder_ledger
from sqlalchemy import create_engine, select
from sqlalchemy.engine import Engine

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import Ledger, copying
from airflow_provider_sendoso.ledger.copying import Move
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import identity, metadata
from airflow_provider_sendoso.models import Item, Kind

ACCOUNT, SCOPE = "acme", "spring"


@pytest.fixture
def source(ledger_connection: dict[str, Any]) -> Callable[[], Engine]:
    address = folder_address(ledger_connection)
    url = ledger_workers.ledger_url(ledger_connection)
    return lambda: folder_engine(address) if address else create_engine(url, hide_parameters=True)


@pytest.fixture(params=["database", "bucket"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    if request.param == "database":
        return lambda: create_engine(f"sqlite:///{tmp_path / 'moved.db'}", hide_parameters=True)
    address = folder_address(folder_ledger(tmp_path / "moved")) or ""
    return lambda: folder_engine(address)


def wanted(key: str) -> Wanted:
    return Wanted(key, "p" * 64, Item("gift-mug"), None, kind=Kind.GIFT)


def fill(ledger: Ledger, people: int) -> None:
    batch = Batch("b" * 32, ACCOUNT, SCOPE, "email", "dag", "task", "run", -1)
    ledger.sends.open_batch(batch)
    keys = [ledger.send_key(ACCOUNT, SCOPE, f"ada{n}@example.com") for n in range(people)]
    claimed = ledger.sends.claim(batch, "owner", 60, [wanted(key) for key in keys])
    for number, key in enumerate(keys):
        claim = claimed[key]
        assert isinstance(claim, Claim)
        assert ledger.sends.begin_post(claim, 60)
        state = (State.SENT, State.REFUSED, State.UNKNOWN)[number % 3]
        assert ledger.sends.finish(claim, state, send_id=f"send-{number}" if state is State.SENT else None)
    ledger.cursors.write("events:acme", 0, "{}")


def everything(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    def read(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.tables.values()
            if table is not identity
        }

    return Database(engine).run(read)


def test_everything_is_copied_and_the_old_ledger_is_closed(
    source: Callable[[], Engine], target: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_AT_ONCE", 4)  # the rows take several transactions
    before = Ledger(source())
    fill(before, 11)
    lines: list[str] = []
    Move(source(), target()).run(lines.append)
    assert "sendoso_sends: 11 rows" in lines
    after = Ledger(target())
    assert after.identity == before.identity
    assert everything(target()) == everything(source())
    with pytest.raises(SendosoConfigError, match="moved to another store"):
        Ledger(source())
    Move(source(), target()).run(lines.append)
    assert lines[-1].startswith("The ledger has been copied before")


def test_a_copy_that_stops_in_the_middle_is_used_by_nobody_and_goes_on(
    source: Callable[[], Engine], target: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(Ledger(source()), 9)
    monkeypatch.setattr(copying, "_AT_ONCE", 2)
    put, calls = copying._put, iter(range(6))

    def stops(*arguments: Any) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        put(*arguments)

    monkeypatch.setattr(copying, "_put", stops)
    with pytest.raises(KeyboardInterrupt):
        Move(source(), target()).run(lambda line: None)
    with pytest.raises(SendosoConfigError, match="being copied"):
        Ledger(target())
    with pytest.raises(SendosoConfigError, match="moved to another store"):
        Ledger(source())
    monkeypatch.setattr(copying, "_put", put)
    Move(source(), target()).run(lambda line: None)
    assert everything(target()) == everything(source())
    assert len(list(Ledger(target()).sends.records(*State))) == 9


def test_a_ledger_in_which_a_run_is_at_work_is_left_alone(
    source: Callable[[], Engine], target: Callable[[], Engine]
) -> None:
    ledger = Ledger(source())
    batch = Batch("b" * 32, ACCOUNT, SCOPE, "email", "dag", "task", "run", -1)
    ledger.sends.open_batch(batch)
    ledger.sends.claim(batch, "owner", 60, [wanted("k" * 64)])
    with pytest.raises(SendosoConfigError, match="1 sends are claimed"):
        Move(source(), target()).run(lambda line: None)
    assert Ledger(source()).identity == ledger.identity


def test_two_ledgers_are_never_made_one(source: Callable[[], Engine], target: Callable[[], Engine]) -> None:
    Ledger(source())
    Ledger(target())
    with pytest.raises(SendosoConfigError, match="two ledgers cannot be made one"):
        Move(source(), target()).run(lambda line: None)
    Ledger(source())


def test_where_there_is_no_ledger_nothing_is_copied(source: Callable[[], Engine], target: Callable[[], Engine]) -> None:
    with pytest.raises(SendosoConfigError, match="no ledger to copy"):
        Move(source(), target()).run(lambda line: None)
