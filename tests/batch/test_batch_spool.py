"""The spool of rows on disk: nobody can read personal data in it, and every row is counted exactly once."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sendoso.batch.row import BatchRow
from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.exceptions import SendosoSpoolError
from airflow_provider_sendoso.models import GiftSend, Item, RowOutcome
from airflow_provider_sendoso.sending import Result

MUG = {
    "gift_id": "gift-mug",
    "message": "Thanks",
    "recipient": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
}


def good(number: int, key: str, row_ref: str | None = None, **send) -> BatchRow:
    return BatchRow(number, key, row_ref, GiftSend.model_validate(MUG | send))


def bad(number: int, key: str | None = None, problem: str = "email is missing") -> BatchRow:
    return BatchRow(number, key, None, None, problem)


@pytest.fixture
def spool():
    with BatchSpool() as spool:
        yield spool


def test_a_rejected_row_can_be_taken_back_before_its_duplicate(spool):
    spool.fill([good(1, "a", gift_id="old"), good(2, "a"), good(3, "b", gift_id="old"), bad(4)])
    spool.reject(Item("old"), "gone")
    spool.mark_duplicates()
    assert [job.number for job in spool.rejected()] == [1, 3]
    assert [job.number for job in spool.jobs()] == [2]
    spool.take_back([1])
    assert [job.number for job in spool.jobs()] == [1]
    assert spool.counts() == {RowOutcome.NOT_REACHED: 1, RowOutcome.DUPLICATE: 1, RowOutcome.INVALID: 2}
    assert [row.reason for row in spool.rows(RowOutcome.INVALID, 9)] == ["gone", "email is missing"]


class TestFill:
    def test_an_empty_input_has_no_rows_and_no_jobs(self, spool):
        spool.fill([])
        assert spool.counts() == Counter()
        assert list(spool.jobs()) == []

    def test_before_anything_is_sent_good_rows_are_not_reached(self, spool):
        spool.fill([good(1, "a"), bad(2), good(3, "c")])
        assert spool.counts() == {RowOutcome.NOT_REACHED: 2, RowOutcome.INVALID: 1}
        assert [job.number for job in spool.jobs()] == [1, 3]

    def test_of_a_repeated_key_the_first_row_is_kept(self, spool):
        spool.fill([good(1, "a"), good(2, "b"), good(3, "a"), good(4, "a")])
        assert [job.number for job in spool.jobs()] == [1, 2]
        assert [row.number for row in spool.rows(RowOutcome.DUPLICATE, 10)] == [3, 4]

    def test_a_valid_row_with_the_key_of_an_invalid_one_is_no_duplicate(self, spool):
        spool.fill([bad(1, "a"), good(2, "a"), good(3, "a")])
        assert [job.number for job in spool.jobs()] == [2]
        assert spool.counts() == {RowOutcome.INVALID: 1, RowOutcome.NOT_REACHED: 1, RowOutcome.DUPLICATE: 1}

    def test_rows_without_a_key_are_no_duplicates_of_each_other(self, spool):
        spool.fill([bad(1), bad(2)])
        assert spool.counts() == {RowOutcome.INVALID: 2}

    def test_the_rows_may_come_from_a_cursor(self, spool):
        spool.fill(good(number, str(number)) for number in range(1, 1201))
        assert [job.number for job in spool.jobs()] == list(range(1, 1201))

    def test_an_error_of_the_cursor_is_raised(self, spool):
        def rows():
            yield good(1, "a")
            raise ConnectionError("the warehouse has gone")

        with pytest.raises(ConnectionError):
            spool.fill(rows())


class TestJobs:
    def test_a_job_has_the_content_of_its_row(self, spool):
        recipient = {
            "first_name": "Jos\u00e9 '😀' \"\\",
            "last_name": "李; DROP TABLE rows",
            "email": "a@x.com",
            "address": {"line1": "1"},
        }
        row = good(1, "ключ", "C-42", recipient=recipient, metadata={"a": 1, "b": "1", "c": True})
        spool.fill([row])
        (job,) = spool.jobs()
        assert (job.number, job.recipient_key, job.row_ref, job.send) == (1, "ключ", "C-42", row.send)

    def test_jobs_can_be_read_while_results_are_recorded(self, spool):
        spool.fill(good(number, str(number)) for number in range(1, 1201))
        for job in spool.jobs():
            spool.record(Result(job.number, RowOutcome.SENT, send_id=f"s-{job.number}"))
        assert spool.counts() == {RowOutcome.SENT: 1200}


class TestRecord:
    def test_a_result_replaces_an_earlier_one(self, spool):
        spool.fill([good(1, "a", "C-42")])
        spool.record(Result(1, RowOutcome.NOT_REACHED, "another_run"))
        spool.record(Result(1, RowOutcome.REFUSED, "http_422", '"No"', None, Item("gift-mug"), 12.5))
        (row,) = spool.rows(RowOutcome.REFUSED, 10)
        assert (row.name, row.reason, row.send_id, row.posted_at) == ("row 1 (C-42)", 'http_422: "No"', None, 12.5)
        assert spool.counts() == {RowOutcome.REFUSED: 1}

    def test_rows_are_read_in_order_and_up_to_a_limit(self, spool):
        spool.fill([bad(3), bad(1), bad(2)])
        assert [row.number for row in spool.rows(RowOutcome.INVALID, 2)] == [1, 2]

    def test_reasons_are_counted_with_the_most_frequent_first(self, spool):
        spool.fill([bad(1, problem="x"), bad(2, problem="y"), bad(3, problem="y"), good(4, "a")])
        assert spool.reasons(RowOutcome.INVALID) == [("y", 2), ("x", 1)]
        assert spool.reasons(RowOutcome.NOT_REACHED) == [("?", 1)]


rows_of_any_kind = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=30)


class TestCounts:
    @given(rows_of_any_kind, st.lists(st.tuples(st.integers(1, 40), st.sampled_from(RowOutcome)), max_size=40))
    def test_the_counts_always_add_up_to_the_rows(self, kinds, results):
        with BatchSpool() as spool:
            spool.fill([good(n, key) if valid else bad(n, key) for n, (key, valid) in enumerate(kinds, 1)])
            assert spool.counts().total() == len(kinds)
            for number, outcome in results:
                spool.record(Result(number, outcome))
                assert spool.counts().total() == len(kinds)

    @given(rows_of_any_kind)
    def test_each_key_has_one_job_from_its_first_valid_row(self, kinds):
        with BatchSpool() as spool:
            spool.fill([good(n, key) if valid else bad(n, key) for n, (key, valid) in enumerate(kinds, 1)])
            first: dict[str, int] = {}
            for number, (key, valid) in enumerate(kinds, 1):
                if valid:
                    first.setdefault(key, number)
            assert {job.recipient_key: job.number for job in spool.jobs()} == first
            assert spool.counts()[RowOutcome.INVALID] == sum(not valid for _, valid in kinds)


class TestFullDisk:
    @pytest.fixture
    def full(self, spool):
        """A spool on a disk of 20 pages."""
        spool._db.executescript("PRAGMA max_page_count = 20")
        return spool

    def test_a_full_disk_while_filling_is_an_error_that_says_what_to_do(self, full):
        with pytest.raises(SendosoSpoolError, match=r"database or disk is full.*in the ledger.*SQLITE_TMPDIR"):
            full.fill(good(number, f"{number}@example.com", message="x" * 2000) for number in range(1, 1001))

    def test_every_use_of_the_spool_after_a_full_disk_is_an_error(self, full):
        full.fill([good(1, "ada@example.com")])
        with pytest.raises(SendosoSpoolError):
            full.record(Result(1, RowOutcome.REFUSED, "http_422", "x" * 400_000))
        for use in (full.counts, lambda: list(full.jobs()), lambda: list(full.outcomes())):
            with pytest.raises(SendosoSpoolError, match="database or disk is full"):
                use()

    def test_an_sqlite_error_of_the_warehouse_is_not_taken_for_a_full_disk(self, spool):
        def rows():
            yield good(1, "ada@example.com")
            raise sqlite3.OperationalError("of the warehouse")

        with pytest.raises(sqlite3.OperationalError, match="of the warehouse"):
            spool.fill(rows())
        assert spool.counts() == Counter()


class TestPrivacy:
    def test_the_file_has_no_name_and_is_readable_by_its_owner_alone(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
        before = unlinked_files()
        with BatchSpool() as spool:
            spool.fill(good(number, f"{number}@example.com", message="x" * 2000) for number in range(1, 8001))
            files = unlinked_files() - before
            assert list(tmp_path.iterdir()) == []
            assert files, "16 MB that are not on disk are in memory"
            assert {mode for _, mode in files} == {0o600}
        assert unlinked_files() <= before

    def test_the_repr_of_a_row_does_not_show_its_recipient(self, spool):
        spool.fill([good(1, "ada@example.com", "C-42")])
        (job,) = spool.jobs()
        (row,) = spool.rows(RowOutcome.NOT_REACHED, 1)
        assert "ada" not in f"{job!r}{row!r}".lower()
        assert (job.name, row.name) == ("row 1 (C-42)", "row 1 (C-42)")


def unlinked_files() -> set[tuple[int, int]]:
    """This process's open files that have no name any more: inode and mode."""
    found = set()
    for descriptor in range(3, 256):
        try:
            info = os.fstat(descriptor)
        except OSError:
            continue
        if stat.S_ISREG(info.st_mode) and info.st_nlink == 0:
            found.add((info.st_ino, stat.S_IMODE(info.st_mode)))
    return found
