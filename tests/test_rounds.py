"""The list of what ``make test`` leaves to ``make test-slow`` names tests that there are, and leaves rounds of each."""

from __future__ import annotations

import pytest
from rounds import STAY


def test_of_every_test_in_the_list_some_rounds_stay(request: pytest.FixtureRequest) -> None:
    if request.config.args_source is not pytest.Config.ArgsSource.TESTPATHS or request.config.getoption("keyword"):
        pytest.skip("only a part of the tests is collected")
    if request.config.getoption("--oldest") or request.config.getoption("--not-oldest"):
        pytest.skip("which of them run on the oldest Airflow is another question")
    quick = [item.nodeid for item in request.session.items if item.get_closest_marker("slow") is None]
    assert [name for name in STAY if not any(f"tests/{name}" in test for test in quick)] == []
