"""A renewal that is interrupted as Airflow interrupts it: a signal handler raises in the main thread."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

SLOW = 0.8
"""Seconds between Sendoso's having traded the refresh token and its answer's arrival."""


class TimeOut(BaseException):
    """What Airflow raises for ``execution_timeout`` is no ``Exception`` either."""


@pytest.fixture
def interrupted() -> Iterator[Callable[..., AbstractContextManager[None]]]:
    """Interrupts what is done inside it, after so many seconds each."""

    @contextlib.contextmanager
    def interrupt(*seconds: float) -> Iterator[None]:
        pauses = [later - sooner for sooner, later in zip((0.0, *seconds), seconds, strict=False)]

        def handle(number: int, frame: object) -> None:
            if pauses:
                signal.setitimer(signal.ITIMER_REAL, pauses.pop(0))
            raise TimeOut

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, pauses.pop(0))
        with pytest.raises(TimeOut):
            yield
        assert not pauses

    before = signal.getsignal(signal.SIGALRM)
    yield interrupt
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def errands() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sendoso-errand"]


@pytest.fixture
def slow(sandbox):
    sandbox.fault("slow", delay=SLOW, accept_first=True, path="/oauth/token")


def test_what_the_refresh_token_was_traded_for_is_stored(
    interrupted, slow, make_session, make_config, sandbox, token_requests
):
    """It is when the exception arrives: Airflow ends the process soon after that, and waits for no thread."""
    seed = sandbox.issue_refresh_token()
    session = make_session(make_config(seed))
    with interrupted(SLOW / 2):
        session.token()
    stored = make_session(make_config(seed)).tokens.stored()
    assert stored.refresh_token not in (None, seed)
    assert session.token() == make_session(make_config(seed)).token() == stored.access_token
    assert token_requests() == [200]
    assert make_session(make_config(seed)).renew(stored.access_token)
    assert token_requests() == [200, 200]  # what was stored works: no invalid_grant


def test_who_comes_while_the_abandoned_thread_still_renews_waits_for_it(
    interrupted, slow, make_session, make_config, sandbox, token_requests
):
    """Interrupted twice, the caller leaves at once."""
    config = make_config(sandbox.issue_refresh_token())
    session = make_session(config)
    started = time.monotonic()
    with interrupted(SLOW / 4, SLOW / 2):
        session.token()
    assert time.monotonic() - started < SLOW
    assert session.tokens.cached() is None
    [abandoned] = errands()
    assert not abandoned.daemon  # an ordinary end of the process waits for it

    token = session.token()
    assert time.monotonic() - started >= SLOW
    assert make_session(config).token() == token
    assert token_requests() == [200]
    assert make_session(config).renew(token)
    assert token_requests() == [200, 200]


def test_a_request_that_has_not_left_does_not_leave(interrupted, make_session, make_config, sandbox, token_requests):
    """Interrupted while it waits for its slot: nobody waits for the renewal, which gives back the claim it has."""
    config = make_config(sandbox.issue_refresh_token())
    session = make_session(config)
    session.sleep = time.sleep
    session.pace.push_back(SLOW)
    started = time.monotonic()
    with interrupted(SLOW / 4):
        session.token()
    assert time.monotonic() - started < SLOW / 2
    [abandoned] = errands()
    abandoned.join()
    assert token_requests() == []
    started = time.monotonic()
    assert make_session(config).token()
    assert time.monotonic() - started < 2  # and not a lease
    assert token_requests() == [200]


def test_a_claim_that_is_not_there_yet_is_not_waited_for(
    interrupted, book, make_session, make_config, sandbox, token_requests
):
    config = make_config(sandbox.issue_refresh_token())
    store = book.tokens(config.identity, "sandbox")
    assert store.claim("another", 60)
    session = make_session(config)
    with interrupted(0.3):
        session.token()
    for abandoned in errands():
        abandoned.join(5)
        assert not abandoned.is_alive()
    assert token_requests() == []
    store.release("another")
    assert session.token()


def test_a_renewal_in_a_thread_of_the_event_loop(interrupted, slow, make_session, make_config, sandbox, token_requests):
    """The triggerer asks from a worker thread, in which no exception of a signal handler is ever raised."""
    session = make_session(make_config(sandbox.issue_refresh_token()))
    tokens: list[str] = []
    caller = threading.Thread(target=lambda: tokens.append(session.token()), daemon=True)
    caller.start()
    with interrupted(SLOW / 2):
        caller.join()
    caller.join()
    assert tokens == [session.token()]
    assert token_requests() == [200]
