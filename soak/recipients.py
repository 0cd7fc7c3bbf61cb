"""Who is to be sent a gift: scopes of people, and DAG runs over overlapping parts of one scope, several at once."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soak.settings import MOST_SENDS, PEOPLE

_INVITED = 90
_RUNS = 4
"""DAG runs over one scope: each recipient is in two or three of them."""

WHAT = ("gift_id", "touch_id", "marketplace_variant_id", "smart_send", "price_lte_usd")
"""The columns that say what somebody is sent."""

_GIFT = ("gift-donation-trees", None, None, None, None)
_CAMPAIGN = (None, 102, None, None, None)
_PRODUCT = (None, None, "var-tea", None, None)
_SMART_SEND = (None, None, None, "true", 50)
_EVERY = 25
"""Of so many people, one is sent a product and one what SmartSend picks: few, as they may have 100 a minute."""


@dataclass
class Batch:
    """
    One DAG run, over all its tries.

    :param run_id: of the DAG run.
    :param dedupe_scope: the scope, which other runs share.
    :param emails: of the recipients: the rows that each try reads.
    :param scope_max_sends: the limit of its scope.
    """

    run_id: str
    dedupe_scope: str
    emails: list[str] = field(repr=False)
    scope_max_sends: int = PEOPLE


@dataclass
class Scope:
    """
    One scope, with its people and the DAG runs that invite them.

    :param people: a row for each: e-mail, first and last name, and the columns of ``WHAT``.
    :param batches: the DAG runs.
    """

    people: list[tuple[Any, ...]] = field(repr=False)
    batches: list[Batch]

    @property
    def invited(self) -> list[tuple[str, str]]:
        """The ids of the runs, each with those whom it invites."""
        return [(batch.run_id, email) for batch in self.batches for email in batch.emails]


def scopes(
    chance: random.Random,
    people: int = PEOPLE,
    invited: int = _INVITED,
    runs: int = _RUNS,
    *,
    all_kinds: bool = True,
    limited: bool = True,
) -> Iterator[Scope]:
    """
    Make one scope after the other, without end.

    Where they are limited, every second one has a limit that is reached. In the others, the second run has a scope of
    its own, in which whoever was sent a gift by the other runs, or may have been, is capped; and the other way round.

    :param chance: decides who is invited to what.
    :param people: in one scope.
    :param invited: how many of them each DAG run invites.
    :param runs: DAG runs over one scope.
    :param limited: whether the DAG that sends keeps ``MIN_DAYS`` between two gifts, and the limits of its runs.
    :param all_kinds: whether some are sent a product of the marketplace, or what SmartSend picks.
    """
    for scope in itertools.count(1):
        rows = [(f"p{n}.s{scope}@example.com", "Ada", f"Lovelace {n}", *_what(n, all_kinds)) for n in range(people)]
        emails = [row[0] for row in rows]
        batches = [
            Batch(f"s{scope}-r{n}", f"scope-{scope}", sorted(chance.sample(emails, invited)))
            for n in range(1, runs + 1)
        ]
        if limited and scope % 2:
            for batch in batches:
                batch.scope_max_sends = MOST_SENDS
        elif limited:
            batches[1].dedupe_scope += "-again"
        yield Scope(rows, batches)


def _what(number: int, all_kinds: bool) -> tuple[Any, ...]:
    """Return what a person is sent: mostly a gift of the catalogue, one of three a campaign's, which is an eGift."""
    if all_kinds and number % _EVERY in (1, 2):
        return _PRODUCT if number % _EVERY == 1 else _SMART_SEND
    return _CAMPAIGN if number % 3 == 0 else _GIFT


class Warehouse:
    """
    A SQLite database with the people, from which the DAG's query reads those that its run has invited.

    :param path: of the new file.
    :param chance: decides who is invited to what.
    """

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.connection = {"conn_type": "sqlite", "host": str(path)}
        self._path = path
        self._chance = chance
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")  # lets tries read while the next people are written
            database.execute(f"CREATE TABLE people (email TEXT PRIMARY KEY, first_name, last_name, {', '.join(WHAT)})")
            database.execute("CREATE TABLE invited (run_id, email, PRIMARY KEY (run_id, email))")

    def batches(self) -> Iterator[Batch]:
        """Make the DAG runs of one scope after the other, without end."""
        for scope in scopes(self._chance):
            with closing(sqlite3.connect(self._path)) as database, database:
                database.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?, ?, ?, ?)", scope.people)
                database.executemany("INSERT INTO invited VALUES (?, ?)", scope.invited)
            yield from scope.batches
