"""Sketches of sets of rows: what differs is told exactly, or not at all."""

from __future__ import annotations

import hashlib
import random

import pytest

from airflow_provider_sendoso.sending.sketch import Differences, Sketch


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sketch(rows: dict[str, str]) -> Sketch:
    made = Sketch()
    for key, content in rows.items():
        made.add(digest(key), digest(content))
    return made


def keys(*names: str) -> set[str]:
    return {digest(name)[:16] for name in names}


ROWS = {f"ada{number}": "mug" for number in range(5000)}


def test_equal_sets_differ_in_nothing_whatever_their_order() -> None:
    backwards = sketch(dict(reversed(ROWS.items())))
    assert backwards.dump() == sketch(ROWS).dump()
    assert backwards.since(sketch(ROWS)) == Differences(set(), set(), set())
    assert backwards.rows == 5000


def test_what_is_new_gone_and_changed_is_told_among_thousands() -> None:
    now = ROWS | {"ada7": "tea", "grace": "mug", "joan": "mug"}
    del now["ada9"]
    assert sketch(now).since(sketch(ROWS)) == Differences(keys("grace", "joan"), keys("ada9"), keys("ada7"))


@pytest.mark.parametrize("before", [{}, {"ada": "mug"}])
def test_an_empty_set(before: dict[str, str]) -> None:
    assert sketch({}).since(sketch(before)) == Differences(set(), keys(*before), set())
    assert sketch(before).since(sketch({})) == Differences(keys(*before), set(), set())


def test_it_outlives_text_and_a_text_that_is_none_is_none() -> None:
    found = Sketch.load(sketch(ROWS).dump())
    assert found == sketch(ROWS)
    for text in ("", "x", "AAAA", "ä", sketch(ROWS).dump()[:-8], sketch(ROWS).dump() + "AAAA"):
        assert Sketch.load(text) is None


def test_too_many_differences_are_not_told_wrongly() -> None:
    told = {True: 0, False: 0}
    for seed in range(300):
        chance = random.Random(seed)
        changed = chance.randrange(1, 60)
        now = ROWS | {f"ada{seed + number}": "tea" for number in range(changed)}
        found = sketch_of_changes(now)
        told[found is not None] += 1
        assert found is None or found == Differences(set(), set(), keys(*(f"ada{seed + n}" for n in range(changed))))
        assert found is not None or changed > 3
    assert told[True] > 50
    assert told[False] > 50


def sketch_of_changes(now: dict[str, str]) -> Differences | None:
    """Only what differs: what both sets have leaves no trace in a difference."""
    changed = {key: content for key, content in now.items() if ROWS.get(key) != content}
    return sketch(changed).since(sketch({key: ROWS[key] for key in changed}))
