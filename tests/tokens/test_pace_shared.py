"""One pace for the deployment: real processes on one ledger, with the requests counted by the server."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import text

from airflow_provider_sendoso.client.endpoints import me_request
from airflow_provider_sendoso.client.pace import POLL_SHARE
from airflow_provider_sendoso.client.retrying import DEFAULT_PUSH_BACK
from airflow_provider_sendoso.exceptions import SendosoRateLimitError
from airflow_provider_sendoso.sandbox.pace import peak

RATE = 10
PUBLISHED = 10

# What does not depend on the database is tried on one.
on_sqlite = pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)

ROUNDS = 8
"""How often it is tried again to use the rate: a machine that is busy with something else may be too slow to."""

LONG = 100.0
"""Seconds between two slots that no machine is slow enough to miss."""
BUSY = 60.0
"""Seconds that it may take to ask for a few."""


@pytest.fixture
def job(connection, ledger_url, make_session, make_config):
    """Makes a job on one account; its token is in the ledger already."""
    make_session(make_config()).token()

    def make(name: str, **more):
        return {
            "job": name,
            "connection": connection(requests_per_second=RATE, timeout=60),
            "ledger_url": ledger_url,
            **more,
        }

    return make


def never_more_than_published(times: list[float], results: list[dict]) -> bool:
    """
    Say whether eleven requests were a second apart, but for what the machine delayed.

    Ten slots later is a second later, and nothing comes before its slot. A busy machine lets it come later than that,
    and closer to what follows; so an arrival is compared with a slot, and not with another arrival.
    """
    slots = sorted(slot["reserve"][-1] for result in results for slot in result["slots"])
    assert len(slots) == len(times)
    return all(arrived - slot >= 1.0 for slot, arrived in zip(slots, times[PUBLISHED:], strict=False))


def arrivals(sandbox, method: str | None = None) -> list[float]:
    return sorted(
        request.received_at
        for request in sandbox.requests
        if request.path.startswith("/api/") and method in (None, request.method)
    )


def test_two_processes_use_the_rate_and_never_more(crew, job, sandbox):
    """Two batches beside each other: nine or ten in every sliding second, as the far side counts them."""
    results = []
    for _ in range(ROUNDS):
        results += crew([job("send", seconds=2.5)] * 2)[0]
        times = arrivals(sandbox, "POST")
        if peak(times) >= 9:
            break
    assert {request.status for request in sandbox.requests if request.method == "POST"} <= {200, 201}
    assert never_more_than_published(times, results)
    assert peak(times) >= 9


def test_polls_leave_most_of_the_rate_to_sends(crew, job, sandbox):
    """A batch sends in one process, and a sensor that asks as often as it may is beside it in another."""
    results, beside, waits = [], [], []
    for _ in range(ROUNDS):
        [[sender, poller]] = crew([job("send", seconds=3.2), job("poll", seconds=2.4, after=0.4)])
        assert sender["exitcode"] == poller["exitcode"] == 0
        results += [sender, poller]
        waits += poller["waits"]
        sends, polls = arrivals(sandbox, "POST"), arrivals(sandbox, "GET")
        # Those that were asked for when, for certain, there had been a send in the last two seconds.
        moments = [slot["reserve"] for slot in sender["slots"]]
        beside += [
            (slot["queue"][-1], arrived)
            for slot, arrived in zip(poller["slots"], polls[-len(poller["slots"]) :], strict=True)
            if any(known < slot["queue"][0] and due > slot["queue"][1] - 2 for _, known, due in moments)
        ]
        if len(beside) >= 4 and peak(sends) >= 7:
            break
    gaps = [later - turn for (turn, _), (_, later) in itertools.pairwise(beside)]
    assert min(gaps) >= POLL_SHARE / RATE
    assert len(beside) >= 4  # and it is not starved
    assert min(waits) <= 2.0
    assert peak(sends) >= 7
    assert never_more_than_published(sorted(sends + polls), results)


@on_sqlite
def test_without_sends_polls_have_the_whole_rate(crew, job, sandbox, make_engine):
    """One poller is one request at a time; two of them are enough to use all of it."""
    with make_engine().begin() as connection:  # the token's slot was a send's, after which polls hold back for a while
        connection.execute(text("UPDATE sendoso_pace SET send_at = 0"))
    results = []
    for _ in range(ROUNDS):
        results += crew([job("poll", seconds=2)] * 2)[0]
        times = arrivals(sandbox, "GET")
        if peak(times) >= 9:
            break
    assert peak(times) >= 9
    assert never_more_than_published(times, results)


def test_a_retry_after_for_one_process_delays_the_others_of_the_account(make_session, make_config, sandbox):
    """One session is told to wait, and the other's next slot comes after the same time."""
    config = make_config(account="one", requests_per_second=RATE)
    told, other = make_session(config), make_session(config)
    other.token()
    elsewhere = make_session(make_config(account="two", requests_per_second=RATE))
    sandbox.fault("throttle", retry_after=LONG, path="/api/v3/me")
    assert told.paced(me_request(), told.token(), poll=True).status == 429
    assert LONG - BUSY < other.pace.reserve(poll=False) <= LONG + 0.2
    assert LONG - BUSY < other.pace.reserve(poll=True) <= LONG + 0.4
    assert elsewhere.pace.reserve(poll=True) < 1
    # A shorter one that comes later shortens nothing.
    other.pace.push_back(1)
    assert told.pace.reserve(poll=False) > LONG - BUSY


def test_a_429_without_retry_after_waits_a_second(make_session, make_config, sandbox, monkeypatch):
    assert DEFAULT_PUSH_BACK == 1
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.DEFAULT_PUSH_BACK", LONG)
    session = make_session(make_config(account="one", requests_per_second=1000))
    token = session.token()
    sandbox.fault("throttle", retry_after=None, path="/api/v3/me")
    assert session.paced(me_request(), token).status == 429
    assert LONG - BUSY < session.pace.reserve(poll=False) <= LONG + 0.1


def test_a_retry_after_too_long_is_not_waited_out(make_session, make_config, sandbox, token_requests):
    sandbox.fault("throttle", times=9, retry_after=3600, path="/oauth/token")
    with pytest.raises(SendosoRateLimitError) as raised:
        make_session(make_config()).token()
    assert raised.value.retry_after == 3600
    assert token_requests() == [429]


def test_eight_processes_that_create_the_pace_of_an_account_get_different_slots(crew, ledger_url, make_engine):
    """All their slots differ by at least one interval, and there is one row."""
    interval = LONG
    one = {"job": "reserve", "ledger_url": ledger_url, "account": "new", "interval": interval, "slots": 10}
    [results] = crew([one] * 8)
    assert [result["exitcode"] for result in results] == [0] * 8
    slots = sorted(slot for result in results for slot in result["slots"])
    assert len(slots) == 80
    gaps = [b - a for a, b in itertools.pairwise(slots)]
    # Each moment is put together from two readings of a clock, some time apart on a busy machine; a slot that was
    # given out twice would be at 0.
    assert min(gaps) > interval / 2
    assert slots[-1] - slots[0] == pytest.approx(79 * interval, abs=interval)
    with make_engine().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sendoso_pace")).scalar() == 1


def test_eight_processes_that_create_the_ledger_create_one(crew, ledger_url, make_engine):
    [results] = crew([{"job": "open_ledger", "ledger_url": ledger_url}] * 8)
    assert [result["exitcode"] for result in results] == [0] * 8
    assert len({result["uuid"] for result in results}) == 1


def test_accounts_do_not_share_a_pace(book):
    busy, idle = book.pace("busy", LONG, POLL_SHARE), book.pace("idle", LONG, POLL_SHARE)
    for _ in range(20):
        busy.reserve(poll=False)
    assert busy.reserve(poll=False) > 15 * LONG
    assert busy.queue() >= 0
    busy.queue()
    assert busy.queue() > POLL_SHARE * LONG  # polls are held back where sends are …
    assert [idle.queue() for _ in range(5)] == [0.0] * 5  # … and nowhere else
    lead = idle.lead
    assert idle.reserve(poll=False) <= lead


def test_slots_are_an_interval_apart_and_idle_time_is_not_saved_up(book, make_engine):
    """An account that was idle for long has one slot now, and no burst."""
    pace = book.pace("any", LONG, POLL_SHARE)
    pace.reserve(poll=True)
    with make_engine().begin() as connection:
        connection.execute(text("UPDATE sendoso_pace SET tat = tat - :idle"), {"idle": 6 * LONG})
    lead = pace.lead
    waits = [pace.reserve(poll=True) for _ in range(6)]
    assert waits[0] <= lead
    assert waits[1:] == pytest.approx([LONG * number for number in range(1, 6)], abs=BUSY)


def test_the_poll_queue_is_a_fifth_of_the_rate(book):
    """Without waiting for it: while a send was just asked for, polls line up five intervals apart."""
    pace = book.pace("any", LONG, POLL_SHARE)
    assert [pace.queue() for _ in range(3)] == [0.0] * 3
    for _ in range(2):
        pace.reserve(poll=False)
    turns = [pace.queue() for _ in range(4)]
    gaps = [b - a for a, b in itertools.pairwise(turns)]
    assert gaps == pytest.approx([POLL_SHARE * LONG] * 3, abs=BUSY)
