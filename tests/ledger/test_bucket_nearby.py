"""What the processes of one machine leave each other of the log: it saves requests, and decides nothing."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from shaky_bucket import ShakyBucket, of, same_everywhere
from sqlalchemy import select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.bucket import nearby as module
from airflow_provider_sendoso.ledger.bucket.engine import make_engine
from airflow_provider_sendoso.ledger.bucket.nearby import Nearby
from airflow_provider_sendoso.ledger.bucket.replica import Replica
from airflow_provider_sendoso.ledger.schema import cursors

ADDRESS = "s3://bucket/of-one-machine"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def bucket() -> ShakyBucket:
    return ShakyBucket()


def open_on(bucket: ShakyBucket, nearby: Nearby | None) -> Ledger:
    """Open the ledger as another process would, on a machine with such a folder."""
    return Ledger(make_engine(bucket, nullcontext, nearby))


@pytest.fixture
def two(bucket: ShakyBucket) -> tuple[Ledger, Ledger]:
    """The same ledger in two processes of one machine."""
    return open_on(bucket, Nearby(ADDRESS)), open_on(bucket, Nearby(ADDRESS))


@pytest.fixture
def elsewhere(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> Ledger:
    """The same ledger in a process of another machine."""
    return open_on(bucket, None)


def replica_of(ledger: Ledger) -> Replica:
    return of(ledger._database.engine)


def add_one(ledger: Ledger) -> int:
    """Count, as only who has read the last number can."""
    before = ledger.cursors.read("count")
    assert ledger.cursors.write("count", before.version, str(before.version + 1))
    return before.version + 1


def write(ledger: Ledger, text: str) -> None:
    """Write without reading first."""
    ledger._database.run(lambda connection: connection.execute(update(cursors).values(position=text)))


def position(connection: Connection) -> str:
    return str(connection.execute(select(cursors.c.position)).scalar_one())


def requests(bucket: ShakyBucket) -> list[str]:
    """What was asked of the store since the last time, without numbers."""
    found = [asked.rpartition("/")[0] for asked in bucket.asked]
    bucket.asked.clear()
    return found


def test_a_process_that_writes_asks_the_store_nothing_that_another_of_its_machine_knows(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger]
) -> None:
    one, other = two
    add_one(one)
    write(other, "begins")
    requests(bucket)
    for number in range(10):
        write(two[number % 2], str(number))
    assert requests(bucket) == ["create log"] * 10
    same_everywhere(bucket, *map(replica_of, two))


def test_what_one_has_read_of_another_machine_the_others_need_not_read(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], elsewhere: Ledger
) -> None:
    one, other = two
    add_one(elsewhere)
    assert one._database.read(position) == "1"
    write(other, "begins")
    add_one(elsewhere)
    write(one, "of one")  # overtaken, so it reads
    requests(bucket)
    write(other, "of the other")
    assert requests(bucket) == ["create log"]
    same_everywhere(bucket, *map(replica_of, (*two, elsewhere)))


def test_a_read_asks_the_store_whatever_is_nearby(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], elsewhere: Ledger
) -> None:
    one, other = two
    add_one(one)
    write(elsewhere, "of another machine")
    assert other._database.read(position) == "of another machine"
    write(one, "of this machine")
    write(elsewhere, "later")
    assert other._database.read(position) == "later"


def test_what_was_not_committed_is_not_nearby(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], elsewhere: Ledger, tmp_path: Path
) -> None:
    one, other = two
    add_one(one)
    write(other, "begins")
    bucket.next = [lambda: write(elsewhere, "first"), "created", "lost", "lost", "lost"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("airflow_provider_sendoso.ledger.bucket.log._PAUSE", 0.0)
        write(one, "second")
    kept = {int(file.name): file.read_bytes() for file in tmp_path.rglob("0*")}
    assert {number: bucket.read(f"log/{number:012d}") for number in kept} == kept
    assert other._database.read(position) == "second"
    same_everywhere(bucket, *map(replica_of, (*two, elsewhere)))


def test_entries_of_a_ledger_that_was_there_before_are_ignored(bucket: ShakyBucket, two: tuple[Ledger, Ledger]) -> None:
    """A bucket that was emptied, or another account's bucket of that name."""
    for _ in range(5):
        add_one(two[0])
    new = ShakyBucket()
    one, other = open_on(new, Nearby(ADDRESS)), open_on(new, Nearby(ADDRESS))
    for number in range(4):
        assert add_one((one, other)[number % 2]) == number + 1
    same_everywhere(new, replica_of(one), replica_of(other))


@pytest.mark.parametrize("body", [b"", b"no entry", b"\x1f\x8b\x08"], ids=["empty", "other", "cut"])
def test_a_file_that_is_no_entry_is_ignored(bucket: ShakyBucket, two: tuple[Ledger, Ledger], body: bytes) -> None:
    one, other = two
    add_one(one)
    Nearby(ADDRESS).keep(replica_of(one)._log.number, body)
    assert add_one(other) == 2


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_others_can_write_to_or_read_is_not_used(tmp_path: Path, mode: int) -> None:
    nearby = Nearby(ADDRESS)
    nearby.keep(1, b"entry")
    assert nearby.read(1) == b"entry"
    (folder,) = tmp_path.iterdir()
    folder.chmod(mode)
    for again in (nearby, Nearby(ADDRESS)):
        assert again.read(1) is None
        again.keep(2, b"entry")
    assert [file.name for file in folder.iterdir()] == ["000000000001"]


def test_a_link_to_a_folder_is_not_used(tmp_path: Path) -> None:
    nearby = Nearby(ADDRESS)
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    nearby._folder.symlink_to(target)
    nearby.keep(1, b"entry")
    assert not list(target.iterdir())


def test_the_folder_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 5)
    for number in range(20):
        Nearby(ADDRESS).keep(number, b"entry")
    assert sorted(int(file.name) for file in tmp_path.rglob("0*")) == list(range(15, 20))
    assert Nearby(ADDRESS).read(3) is None
    assert Nearby(ADDRESS).read(19) == b"entry"


def test_what_others_have_left_is_deleted_by_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two processes of this machine, others may have written thousands of entries."""
    monkeypatch.setattr(module, "_KEPT", 5)
    for number in range(10):
        Nearby(ADDRESS).keep(number, b"entry")
    (folder,) = tmp_path.iterdir()
    (folder / "000000000009.4711").write_bytes(b"of a process that was kill")
    Nearby(ADDRESS).keep(1000, b"entry")
    assert [file.name for file in folder.iterdir()] == ["000000001000"]


def test_a_disk_that_is_full_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearby = Nearby(ADDRESS)
    nearby.keep(1, b"entry")

    def write_a_part(file: Path, body: bytes) -> None:
        with file.open("wb") as begun:
            begun.write(body[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write_a_part)
        nearby.keep(2, b"entry")
    assert [file.name for file in tmp_path.rglob("0*")] == ["000000000001"]


def test_a_folder_that_was_cleaned_away_is_made_anew(tmp_path: Path) -> None:
    nearby = Nearby(ADDRESS)
    nearby.keep(1, b"entry")
    (folder,) = tmp_path.iterdir()
    shutil.rmtree(folder)
    nearby.keep(2, b"entry")
    assert nearby.read(2) == b"entry"


def test_a_machine_without_a_folder_for_temporary_files_has_nothing_nearby(
    bucket: ShakyBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    one, other = open_on(bucket, Nearby(ADDRESS)), open_on(bucket, Nearby(ADDRESS))
    assert [add_one(one), add_one(other)] == [1, 2]


def test_a_process_that_is_overtaken_reads_what_overtook_it_once(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], elsewhere: Ledger
) -> None:
    one, _ = two
    add_one(one)
    write(elsewhere, "begins")
    write(one, "begins, too")
    bucket.asked.clear()
    bucket.next = ["created", "created"]
    write(elsewhere, "first")
    bucket.asked.clear()
    write(one, "second")
    number = replica_of(one)._log.number
    newest = f"log/{number - 1:012d}"
    assert bucket.asked.count(f"read {newest}") == 1
    assert bucket.asked[-1] == f"create log/{number:012d}"


def test_a_transaction_that_was_given_up_leaves_none_after_it_on_what_is_old(
    bucket: ShakyBucket, two: tuple[Ledger, Ledger], elsewhere: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = two
    add_one(one)
    write(elsewhere, "begins")
    bucket.next = [lambda: write(elsewhere, "first"), "created"]
    with monkeypatch.context() as impatient:
        impatient.setattr("airflow_provider_sendoso.ledger.database.PATIENCE", -1.0)
        with pytest.raises(OperationalError, match="another process has committed first"):
            one._database.once(lambda connection: connection.execute(update(cursors).values(position="second")))
    write(elsewhere, "third")
    assert one._database.read(position) == "third"


class CountingTurn:
    """A machine's turn that one thread at a time has."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken = 0

    def __call__(self) -> AbstractContextManager[None]:
        self.taken += 1
        return self.lock  # type: ignore[return-value]


def test_who_only_reads_waits_for_no_turn(bucket: ShakyBucket) -> None:
    turn = CountingTurn()
    ledger = Ledger(make_engine(bucket, turn))
    add_one(ledger)
    taken = turn.taken
    with turn.lock:
        assert ledger._database.read(position) == "1"
        assert ledger.cursors.read("count").version == 1
    assert turn.taken == taken
    write(ledger, "2")
    assert turn.taken == taken + 1


def test_all_that_comes_while_a_process_waits_for_its_turn_is_one_entry(bucket: ShakyBucket) -> None:
    turn = CountingTurn()
    ledger = Ledger(make_engine(bucket, turn))
    add_one(ledger)
    together, before = ledger._database.together, replica_of(ledger)._log.number
    done = []

    def work(number: int) -> None:
        def put(connection: Connection) -> None:
            connection.execute(update(cursors).values(position=str(number)))

        ledger._database.run_together(put, str(number))
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    with turn.lock:
        for thread in threads:
            thread.start()
        while len(together._waiting) < len(threads):
            os.sched_yield()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(8))
    assert replica_of(ledger)._log.number == before + 1
