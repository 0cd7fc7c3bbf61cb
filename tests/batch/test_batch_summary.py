"""The seven counts of a summary, and whether they make the batch a success."""

from __future__ import annotations

import json

import pytest

from airflow_provider_sendoso.batch.summary import Summary, too_many_invalid
from airflow_provider_sendoso.models import RowOutcome

SEVEN = ("sent", "already_sent", "duplicate", "refused", "invalid", "held", "not_reached")


def summary(**counts: int) -> Summary:
    return Summary("b-1", "q4", {RowOutcome(name): count for name, count in counts.items()})


def test_the_summary_has_all_seven_counts_and_they_add_up():
    found = summary(sent=3, held=1).as_json()
    assert {name: found[name] for name in SEVEN} == dict.fromkeys(SEVEN, 0) | {"sent": 3, "held": 1}
    assert sum(found[name] for name in SEVEN) == found["rows"] == 4
    assert (found["batch_id"], found["dedupe_scope"]) == ("b-1", "q4")


def test_the_summary_is_json():
    found = summary(sent=1).as_json()
    assert json.loads(json.dumps(found)) == found


def test_an_empty_batch_has_no_rows_and_is_no_failure():
    assert summary().as_json()["rows"] == 0
    assert not summary().nobody_was_sent()


def test_the_summary_is_one_line_of_the_log():
    assert summary(already_sent=3, invalid=1).as_text() == (
        "4 rows: sent 0, already_sent 3, duplicate 0, refused 0, invalid 1, held 0, capped 0, not_reached 0. Scope "
        "'q4', batch b-1."
    )


def test_the_line_tells_this_trys_gifts_from_those_of_earlier_tries():
    found = Summary("b-1", "q4", {RowOutcome.SENT: 133}, sent_now=31).as_text()
    assert found.startswith("133 rows: sent 133 (31 posted by this try, 102 by earlier ones), already_sent 0, ")


@pytest.mark.parametrize(
    ("counts", "nobody"),
    [
        ({"invalid": 1}, True),
        ({"refused": 1}, True),
        ({"refused": 1, "not_reached": 1}, True),
        ({"invalid": 5, "sent": 1}, False),
        ({"invalid": 5, "already_sent": 1}, False),
        ({"invalid": 5, "held": 1}, False),
        ({"sent": 1}, False),
        ({"not_reached": 1}, False),
    ],
)
def test_a_batch_that_reached_nobody_is_recognised(counts, nobody):
    assert summary(**counts).nobody_was_sent() is nobody


@pytest.mark.parametrize(
    ("invalid", "rows", "allowed", "too_many"),
    [
        (5, 5, None, False),
        (0, 5, 0, False),
        (1, 5, 0, True),
        (2, 5, 2, False),
        (3, 5, 2, True),
        (1, 10, 0.1, False),
        (2, 10, 0.1, True),
        (1, 10, 0.0, True),
        (5, 5, 1.0, False),
        (1, 5, 1, False),
        (2, 5, 1, True),
        (0, 0, 0.0, False),
    ],
)
def test_max_invalid_is_a_count_or_a_share_of_the_rows(invalid, rows, allowed, too_many):
    assert too_many_invalid(invalid, rows, allowed) is too_many
