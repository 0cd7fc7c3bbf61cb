"""The replica of a ledger in a bucket: each transaction has seen all before it, and each replica holds the same."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from shaky_bucket import ShakyBucket, interrupted, open_replica, rows, same_everywhere
from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger import bucket as package
from airflow_provider_sendoso.ledger.bucket import log as logs
from airflow_provider_sendoso.ledger.bucket.copied_table import CopiedTable
from airflow_provider_sendoso.ledger.bucket.replica import Replica
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import Batch, Claim, Wanted
from airflow_provider_sendoso.ledger.schema import cursors, db_now, pace, sends, spending
from airflow_provider_sendoso.models import Item, Kind

BATCH = Batch("batch", "account", "q4", "email", "dag", "task", "run", -1)


class Interrupted(BaseException):
    """As Airflow raises it into a task whose time is over."""


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PAUSE", 0.0)


@pytest.fixture
def bucket() -> ShakyBucket:
    return ShakyBucket()


@pytest.fixture
def two(bucket: ShakyBucket) -> tuple[Ledger, Ledger]:
    """The same ledger in two processes."""
    return open_replica(bucket)[0], open_replica(bucket)[0]


def replica_of(ledger: Ledger) -> Replica:
    replica = ledger._database._replica
    assert replica is not None
    return replica


def put(connection: Connection, name: str, version: int) -> None:
    """Insert or update a row."""
    if not connection.execute(update(cursors).where(cursors.c.name == name).values(version=version)).rowcount:
        connection.execute(insert(cursors).values(name=name, version=version, position="", updated_at=0.0))


def add_one(connection: Connection) -> int:
    """Count, as only who has read the last number can."""
    known: int = connection.execute(select(cursors.c.version).where(cursors.c.name == "count")).scalar() or 0
    put(connection, "count", known + 1)
    return known + 1


def wanted(*keys: str) -> list[Wanted]:
    return [Wanted(key, "payload", Item("gift"), None, kind=Kind.GIFT) for key in keys]


# -- each transaction has seen all before it ---------------------------------------------------------------------------


def test_what_one_process_has_committed_another_reads_at_once(two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    for number in range(3):
        one.cursors.write("a", number, f"position {number}")
        found = other.cursors.read("a")
        assert found is not None
        assert found.version == number + 1


def test_a_transaction_that_another_has_overtaken_runs_again_on_what_is_new(two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    one._database.run(add_one)
    other._database.run(add_one)
    runs = []

    def work(connection: Connection) -> int:
        if not runs:
            one._database.run(add_one)
        runs.append(add_one(connection))
        return runs[-1]

    assert other._database.run(work) == 4
    assert runs == [3, 4]


def test_a_read_that_another_has_overtaken_runs_again(two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    other._database.run(add_one)
    found = []

    def work(connection: Connection) -> Any:
        if not found:
            one._database.run(add_one)
        found.append(connection.execute(select(cursors.c.version)).scalar())
        return found[-1]

    assert other._database.run(work) == 2
    assert found == [1, 2]


def test_a_transaction_that_raised_on_what_is_old_runs_again(two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    other._database.run(add_one)
    runs = []

    def work(connection: Connection) -> str:
        if not runs:
            one._database.run(add_one)
        runs.append(connection.execute(select(cursors.c.version)).scalar())
        if runs[-1] == 1:
            raise LookupError("not there yet")
        return "there"

    assert other._database.run(work) == "there"
    assert runs == [1, 2]


def test_a_transaction_that_raises_on_what_is_new_raises_once(two: tuple[Ledger, Ledger]) -> None:
    assert two[0]._database.run(add_one) == 1
    runs = []

    def work(connection: Connection) -> None:
        runs.append(add_one(connection))
        raise LookupError("no")

    with pytest.raises(LookupError):
        two[0]._database.run(work)
    assert runs == [2]
    assert two[0]._database.run(add_one) == 2


def test_of_two_processes_that_claim_a_send_one_gets_it(two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    for ledger in two:
        ledger.sends.open_batch(BATCH)
    (claim,) = one.sends.claim(BATCH, "one", 60, wanted("key")).values()
    (found,) = other.sends.claim(BATCH, "other", 60, wanted("key")).values()
    assert isinstance(claim, Claim)
    assert not isinstance(found, Claim)


def test_a_commit_whose_answer_is_lost_is_not_done_twice(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    one._database.run(add_one)
    bucket.next = ["unacknowledged"]
    assert one._database.run(add_one) == 2
    assert other._database.run(add_one) == 3


def test_a_commit_that_arrives_after_it_was_given_up_is_seen_by_its_repetition(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger]
) -> None:
    one, _ = two
    one._database.run(add_one)
    bucket.next = ["late", "late", lambda: bucket.arrive()]
    assert one._database.run(add_one) == 2
    bucket.next = ["unacknowledged", "lost", "lost"]
    bucket.away = False
    assert one._database.run(add_one) == 3
    same_everywhere(bucket, *map(replica_of, two))


# -- each replica holds the same ---------------------------------------------------------------------------------------


def test_rows_of_every_kind_of_value_are_copied_as_they_are(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    row = {"account": "Zoë 'x'\n", "name": '["', "sends": 2**62, "cost": -1, "currency": None, "counted_at": 0.1 + 0.2}
    one._database.run(lambda connection: connection.execute(insert(spending).values(row)))
    assert other._database.run(lambda connection: dict(connection.execute(select(spending)).one()._mapping)) == {
        **row,
        "max_sends": None,
        "max_cost": None,
    }
    one._database.run(lambda connection: connection.execute(update(spending).values(currency="USD", counted_at=1e-9)))
    one._database.run(lambda connection: connection.execute(update(spending).values(currency=None)))
    same_everywhere(bucket, *map(replica_of, two))


def test_deleted_rows_are_deleted_everywhere(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    for name in "abc":
        one._database.run(lambda connection, name=name: put(connection, name, 1))

    def replace(connection: Connection) -> None:
        connection.execute(delete(cursors).where(cursors.c.name != "b"))
        put(connection, "c", 2)  # deleted and inserted in one transaction
        put(connection, "d", 1)
        connection.execute(delete(cursors).where(cursors.c.name == "d"))  # inserted and deleted in one

    other._database.run(replace)
    held = same_everywhere(bucket, *map(replica_of, two))
    assert [(row[0], row[1]) for row in held["sendoso_cursors"]] == [("b", 1), ("c", 2)]


def test_unique_values_that_rows_have_exchanged_are_copied(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    one.sends.claim(BATCH, "one", 60, wanted("a", "b", "c"))
    bound = {"a": "1", "b": "2", "c": "3"}

    def bind(connection: Connection, ids: dict[str, str]) -> None:
        connection.execute(update(sends).values(bound_id=None))
        for key, bound_id in ids.items():
            connection.execute(update(sends).where(sends.c.send_key == key).values(bound_id=bound_id))

    one._database.run(lambda connection: bind(connection, bound))
    other._database.run(lambda connection: bind(connection, {"a": "2", "b": "1", "c": "3"}))
    assert one._database.run(
        lambda connection: dict(connection.execute(select(sends.c.send_key, sends.c.bound_id)).all())  # type: ignore[arg-type]
    ) == {"a": "2", "b": "1", "c": "3"}

    def hand_on(connection: Connection) -> None:
        connection.execute(delete(sends).where(sends.c.send_key == "c"))
        connection.execute(update(sends).where(sends.c.send_key == "a").values(bound_id="3"))

    other._database.run(hand_on)
    same_everywhere(bucket, *map(replica_of, two))


def test_every_unique_index_of_the_ledger_can_be_emptied_while_rows_are_copied(bucket: ShakyBucket) -> None:
    """A new one on columns that must not be NULL would need another way."""
    _, replica = open_replica(bucket)
    from airflow_provider_sendoso.ledger.schema import metadata

    unique = {table.name: CopiedTable(table)._unique for table in metadata.tables.values()}
    for table in metadata.tables.values():
        assert all(unique[table.name] for index in table.indexes if index.unique)
    assert not interrupted(replica.connection)


def test_a_value_that_changes_nothing_is_no_entry(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> None:
    one, _ = two
    one._database.run(add_one)
    before = replica_of(one)._log.number
    one._database.run(lambda connection: connection.execute(delete(pace)))
    assert replica_of(one)._log.number == before


# -- threads that are interrupted --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "happens",
    [
        "alone",
        "overtaken",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("behind", "unacknowledged", "first")),
    ],
)
def test_a_thread_that_is_interrupted_at_any_step_leaves_a_replica_that_is_right(
    bucket: ShakyBucket, interrupt_at: Callable[..., bool], happens: str
) -> None:
    """Airflow raises into a task whose time is over, wherever it is."""
    ledger, replica = open_replica(bucket)
    other, _ = open_replica(bucket)
    other._database.run(add_one)
    ledger._database.run(add_one)
    steps = committed = 0
    was_interrupted = True
    while was_interrupted:
        steps += 1
        committed = other._database.run(add_one) if happens == "behind" else ledger._database.run(add_one)
        if happens == "first":
            replica._clock.__init__()  # type: ignore[misc]
        bucket.next = {
            "overtaken": [lambda: untraced(lambda: other._database.run(add_one))],
            "unacknowledged": ["unacknowledged"],
        }.get(happens, [])
        was_interrupted = interrupt_at(steps, lambda: ledger._database.run(add_one))
        bucket.next = []
        now = ledger._database.run(add_one)
        # What was interrupted has counted, or has not; and so has who came before it.
        assert committed < now <= committed + 3
        assert other._database.run(add_one) == now + 1
        replica._catch_up()
        assert rows(replica) == rows(replica_of(other))
    same_everywhere(bucket, replica)
    assert steps > 30, "hardly anything was interrupted"


def untraced(function: Callable[[], Any]) -> None:
    """Call what another process does, which is not interrupted."""
    trace = sys.gettrace()
    sys.settrace(None)
    function()
    sys.settrace(trace)


@pytest.fixture
def interrupt_at() -> Callable[..., bool]:
    """Runs a function, and interrupts it at a line of the ledger's code; returns whether it has come to that line."""
    places = tuple(package.__path__)

    def run(step: int, function: Callable[[], Any]) -> bool:
        left = step

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(places):
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    raise Interrupted
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function()
        except Interrupted:
            return True
        finally:
            sys.settrace(before)
        return False

    return run


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_ledger_that_was_opened_before_a_fork_is_refused_in_the_child(two: tuple[Ledger, Ledger]) -> None:
    """Two processes that go on from one replica would each think that it is its own."""
    one, other = two
    one._database.run(add_one)
    parent, child = multiprocessing.get_context("fork").Pipe()

    def use() -> None:
        try:
            one._database.run(add_one)
        except SendosoLedgerError as error:
            child.send(str(error))
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=use)
    process.start()
    said = parent.recv() if parent.poll(30) else "nothing"
    process.kill()
    process.join()
    assert "before this process was forked" in said
    assert one._database.run(add_one) == 2
    assert other._database.run(add_one) == 3


def test_a_bucket_that_does_not_answer_is_an_error_that_says_so(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], impatient: None
) -> None:
    two[0]._database.run(add_one)
    bucket.away = True
    with pytest.raises(SendosoLedgerError, match=r"The ledger \(bucket\) could not be read or written: .*SlowDown"):
        two[0]._database.run(add_one)
    with pytest.raises(SendosoLedgerError, match=r"does not answer: 503 SlowDown.*can be retried"):
        open_replica(bucket)
    bucket.away = False
    assert two[0]._database.run(add_one) == 2


def test_a_machine_without_room_for_its_copy_sends_nothing_until_it_has_some(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    one._database.run(add_one)
    replica = replica_of(one)
    (pages,) = replica.connection.execute("PRAGMA page_count").fetchone()
    replica.connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    long = {"name": "long", "version": 1, "position": "x" * 100_000, "updated_at": 0.0}
    other._database.run(lambda connection: connection.execute(insert(cursors).values(long)))
    with pytest.raises(SendosoLedgerError, match=r"\(bucket\) could not be read or written: .*full"):
        one._database.run(add_one)
    with pytest.raises(SendosoLedgerError, match=r"\(bucket\) could not be read or written: .*full"):
        one._database.run(lambda connection: connection.execute(insert(cursors).values(long | {"name": "longer"})))
    replica.connection.execute("PRAGMA max_page_count = 1000000")
    assert one._database.run(add_one) == 2
    same_everywhere(bucket, replica, replica_of(other))
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    bucket.put("snapshots/000000000001", b"")
    with pytest.raises(SendosoLedgerError, match=r"This machine's copy of the ledger.*room for temporary files"):
        open_replica(bucket)


@pytest.mark.parametrize("deleted", [1, 3])
def test_a_log_with_a_hole_is_refused_when_it_is_opened(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], deleted: int
) -> None:
    for _ in range(3):
        two[0]._database.run(add_one)
    bucket.delete(f"log/{deleted:012d}")
    with pytest.raises(SendosoLedgerError, match=f"deleted, restored in part.*log/{deleted:012d} is missing"):
        open_replica(bucket)


def test_entries_that_were_written_into_a_gap_are_refused_by_who_has_read_the_others(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger]
) -> None:
    one, other = two
    one._database.run(add_one)
    number = replica_of(one)._log.number
    bucket.delete(f"log/{number:012d}")
    other._database.run(add_one)  # it has not read the one that was deleted
    other._database.run(add_one)
    with pytest.raises(SendosoLedgerError, match=r"does not follow the entry before it.*Restore the objects"):
        one._database.run(add_one)


def test_a_ledger_whose_objects_were_all_deleted_is_refused_by_who_opens_it_next(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger]
) -> None:
    two[0]._database.run(add_one)
    for name in bucket.all_names():
        bucket.delete(name)
    two[0]._database.run(add_one)  # it cannot know
    with pytest.raises(SendosoLedgerError, match="deleted, restored in part"):
        open_replica(bucket)


def test_a_replica_stays_small_and_is_gone_with_its_process(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> None:
    one, _ = two
    for _ in range(50):
        one._database.run(add_one)
    assert len(replica_of(one)._log._lines) <= logs.PACK
    assert rows(replica_of(one), ["sendoso_position"])["sendoso_position"][0][0] == replica_of(one)._log.number
    (path,) = [path for _, name, path in replica_of(one).connection.execute("PRAGMA database_list") if name == "main"]
    assert path == ""  # a file without a name


def test_a_transaction_that_is_overtaken_for_too_long_is_an_error(
    two: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    one._database.run(add_one)
    monkeypatch.setattr(Database.run, "__defaults__", (0.2, None))
    monkeypatch.setattr("airflow_provider_sendoso.ledger.database.PATIENCE", 0.2)

    def work(connection: Connection) -> None:
        other._database.run(add_one)
        add_one(connection)

    began = time.monotonic()
    with pytest.raises(SendosoLedgerError, match="another process has committed first"):
        one._database.run(work)
    assert time.monotonic() - began < 30
    assert other._database.run(add_one) > 1


def test_the_clock_of_the_ledger_is_not_the_machines(bucket: ShakyBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is a day behind takes no lease for lapsed, and gives none that lapses at once."""
    there = time.time()
    monkeypatch.setattr(time, "time", lambda: there - 86_400)
    ledger, _ = open_replica(bucket)
    now = ledger._database.run(lambda connection: connection.execute(select(db_now())).scalar_one())
    assert abs(now - there) < 60
