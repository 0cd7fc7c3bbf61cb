"""A send's statuses are a function of its age and its recipient."""

from __future__ import annotations

import pytest

from airflow_provider_sendoso.sandbox.statuses import path_of, status_updates

T0 = 1_000.0


def names(email: str, age: float, **options) -> list[str]:
    return [status for status, _ in status_updates(email, T0, 5.0, T0 + age, **options)]


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (-3, ["pending"]),
        (0, ["pending"]),
        (4.9, ["pending"]),
        (5, ["pending", "processing"]),
        (10, ["pending", "processing", "shipped"]),
        (15, ["pending", "processing", "shipped", "delivered"]),
        (1e9, ["pending", "processing", "shipped", "delivered"]),
    ],
)
def test_a_status_advances_one_step_at_a_time(age, expected):
    assert names("ada@example.com", age) == expected


@pytest.mark.parametrize(
    ("email", "end"),
    [
        ("ada+failed@example.com", ["pending", "processing", "failed"]),
        ("ADA+Failed.2@example.com", ["pending", "processing", "failed"]),
        ("ada+returned@example.com", ["pending", "processing", "shipped", "returned"]),
        ("ada+suspicious@example.com", ["suspicious email"]),
        ("ada@x+failed.example", ["pending", "processing", "shipped", "delivered"]),
        ("failed@example.com", ["pending", "processing", "shipped", "delivered"]),
    ],
)
def test_the_local_part_of_the_email_decides_the_final_status(email, end):
    assert list(path_of(email)) == end
    assert names(email, 1e6) == end


def test_each_update_has_the_time_of_its_step():
    assert status_updates("a@b.c", T0, 5.0, T0 + 11) == [
        ("pending", T0),
        ("processing", T0 + 5),
        ("shipped", T0 + 10),
    ]


def test_a_step_of_zero_ends_right_after_the_instant_of_acceptance():
    assert status_updates("a@b.c", T0, 0, T0) == [("pending", T0)]
    assert status_updates("a@b.c", T0, 0, T0 + 0.001)[-1] == ("delivered", T0)


def test_a_forced_status_ends_the_path():
    assert status_updates("a@b.c", T0, 5.0, T0 + 1e6, ("returned", T0 + 6)) == [
        ("pending", T0),
        ("processing", T0 + 5),
        ("returned", T0 + 6),
    ]


def test_forcing_the_current_status_pins_it():
    assert names("a@b.c", 1e6, finished=("processing", T0 + 6)) == ["pending", "processing"]
