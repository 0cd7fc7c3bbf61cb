"""The asynchronous session gives the same answers as the other session, and never blocks the event loop."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from airflow_provider_sendoso.client import retrying
from airflow_provider_sendoso.client.async_session import shared_session
from airflow_provider_sendoso.client.endpoints import Request, get_send_request, list_gifts_request, me_request
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tokens import MemoryTokenStore
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoConnectionError,
    SendosoNotFoundError,
    SendosoRateLimitError,
    SendosoServerError,
)

ME = "/api/v3/me"

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def session(sandbox, session_on) -> SendosoSession:
    return session_on(sandbox.url)


@pytest.fixture
async def reader(session):
    async with shared_session(session) as reader:
        yield reader


def asked(sandbox, path: str = ME) -> int:
    return [request.path for request in sandbox.requests].count(path)


class TestReads:
    async def test_a_read_returns_status_headers_and_body(self, sandbox, reader):
        answer = await reader.read(me_request())
        assert (answer.status, answer.json["id"]) == (200, 1)
        assert answer.headers["content-type"].startswith("application/json")

    async def test_a_read_sends_its_query_and_a_quoted_path(self, sandbox, reader):
        answer = await reader.read(list_gifts_request({"category": "donation", "max_price": 15.0}))
        assert [gift["id"] for gift in answer.json["gifts"]] == ["gift-donation-trees"]
        with pytest.raises(SendosoNotFoundError, match="GET /api/v3/sends/a%2Fb%3F answered 404"):
            await reader.read(get_send_request("a/b?"))

    async def test_concurrent_reads_share_one_token(self, sandbox, reader):
        await asyncio.gather(*[reader.read(me_request()) for _ in range(20)])
        assert (asked(sandbox, "/oauth/token"), asked(sandbox)) == (1, 20)

    async def test_each_request_takes_one_slot(self, sandbox, reader, pace):
        sandbox.fault("error_before", path=ME)
        await reader.read(me_request())
        assert pace.slots == len(sandbox.requests) == 3

    async def test_a_poll_waits_in_the_poll_queue_before_it_takes_a_slot(self, session, reader, pace):
        session.token()
        await reader.read(me_request())
        assert pace.asked == ["send", "queue", "poll"]


class TestShared:
    async def test_one_session_serves_all_users_of_an_event_loop_until_the_last_is_done(self, session):
        async with shared_session(session) as first:
            async with shared_session(session) as second:
                assert first is second
            assert (await first.read(me_request())).status == 200
        async with shared_session(session) as later:
            assert later is not first
            assert (await later.read(me_request())).status == 200

    async def test_another_connection_has_another_session(self, sandbox, session, session_on):
        async with shared_session(session) as ours, shared_session(session_on(sandbox.url)) as theirs:
            assert ours is not theirs

    def test_another_event_loop_has_another_session(self, session):
        async def read():
            async with shared_session(session) as reader:
                return (await reader.read(me_request())).status

        assert [asyncio.run(read()) for _ in range(2)] == [200, 200]

    async def test_a_session_is_given_back_after_an_error(self, session):
        with pytest.raises(KeyError):
            async with shared_session(session) as first:
                raise KeyError
        async with shared_session(session) as later:
            assert later is not first

    async def test_the_users_of_a_session_enter_the_poll_queue_one_at_a_time(self, session, reader, pace, monkeypatch):
        session.token()
        waiting = []

        def reserve(*, poll: bool) -> float:
            waiting.append(+1)
            time.sleep(0.02)
            waiting.append(-1)
            return 0.0

        monkeypatch.setattr(pace, "reserve", reserve)
        await asyncio.gather(*[reader.read(me_request()) for _ in range(5)])
        assert waiting == [+1, -1] * 5


class TestTheEnvironment:
    async def test_a_netrc_file_does_not_replace_the_token(self, reader, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        assert (await reader.read(me_request())).status == 200


class TestRepeats:
    @pytest.mark.parametrize(
        ("fault", "options"),
        [
            ("error_before", {"status": 500}),
            ("error_before", {"status": 502}),
            ("error_before", {"status": 503}),
            ("throttle", {}),
            ("garbage", {}),
            ("truncate", {}),
            ("redirect", {}),
        ],
    )
    async def test_a_read_is_repeated_after_an_error_that_may_pass(self, sandbox, reader, fault, options):
        sandbox.fault(fault, times=2, path=ME, **options)
        assert (await reader.read(me_request())).json["id"] == 1
        assert asked(sandbox) == 3

    async def test_a_read_is_repeated_after_a_dropped_connection(self, sandbox, reader):
        sandbox.fault("drop_after", times=2, path=ME)
        assert (await reader.read(me_request())).json["id"] == 1

    async def test_a_read_is_repeated_after_a_timeout(self, sandbox, session_on):
        session = session_on(sandbox.url, timeout=1)
        session.token()
        sandbox.fault("slow", path=ME, delay=1000)
        async with shared_session(session) as reader:
            assert (await reader.read(me_request())).json["id"] == 1
        assert asked(sandbox) >= 2  # on a busy machine another answer may come too late, too

    @pytest.mark.parametrize(
        ("fault", "options", "kind"),
        [
            ("error_before", {}, SendosoServerError),
            ("garbage", {}, SendosoServerError),
            ("redirect", {}, SendosoServerError),
            ("throttle", {}, SendosoRateLimitError),
            ("truncate", {}, SendosoConnectionError),
        ],
    )
    async def test_a_read_is_given_up_after_a_number_of_attempts(self, sandbox, reader, fault, options, kind):
        sandbox.fault(fault, times=100, path=ME, **options)
        with pytest.raises(kind):
            await reader.read(me_request())
        assert asked(sandbox) == retrying.ATTEMPTS

    async def test_a_redirect_is_not_followed(self, sandbox, reader):
        sandbox.fault("redirect", times=100, path=ME, location="/api/v3/gifts")
        with pytest.raises(SendosoServerError, match="answered 302"):
            await reader.read(me_request())
        assert asked(sandbox, "/api/v3/gifts") == 0

    @pytest.mark.parametrize("status", [400, 403, 404, 422])
    async def test_a_read_is_not_repeated_after_an_error_that_stays(self, sandbox, reader, status):
        sandbox.fault("status", times=100, path=ME, status=status)
        with pytest.raises(Exception, match=f"answered {status}"):
            await reader.read(me_request())
        assert asked(sandbox) == 1

    async def test_a_read_from_a_host_that_is_down_is_a_connection_error(self, sandbox, session):
        session.token()
        sandbox.stop()
        async with shared_session(session) as reader:
            with pytest.raises(SendosoConnectionError, match="got no answer from Sendoso"):
                await reader.read(me_request())

    @pytest.mark.parametrize(("retry_after", "seconds"), [(7, 7), (None, 1)])
    async def test_a_throttle_pushes_the_accounts_pace_back(self, sandbox, reader, pace, retry_after, seconds):
        sandbox.fault("throttle", path=ME, retry_after=retry_after)
        await reader.read(me_request())
        assert pace.pushed_back == [seconds]

    async def test_a_long_throttle_is_not_waited_out(self, sandbox, reader):
        sandbox.fault("throttle", times=100, path=ME, retry_after=3600)
        with pytest.raises(SendosoRateLimitError):
            await reader.read(me_request())
        assert asked(sandbox) == 1


class TestUnauthorised:
    async def test_a_refused_token_is_renewed_once(self, sandbox, session, reader):
        stale = session.token()
        sandbox.revoke_tokens()
        assert (await reader.read(me_request())).json["id"] == 1
        assert session.token() != stale
        assert (asked(sandbox, "/oauth/token"), asked(sandbox)) == (2, 2)

    async def test_concurrent_reads_renew_a_refused_token_once(self, sandbox, session, reader):
        session.token()
        sandbox.revoke_tokens()
        await asyncio.gather(*[reader.read(me_request()) for _ in range(10)])
        assert asked(sandbox, "/oauth/token") == 2

    async def test_a_renewed_token_that_is_refused_is_an_error(self, sandbox, reader):
        sandbox.fault("status", times=100, path=ME, status=401)
        with pytest.raises(SendosoAuthError):
            await reader.read(me_request())
        assert (asked(sandbox, "/oauth/token"), asked(sandbox)) == (2, 2)

    async def test_wrong_credentials_are_an_error_before_any_read(self, sandbox, session_on):
        async with shared_session(session_on(sandbox.url, client_secret="wrong")) as reader:
            with pytest.raises(SendosoAuthError, match="did not grant a token"):
                await reader.read(me_request())
        assert asked(sandbox) == 0


class TestTheEventLoopIsNeverBlocked:
    LONG = 0.4
    LONGEST_GAP = 0.2
    TRIES = 10

    async def largest_gap(self, work) -> float:
        """
        Run something beside a task that ticks, and return the longest time between two ticks.

        Of several tries the best: what blocks the loop blocks it in each, and a busy machine only in some.
        """
        gaps = []
        for _ in range(self.TRIES):
            gaps.append(await self.gap_of_one_try(work()))
            if gaps[-1] < self.LONGEST_GAP:
                break
        return min(gaps)

    async def gap_of_one_try(self, work) -> float:
        ticks = [time.monotonic()]

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.005)
                ticks.append(time.monotonic())

        ticker = asyncio.create_task(tick())
        try:
            await work
        finally:
            ticks.append(time.monotonic())
            ticker.cancel()
        assert ticks[-1] - ticks[0] >= self.LONG, "nothing was waited for, so nothing was shown"
        return max(after - before for before, after in itertools.pairwise(ticks))

    @pytest.mark.parametrize("path", ["/oauth/token", ME])
    async def test_a_slow_server_does_not_block_the_event_loop(self, sandbox, reader, path):
        def work():
            sandbox.revoke_tokens()
            sandbox.fault("slow", path=path, delay=self.LONG)
            return reader.read(me_request())

        assert await self.largest_gap(work) < self.LONGEST_GAP

    async def test_a_slow_ledger_does_not_block_the_event_loop(self, sandbox, session_on, pace, monkeypatch):
        class SlowStore(MemoryTokenStore):
            def read(self):
                time.sleep(TestTheEventLoopIsNeverBlocked.LONG)
                return super().read()

        session = SendosoSession(session_on(sandbox.url).config, SlowStore(), pace)
        async with shared_session(session) as reader:

            def work():
                session.tokens._cached = None
                return reader.read(me_request())

            assert await self.largest_gap(work) < self.LONGEST_GAP

    @pytest.mark.parametrize("method", ["queue", "reserve", "push_back"])
    async def test_a_slow_pace_does_not_block_the_event_loop(self, sandbox, session, reader, pace, monkeypatch, method):
        session.token()
        quick = getattr(pace, method)

        def slow(*args, **kwargs):
            time.sleep(self.LONG)
            return quick(*args, **kwargs)

        monkeypatch.setattr(pace, method, slow)

        def work():
            sandbox.fault("throttle", path=ME)
            return reader.read(me_request())

        assert await self.largest_gap(work) < self.LONGEST_GAP

    @pytest.mark.parametrize("method", ["queue", "reserve"])
    async def test_waiting_for_a_slot_does_not_block_the_event_loop(self, session, reader, pace, monkeypatch, method):
        session.token()
        monkeypatch.setattr(pace, method, lambda **poll: self.LONG)
        assert await self.largest_gap(lambda: reader.read(me_request())) < self.LONGEST_GAP


async def test_an_error_shows_no_secret(sandbox, session_on):
    session = session_on(sandbox.url, client_secret="p4ss-w0rd")
    async with shared_session(session) as reader:
        with pytest.raises(SendosoAuthError) as caught:
            await reader.read(Request("GET", ME))
    assert "p4ss-w0rd" not in f"{caught.value!r} {caught.value}"


async def test_a_body_that_is_too_large_is_an_error(sandbox, session, reader):
    sandbox.fault("status", times=9, path=ME, status=200, body={"id": "x" * me_request().largest_answer})
    with pytest.raises(SendosoConnectionError, match="the answer is too large"):
        await reader.read(me_request())
