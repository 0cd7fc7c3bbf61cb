"""The log of a ledger in a bucket: who creates its next object has committed, whatever the store answers."""

from __future__ import annotations

import gzip
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from obstore.store import LocalStore
from shaky_bucket import ShakyBucket, entry_of, values_of, write

from airflow_provider_sendoso.ledger.bucket import log as logs
from airflow_provider_sendoso.ledger.bucket.log import Log, LogDamaged
from airflow_provider_sendoso.ledger.bucket.objects import Bucket, NotAnswered


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PAUSE", 0.0)


@pytest.fixture
def bucket() -> ShakyBucket:
    return ShakyBucket()


# -- whose an entry is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("happens", ["lost", "unacknowledged", "late", "conflict"])
def test_whatever_is_answered_to_a_creation_the_entry_is_there_once_and_its_writers(
    bucket: ShakyBucket, happens: str
) -> None:
    writer = Log(bucket)
    bucket.next = [happens]
    assert writer.append(0.0, entry_of("a"))
    assert not any(bucket.arrive())
    write(writer, "b")
    assert values_of(Log(bucket)) == ["a", "b"]


@pytest.mark.parametrize("happens", ["lost", "unacknowledged", "late", "conflict", "created"])
def test_an_entry_of_another_writer_is_never_taken_for_an_own_one(bucket: ShakyBucket, happens: str) -> None:
    writer, other = Log(bucket), Log(bucket)
    write(other, "others")
    bucket.next = [happens]
    assert not writer.append(0.0, entry_of("mine"))
    assert values_of(writer) == ["others"]
    write(writer, "mine")
    assert values_of(Log(bucket)) == ["others", "mine"]


def test_another_writer_that_comes_between_a_lost_request_and_its_repetition_has_won(bucket: ShakyBucket) -> None:
    writer, other = Log(bucket), Log(bucket)
    bucket.next = ["lost", lambda: write(other, "others")]
    assert not writer.append(0.0, entry_of("mine"))
    assert values_of(Log(bucket)) == ["others"]


@pytest.mark.parametrize("happens", ["lost", "late"])
def test_a_writer_that_gives_up_has_written_nothing_yet(bucket: ShakyBucket, happens: str) -> None:
    writer = Log(bucket)
    bucket.next = [happens] * logs._ATTEMPTS
    with pytest.raises(NotAnswered):
        writer.append(0.0, entry_of("given up"))
    assert values_of(Log(bucket)) == []


def test_a_write_that_arrives_after_its_writer_gave_up_is_read_before_the_next_one(bucket: ShakyBucket) -> None:
    writer = Log(bucket)
    bucket.next = ["late"] * logs._ATTEMPTS
    with pytest.raises(NotAnswered):
        writer.append(0.0, entry_of("given up"))
    assert bucket.arrive() == [True, False, False]
    assert not writer.append(0.0, entry_of("next"))
    assert values_of(writer) == ["given up"]
    write(writer, "next")
    assert values_of(Log(bucket)) == ["given up", "next"]


def test_a_write_that_arrives_after_the_next_one_changes_nothing(bucket: ShakyBucket) -> None:
    writer = Log(bucket)
    bucket.next = ["late"] * logs._ATTEMPTS
    with pytest.raises(NotAnswered):
        writer.append(0.0, entry_of("given up"))
    write(writer, "next")
    assert bucket.arrive() == [False, False, False]
    assert values_of(Log(bucket)) == ["next"]


def test_an_object_that_is_said_to_exist_and_is_not_there_is_no_commit(bucket: ShakyBucket) -> None:
    writer = Log(bucket)
    bucket.next = ["conflict"] * logs._ATTEMPTS
    with pytest.raises(NotAnswered, match="said to exist"):
        writer.append(0.0, entry_of("a"))


def test_of_writers_of_one_number_at_the_same_time_one_wins(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def append(number: int) -> bool:
        log = Log(Bucket(LocalStore(tmp_path), "file:///"))
        together.wait()
        return log.append(0.0, entry_of(str(number)))

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(append, range(8)))
    assert sorted(won) == [False] * 7 + [True]
    assert values_of(Log(Bucket(LocalStore(tmp_path), "file:///"))) == [str(won.index(True))]


# -- a log that is not whole -------------------------------------------------------------------------------------------


def test_a_log_with_a_hole_is_refused(bucket: ShakyBucket) -> None:
    write(Log(bucket), *"abcd")
    bucket.delete("log/000000000002")
    log = Log(bucket)
    assert values_of(log) == ["a"]
    with pytest.raises(LogDamaged, match="log/000000000002 is missing, and log/000000000003 is there"):
        log.check_end()


def test_an_entry_that_is_written_while_the_end_is_checked_is_no_hole(bucket: ShakyBucket) -> None:
    other, log = Log(bucket), Log(bucket)
    write(other, "a")
    assert values_of(log) == ["a"]
    write(other, "b", "c")
    log.check_end()


def test_a_log_whose_last_entry_was_deleted_and_written_anew_is_refused(bucket: ShakyBucket) -> None:
    follower = Log(bucket)
    write(Log(bucket), *"abc")
    assert values_of(follower) == [*"abc"]
    bucket.delete("log/000000000003")
    another = Log(bucket)
    values_of(another)
    write(another, "other", "d")
    with pytest.raises(LogDamaged, match="log/000000000004 does not follow the entry before it"):
        values_of(follower)


def test_an_entry_of_another_ledger_is_refused(bucket: ShakyBucket) -> None:
    elsewhere = ShakyBucket()
    write(Log(bucket), *"a")
    write(Log(elsewhere), *"xy")
    bucket.put("log/000000000002", elsewhere.read("log/000000000002") or b"")
    with pytest.raises(LogDamaged, match="log/000000000002 does not follow"):
        values_of(Log(bucket))


@pytest.mark.parametrize(
    "body",
    [b"", b"text", gzip.compress(b"text"), gzip.compress(b"[]"), gzip.compress(b"{}"), gzip.compress(b"text")[:9]],
    ids=["empty", "text", "packed text", "a list", "no fields", "cut off"],
)
def test_an_object_that_is_no_entry_is_refused(bucket: ShakyBucket, body: bytes) -> None:
    write(Log(bucket), "a")
    bucket.put("log/000000000002", body)
    with pytest.raises(LogDamaged, match="log/000000000002 is no"):
        values_of(Log(bucket))
    log = Log(bucket)
    next(log.read_on())
    with pytest.raises(LogDamaged, match="log/000000000002 is no"):
        log.append(0.0, entry_of("b"))


# -- packs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many() -> list[str]:
    return [f"value {number}" for number in range(2 * logs.PACK + 30)]


def test_a_pack_is_read_in_place_of_its_entries(bucket: ShakyBucket, many: list[str]) -> None:
    write(Log(bucket), *many)
    assert [name for name in bucket.all_names() if name.startswith("packs")] == [
        "packs/000000000100",
        "packs/000000000200",
    ]
    bucket.asked.clear()
    assert values_of(Log(bucket)) == many
    assert "read log/000000000200" not in bucket.asked
    assert len(bucket.asked) < 80  # some ask for what is not there yet


@pytest.mark.parametrize("missing", ["packs/000000000100", "packs/000000000200"])
def test_a_pack_that_is_missing_is_made_anew_by_the_next_reader(
    bucket: ShakyBucket, many: list[str], missing: str
) -> None:
    write(Log(bucket), *many)
    pack = bucket.read(missing)
    bucket.delete(missing)
    assert values_of(Log(bucket)) == many
    assert bucket.read(missing) == pack


def test_a_pack_whose_creation_is_not_answered_does_no_harm(bucket: ShakyBucket, many: list[str]) -> None:
    log = Log(bucket)
    write(log, *many[: logs.PACK - 1])
    bucket.next = ["created", "lost"]
    write(log, *many[logs.PACK - 1 :])
    assert "packs/000000000100" not in bucket.all_names()
    assert values_of(Log(bucket)) == many


def test_a_reader_that_began_in_the_middle_makes_no_pack_of_what_it_has_read(
    bucket: ShakyBucket, many: list[str]
) -> None:
    log = Log(bucket)
    write(log, *many[:50])
    late = Log(bucket)
    late.start_after(log.number, log.nonce)
    write(late, *many[50:])
    assert "packs/000000000100" not in bucket.all_names()
    assert "packs/000000000200" in bucket.all_names()
    assert values_of(Log(bucket)) == many
    assert "packs/000000000100" in bucket.all_names()


def test_a_pack_of_another_ledger_is_refused(bucket: ShakyBucket, many: list[str]) -> None:
    elsewhere = ShakyBucket()
    write(Log(bucket), *many)
    write(Log(elsewhere), *many)
    bucket.put("packs/000000000200", elsewhere.read("packs/000000000200") or b"")
    with pytest.raises(LogDamaged, match="log/000000000101 does not follow"):
        values_of(Log(bucket))


def test_a_long_log_is_read_in_little_memory(bucket: ShakyBucket) -> None:
    size, count = 2_000, 20 * logs.PACK
    write(Log(bucket), *("x" * size for _ in range(count)))
    log = Log(bucket)
    tracemalloc.start()
    try:
        assert sum(1 for _ in log.read_on()) == count
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < size * count / 2
