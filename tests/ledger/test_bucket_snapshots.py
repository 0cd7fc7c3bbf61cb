"""Snapshots of a ledger in a bucket: nothing depends on them, and who begins with one holds the same."""

from __future__ import annotations

import gzip
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import ledger_workers
import pytest
from buckets import folder_engine
from shaky_bucket import ShakyBucket, of, open_replica, rows
from sqlalchemy import insert, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.bucket import snapshots
from airflow_provider_sendoso.ledger.schema import cursors


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot after twenty entries."""
    monkeypatch.setattr(snapshots, "EVERY", 20)


def fill(ledger: Ledger, count: int = 25) -> None:
    """Make many entries."""

    def put(connection: Connection, number: int) -> None:
        values = {"version": number, "position": "x", "updated_at": 0.0}
        found = connection.execute(update(cursors).where(cursors.c.name == f"{number % 7}").values(values))
        if not found.rowcount:
            connection.execute(insert(cursors).values(name=f"{number % 7}", **values))

    for number in range(count):
        ledger._database.run(lambda connection, number=number: put(connection, number))


@pytest.fixture
def bucket() -> ShakyBucket:
    """With two snapshots, the last entry after the newest of them."""
    bucket = ShakyBucket()
    for _ in range(3):
        fill(open_replica(bucket)[0])
    assert len(bucket.names("snapshots")) == 2
    bucket.asked.clear()
    return bucket


def everything(bucket: ShakyBucket) -> dict[str, list[tuple[object, ...]]]:
    """What a process that opens the ledger now reads."""
    _, replica = open_replica(bucket)
    replica._catch_up()
    return rows(replica)


def test_a_process_begins_with_the_newest_snapshot(bucket: ShakyBucket) -> None:
    newest = bucket.names("snapshots")[-1].removeprefix("snapshots/")
    bucket.asked.clear()
    open_replica(bucket)
    read = [asked for asked in bucket.asked if asked.startswith("read log/")]
    assert min(read) == f"read log/{newest}"


def test_what_is_read_with_snapshots_is_what_the_log_alone_says(bucket: ShakyBucket) -> None:
    with_snapshots = everything(bucket)
    for name in bucket.names("snapshots"):
        bucket.delete(name)
    assert len(with_snapshots["sendoso_cursors"]) == 7
    # Opening it has added an entry without changes.
    assert everything(bucket) | {"sendoso_position": []} == with_snapshots | {"sendoso_position": []}


@pytest.mark.parametrize("listed", [0, 1])
def test_a_list_that_is_late_costs_time_only(bucket: ShakyBucket, listed: int) -> None:
    expected = everything(bucket)
    bucket.hidden = set(bucket.all_names()[-5:]) | set(bucket.names("snapshots")[listed:])
    assert everything(bucket) | {"sendoso_position": []} == expected | {"sendoso_position": []}


def test_a_snapshot_that_is_listed_and_gone_is_done_without(bucket: ShakyBucket) -> None:
    expected = everything(bucket)
    names = bucket.names("snapshots")
    bucket.names = lambda folder, after="": names if folder == "snapshots" else []  # type: ignore[method-assign]
    bucket.delete(names[-1])
    assert everything(bucket) | {"sendoso_position": []} == expected | {"sendoso_position": []}


def test_a_snapshot_that_is_not_answered_does_no_harm() -> None:
    bucket = ShakyBucket()
    fill(open_replica(bucket)[0])
    bucket.next = ["lost"]
    open_replica(bucket)
    assert bucket.names("snapshots") == []


def test_a_process_that_is_killed_while_it_makes_a_snapshot_leaves_none(
    tmp_path: Path, forkserver: ForkServerContext
) -> None:
    address = f"file://{tmp_path}/ledger"
    first = folder_engine(address)
    fill(Ledger(first))
    process = forkserver.Process(target=ledger_workers.die_in_a_snapshot, args=(address, snapshots.EVERY))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    # What a local store has half written has a name of its own, which no list shows.
    (tmp_path / "ledger" / "snapshots").mkdir()
    (tmp_path / "ledger" / "snapshots" / f"{99:012d}#1").write_bytes(gzip.compress(b"half")[:9])
    second = folder_engine(address)
    of(first)._catch_up()
    assert rows(of(second)) == rows(of(first))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"text", gzip.compress(b"text" * 1000), gzip.compress(b"text")[:9]],
    ids=["text", "packed text", "cut off"],
)
def test_an_object_that_is_no_snapshot_is_refused(bucket: ShakyBucket, body: bytes) -> None:
    bucket.put("snapshots/999999999999", body)
    with pytest.raises(SendosoLedgerError, match="snapshots/999999999999 is no snapshot"):
        open_replica(bucket)


def test_the_snapshot_of_another_ledger_is_refused(bucket: ShakyBucket) -> None:
    """It may be the newest object: no entry after it would say whose it is."""
    another = ShakyBucket()
    for _ in range(3):
        fill(open_replica(another)[0])
    newest = bucket.names("snapshots")[-1]
    bucket.put(newest, another.read(newest) or b"")
    with pytest.raises(SendosoLedgerError, match="is not the entry that the snapshot was made after"):
        open_replica(bucket)


def test_a_log_that_was_deleted_beside_its_snapshots_is_refused(bucket: ShakyBucket) -> None:
    """As a lifecycle rule does that deletes what is old, or somebody who empties the folder."""
    for name in bucket.all_names():
        if name.startswith("log/"):
            bucket.delete(name)
    with pytest.raises(SendosoLedgerError, match=r"log/\d+ is missing, and there is a snapshot"):
        open_replica(bucket)
