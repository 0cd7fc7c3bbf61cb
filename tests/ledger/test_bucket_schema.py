"""Releases side by side on a ledger in a bucket: none loses what another has written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from shaky_bucket import ShakyBucket, of, open_replica, rows, same_everywhere
from sqlalchemy import Column, Integer, MetaData, String, Table, select, text

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.ledger import Ledger, schema
from airflow_provider_sendoso.ledger.bucket import replica as replicas
from airflow_provider_sendoso.ledger.bucket import snapshots
from airflow_provider_sendoso.ledger.bucket.engine import make_engine
from airflow_provider_sendoso.ledger.bucket.replica import Replica
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.models import Item, Kind

BATCH = Batch("batch", "account", "q4", "email", "dag", "task", "run", -1)
Tables = Callable[[MetaData], None]


def version_7(tables: MetaData) -> None:
    """Leave out what has come since: two tables, and a column with its index."""
    for table in schema.metadata.tables.values():
        if table.name in ("sendoso_wakeups", "sendoso_plans"):
            continue
        columns = [column._copy() for column in table.columns if column.name != "send_gid"]
        Table(table.name, tables, *columns)


def version_9(tables: MetaData) -> None:
    """Have a column and a table more."""
    for table in schema.metadata.tables.values():
        more = [Column("mood", String(20))] if table is schema.sends else []
        Table(table.name, tables, *(column._copy() for column in table.columns), *more)
    Table("sendoso_moods", tables, Column("mood", String(20), primary_key=True), Column("count", Integer))


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Database]:
    """Opens the ledger as another release does; returns what runs its statements."""

    @contextmanager
    def of_version(version: int, make: Tables) -> Iterator[None]:
        tables = MetaData()
        make(tables)
        with monkeypatch.context() as patch:
            patch.setattr(schema, "metadata", tables)
            patch.setattr(schema, "SCHEMA_VERSION", version)
            patch.setattr(replicas, "SCHEMA_VERSION", version)
            yield

    def open_it(bucket: ShakyBucket, version: int, make: Tables) -> Database:
        with of_version(version, make):
            database = Database(make_engine(bucket))
            found = database.run(lambda connection: connection.execute(select(schema.identity.c.tables_version)).all())
            if not found:  # a new ledger
                run(
                    database,
                    "INSERT INTO sendoso_ledger (id, schema_version, ledger_uuid, hash_key, created_at, tables_version)"
                    f" VALUES (1, 4, 'uuid', '{'ab' * 32}', 0, {version})",
                )
        return database

    return open_it


def run(database: Database, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    for statement in statements:
        database.run(lambda connection, statement=statement: connection.execute(text(statement)))


def send(key: str, **more: Any) -> str:
    """The statement with which a release inserts a send."""
    values = {
        **{"send_key": key, "account": "account", "dedupe_scope": "q4", "state": "UNKNOWN", "attempt": 1},
        **{"lease_until": 0, "batch_id": "batch", "payload_hash": "payload", "created_at": 0, "kind": "gift"},
        **more,
    }
    return f"INSERT INTO sendoso_sends ({', '.join(values)}) VALUES ({', '.join(map(repr, values.values()))})"


def replica(database: Database) -> Replica:
    return of(database.engine)


@pytest.fixture
def bucket() -> ShakyBucket:
    return ShakyBucket()


@pytest.mark.parametrize("with_snapshot", [False, True])
def test_a_ledger_of_an_older_release_is_read_and_upgraded(
    bucket: ShakyBucket, release: Callable[..., Database], monkeypatch: pytest.MonkeyPatch, with_snapshot: bool
) -> None:
    run(release(bucket, 7, version_7), send("one"), send("two", state="SENT", send_id="id-2"))
    if with_snapshot:
        monkeypatch.setattr(snapshots, "EVERY", 1)
        release(bucket, 7, version_7)
        assert len(bucket.names("snapshots")) == 1
        monkeypatch.undo()
    upgraded, _ = open_replica(bucket)
    assert upgraded.identity.ledger_uuid == "uuid"
    assert {record.send_key: record.state for record in upgraded.sends.records(*State)} == {
        "one": State.UNKNOWN,
        "two": State.SENT,
    }
    upgraded.wakeups.note_gids("account", {"id-2": "gid-2"})
    upgraded.wakeups.note("account", "msg_1", "gid-2")
    assert [wakeup.names for wakeup in upgraded.wakeups.recent(60)] == [("gid-2", "id-2")]
    held = same_everywhere(bucket, replica(upgraded._database))
    assert held["sendoso_ledger"][0][-1] == schema.SCHEMA_VERSION


def test_what_a_newer_release_has_written_stays_while_an_older_one_is_at_work(
    bucket: ShakyBucket, release: Callable[..., Database]
) -> None:
    older = release(bucket, 7, version_7)
    run(older, send("one", state="SENT", send_id="id-1"))
    newer, _ = open_replica(bucket)
    newer.wakeups.note_gids("account", {"id-1": "gid-1"})
    newer.wakeups.note("account", "msg_1", "gid-1")
    run(older, "UPDATE sendoso_sends SET status = 'shipped'", send("two"))
    assert [wakeup.names for wakeup in newer.wakeups.recent(60)] == [("gid-1", "id-1")]
    record = newer.sends.read(["one"])["one"]
    assert record.status == "shipped"
    (claim,) = newer.sends.claim(
        BATCH, "owner", 60, [Wanted("three", "payload", Item("gift"), None, kind=Kind.GIFT)]
    ).values()
    assert isinstance(claim, Claim)
    same_everywhere(bucket, replica(newer._database))
    keys = older.run(lambda connection: connection.execute(text("SELECT send_key FROM sendoso_sends")).scalars().all())
    assert sorted(keys) == ["one", "three", "two"]


def test_this_release_leaves_alone_what_only_a_newer_one_knows(
    bucket: ShakyBucket, release: Callable[..., Database]
) -> None:
    ledger, here = open_replica(bucket)
    newer = release(bucket, 9, version_9)
    run(newer, "UPDATE sendoso_ledger SET tables_version = 9", send("one", state="SENT", send_id="1", mood="merry"))
    run(newer, "INSERT INTO sendoso_moods VALUES ('merry', 1)")
    assert ledger.sends.read(["one"])["one"].state is State.SENT
    run(ledger._database, "UPDATE sendoso_sends SET status = 'shipped'")
    row = newer.run(lambda connection: connection.execute(text("SELECT status, mood FROM sendoso_sends")).one())
    assert tuple(row) == ("shipped", "merry")
    assert "sendoso_moods" not in rows(here)


def test_a_release_that_does_not_know_all_columns_makes_no_snapshot(
    bucket: ShakyBucket, release: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be without them, and who begins with it would have lost them."""
    newer = release(bucket, 9, version_9)
    run(newer, send("one", mood="merry"), "UPDATE sendoso_ledger SET tables_version = 9")
    monkeypatch.setattr(snapshots, "EVERY", 1)
    open_replica(bucket)
    assert bucket.names("snapshots") == []
    another = release(bucket, 9, version_9)
    assert len(bucket.names("snapshots")) == 1
    query = text("SELECT mood FROM sendoso_sends")
    assert another.run(lambda connection: connection.execute(query).scalar()) == "merry"


def test_this_release_begins_with_the_snapshot_of_a_newer_one(
    bucket: ShakyBucket, release: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = release(bucket, 9, version_9)
    run(newer, send("one", mood="merry"), "UPDATE sendoso_ledger SET tables_version = 9")
    monkeypatch.setattr(snapshots, "EVERY", 1)
    another = release(bucket, 9, version_9)
    ledger, _ = open_replica(bucket)
    run(ledger._database, "UPDATE sendoso_sends SET status = 'shipped'")
    for database in (newer, another):
        row = database.run(lambda connection: connection.execute(text("SELECT status, mood FROM sendoso_sends")).one())
        assert tuple(row) == ("shipped", "merry")


def test_a_ledger_that_only_newer_releases_may_use_is_refused(
    bucket: ShakyBucket, release: Callable[..., Database]
) -> None:
    newer = release(bucket, 9, version_9)
    run(newer, "UPDATE sendoso_ledger SET schema_version = 9")
    with pytest.raises(SendosoConfigError, match=r"schema version 9.*Upgrade the provider"):
        Ledger(make_engine(bucket))


def test_of_processes_that_open_a_ledger_at_once_all_have_the_same_identity(bucket: ShakyBucket) -> None:
    engines = [make_engine(bucket) for _ in range(3)]  # none has made it yet
    ledgers: Sequence[Ledger] = [Ledger(engine) for engine in engines]
    assert len({ledger.identity for ledger in ledgers}) == 1
