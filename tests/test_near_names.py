"""What is offered for a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from airflow_provider_sendoso.near_names import meant

IDS = {"Coffee on us": "102", "102": "102", "Lunch voucher": "104", "104": "104"}


@pytest.mark.parametrize(
    ("wrong", "known", "offered"),
    [
        ("gift-mugg", ["gift-mug", "gift-book"], " (did you mean 'gift-mug'?)"),
        ("GIFT-MUG", ["gift-mug", "gift-mugs"], " (did you mean 'gift-mug'?)"),
        ("mug-blak", ["mug-black", "mug-blank", "shirt"], " (did you mean 'mug-blank' or 'mug-black'?)"),
        ("lunch vouchers", IDS, " (did you mean '104'?)"),
        ("Coffee on us", IDS, " (did you mean '102'?)"),
        ("unicorn", IDS, ""),
        ("unicorn", [], ""),
        ("", ["gift-mug"], ""),
    ],
)
def test_similar_names_are_offered_without_case_and_by_what_stands_for_them(
    wrong: str, known: Mapping[str, str] | Iterable[str], offered: str
) -> None:
    assert meant(wrong, known) == offered


def test_three_names_are_offered_at_most() -> None:
    assert meant("gift-0", [f"gift-{number}" for number in range(1, 9)]).count("gift-") == 3
