"""The sliding second, and the published limit over the socket."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_sendoso.sandbox import Sandbox, app
from airflow_provider_sendoso.sandbox.pace import Pace, peak


def test_one_more_than_the_rate_is_refused():
    pace = Pace(3)
    assert [pace.admits("a", 0.1 * n) for n in range(5)] == [True, True, True, False, False]


def test_the_window_slides():
    pace = Pace(2)
    assert [pace.admits("a", now) for now in (0.0, 0.9, 1.0, 1.5, 2.6)] == [True, True, True, False, True]


def test_a_refused_request_counts():
    pace = Pace(1)
    assert [pace.admits("a", now) for now in (0.0, 0.6, 1.2, 2.2)] == [True, False, False, True]


def test_each_client_has_its_own_count():
    pace = Pace(1)
    assert pace.admits("a", 0)
    assert pace.admits("b", 0)
    assert not pace.admits("a", 0.5)


def test_a_rate_of_zero_is_no_limit():
    pace = Pace(0)
    assert all(pace.admits("a", 0) for _ in range(1000))


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([0], 1), ([0, 1, 2], 1), ([0, 0.5, 0.99, 1.0], 3), ([0, 5, 5.1, 5.2, 5.3, 9], 4)],
)
def test_the_peak_is_the_most_requests_in_one_second(times, most):
    assert peak(times) == most


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The sandbox's, which stands still unless it is moved."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def fast(clock: SimpleNamespace, client_of: Callable[[Sandbox], Any]):
    def run(**options: Any) -> list[Any]:
        with Sandbox(rate=3, **options) as sandbox:
            client = client_of(sandbox)
            answers = [client.get("/api/v3/me") for _ in range(3)]
            assert [request.status for request in sandbox.requests] == [200, 200, 200, 429]
            assert [request.client_id for request in sandbox.requests] == ["sandbox"] * 4
            assert sandbox.state()["peak_per_second"] == 4
        return answers

    return run


def test_the_limit_counts_token_requests(fast):
    answers = fast()
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json() == {"success": False, "message": "Too many requests"}
    assert answers[-1].headers["Retry-After"] == "1"


def test_the_retry_after_header_can_be_left_out(fast):
    assert "Retry-After" not in fast(retry_after=None)[-1].headers


def test_a_request_after_retry_after_is_accepted(client_of, clock):
    with Sandbox(rate=1) as sandbox:
        client = client_of(sandbox)
        refused = client.get("/api/v3/me")
        assert refused.status_code == 429
        clock.now += int(refused.headers["Retry-After"])
        assert client.get("/api/v3/me").status_code == 200


def test_a_throttled_send_is_not_accepted_and_uses_up_no_fault(client_of, clock):
    with Sandbox(rate=1) as sandbox:
        client = client_of(sandbox)
        sandbox.fault("drop_after")
        assert client.send().status_code == 429
        assert sandbox.sends == []
        assert len(sandbox.state()["faults"]) == 1


def test_the_sandboxs_own_routes_are_neither_limited_nor_counted(client_of):
    with Sandbox(rate=1) as sandbox:
        client = client_of(sandbox)
        assert {client.get("/sandbox/state").status_code for _ in range(5)} == {200}
        assert client.get("/").status_code == 200
        assert len(sandbox.requests) == 1
