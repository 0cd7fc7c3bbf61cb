"""Two hundred triggers on one event loop share a token request, a queue and a pool, and never block the loop."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest
from slots import note_slots

from airflow_provider_sendoso.client import async_session
from airflow_provider_sendoso.client.async_session import shared_session
from airflow_provider_sendoso.client.endpoints import get_send_request, me_request
from airflow_provider_sendoso.exceptions import SendosoAuthError, SendosoNotFoundError

READERS = 200
RATE = 150

# What does not depend on the database is tried on one.
on_sqlite = pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)


@pytest.fixture
def opened(monkeypatch) -> list[aiohttp.ClientSession]:
    """Every aiohttp session that was opened."""
    sessions: list[aiohttp.ClientSession] = []
    real = aiohttp.ClientSession

    def make(*arguments, **settings):
        sessions.append(real(*arguments, **settings))
        return sessions[-1]

    monkeypatch.setattr(async_session.aiohttp, "ClientSession", make)
    return sessions


def api(sandbox) -> list[float]:
    return sorted(request.received_at for request in sandbox.requests if request.path.startswith("/api/"))


async def test_two_hundred_readers_share_one_token_one_queue_and_one_pool(
    make_session, make_config, sandbox, opened, answers_wait, token_requests
):
    """The token is granted only when the loop has come round: who waited for it in the loop itself would not get it."""
    session = make_session(make_config(requests_per_second=RATE))
    session.sleep = time.sleep
    sandbox.fault("slow", delay=1, path="/oauth/token")
    slots = note_slots(session.pace)

    async def grant_the_token() -> None:
        while not token_requests():  # noqa: ASYNC110  (another thread asks)
            await asyncio.sleep(0.005)
        answers_wait.set()

    async def read() -> int:
        async with shared_session(session) as shared:
            return (await shared.read(me_request())).status

    _, *statuses = await asyncio.gather(grant_the_token(), *(read() for _ in range(READERS)))

    assert statuses == [200] * READERS
    assert token_requests() == [200]
    assert len(opened) == 1
    assert opened[0].closed
    assert async_session._shared.get(asyncio.get_running_loop()) == {}
    times = api(sandbox)
    assert len(times) == READERS < len(slots)
    # Spaced for 150 a second; what a busy machine delays comes closer together, but none is extra.
    assert times[-1] - min(slots) >= (READERS - 1) / RATE


@on_sqlite
async def test_a_401_for_all_readers_renews_the_token_once(make_session, make_config, sandbox, token_requests):
    session = make_session(make_config(sandbox.issue_refresh_token()))
    session.tokens.get()
    sandbox.revoke_tokens()
    async with shared_session(session) as shared:
        answers = await asyncio.gather(*(shared.read(me_request()) for _ in range(40)))
    assert {answer.status for answer in answers} == {200}
    assert token_requests() == [200, 200]


@on_sqlite
async def test_a_dead_refresh_token_fails_all_readers_after_one_request(
    make_session, make_config, sandbox, token_requests
):
    session = make_session(make_config("made-up"))
    async with shared_session(session) as shared:
        errors = await asyncio.gather(*(shared.read(me_request()) for _ in range(40)), return_exceptions=True)
    assert {type(error) for error in errors} == {SendosoAuthError}
    assert token_requests() == [400]
    assert api(sandbox) == []


@on_sqlite
async def test_the_last_reader_closes_the_session(make_session, make_config, sandbox, opened):
    session = make_session(make_config())
    async with shared_session(session) as first:
        async with shared_session(session) as second:
            assert first is second
        assert not opened[0].closed
        assert (await first.read(me_request())).status == 200
    assert opened[0].closed
    async with shared_session(session) as third:
        assert third is not first
        assert (await third.read(me_request())).status == 200
    assert [http.closed for http in opened] == [True, True]


@on_sqlite
async def test_the_session_is_closed_after_an_error_and_after_a_cancellation(
    make_session, make_config, sandbox, opened, answers_wait, until
):
    session = make_session(make_config())

    async def read(path: str) -> None:
        async with shared_session(session) as shared:
            await shared.read(get_send_request(path))

    with pytest.raises(SendosoNotFoundError):
        await read("nothing")
    assert opened[0].closed

    sandbox.fault("slow", delay=1, path="/api")
    reading = asyncio.create_task(read("slow"))
    await asyncio.to_thread(until, lambda: len(api(sandbox)) == 2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert [http.closed for http in opened] == [True, True]
    # Nobody holds the turn: the next reader gets it.
    sandbox.clear_faults()
    with pytest.raises(SendosoNotFoundError):
        await asyncio.wait_for(read("nothing"), 60)


@on_sqlite
async def test_a_cancelled_reader_in_the_queue_does_not_stop_the_others(make_session, make_config, sandbox):
    session = make_session(make_config(requests_per_second=40))
    async with shared_session(session) as shared:
        readers = [asyncio.create_task(shared.read(me_request())) for _ in range(20)]
        await asyncio.sleep(0.15)
        for reader in readers[::2]:
            reader.cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*readers, return_exceptions=True), 60)
    assert {outcome.status for outcome in outcomes[1::2]} == {200}


@on_sqlite
async def test_connections_do_not_share_a_session(make_session, make_config, opened):
    one, other = make_session(make_config()), make_session(make_config(scope="public"))
    async with shared_session(one) as first, shared_session(other) as second:
        assert first is not second
    assert [http.closed for http in opened] == [True, True]


@on_sqlite
def test_event_loops_do_not_share_a_session(make_session, make_config, opened):
    session = make_session(make_config())

    async def read() -> int:
        async with shared_session(session) as shared:
            return (await shared.read(me_request())).status

    assert [asyncio.run(read()) for _ in range(2)] == [200, 200]
    assert len(opened) == 2


@on_sqlite
async def test_a_429_for_one_reader_holds_all_readers_back(make_session, make_config, sandbox):
    session = make_session(make_config())
    session.tokens.get()
    sandbox.fault("throttle", retry_after=1, path="/api")
    async with shared_session(session) as shared:
        await asyncio.gather(*(shared.read(me_request()) for _ in range(3)))
    assert sorted(request.status for request in sandbox.requests if request.path.startswith("/api/"))[:3] == [200] * 3
    assert api(sandbox)[-1] - api(sandbox)[0] >= 0.9
