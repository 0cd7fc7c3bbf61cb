"""Cursors: only a process that has read the last version can write the next, on every database of a ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ledger_workers

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.cursors import LONGEST_NAME, Kept

NAME = "é" * LONGEST_NAME


def test_a_cursor_is_read_back_unchanged(opened: Ledger) -> None:
    cursors = opened.cursors
    assert cursors.read(NAME) == Kept(0, None)
    assert cursors.write(NAME, 0, "one")
    assert cursors.write(NAME, 1, "x" * 300_000)  # more than MySQL's plain text holds
    assert cursors.read(NAME) == Kept(2, "x" * 300_000)
    assert cursors.read("another") == Kept(0, None)


def test_a_cursor_is_written_only_over_the_version_that_was_read(opened: Ledger) -> None:
    cursors = opened.cursors
    assert cursors.write("a", 0, "one")
    assert not cursors.write("a", 0, "another one")
    assert cursors.write("a", 1, "two")
    assert not cursors.write("a", 1, "another two")
    assert cursors.read("a") == Kept(2, "two")


def test_a_write_repeated_because_its_answer_was_lost_succeeds(opened: Ledger) -> None:
    for _ in range(2):
        assert opened.cursors.write("a", 0, "one")
    for _ in range(2):
        assert opened.cursors.write("a", 1, "two")
    assert opened.cursors.read("a").version == 2


def test_of_eight_processes_that_write_one_version_one_succeeds(
    opened: Ledger, url: str, at_once: Callable[..., list[Any]]
) -> None:
    for version in (0, 1):
        written = at_once(ledger_workers.write_cursor, [(url, version, f"{version}-{n}") for n in range(8)])
        assert sorted(written) == [False] * 7 + [True]
        assert opened.cursors.read("a") == Kept(version + 1, f"{version}-{written.index(True)}")
