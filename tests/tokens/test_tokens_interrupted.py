"""A renewal that is interrupted as Airflow interrupts it: a signal handler raises in the main thread."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest


class TimeOut(BaseException):
    """What Airflow raises for ``execution_timeout`` is no ``Exception`` either."""


@pytest.fixture
def interrupted(until) -> Iterator[Callable[..., AbstractContextManager[None]]]:
    """Interrupts the block as soon as its first condition is true, and again when the second is."""

    def handle(number: int, frame: object) -> None:
        raise TimeOut

    @contextlib.contextmanager
    def interrupt(*moments: Callable[[], object]) -> Iterator[None]:
        def watch() -> None:
            for moment in moments:
                until(moment)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

        watcher = threading.Thread(target=watch)
        watcher.start()
        with pytest.raises(TimeOut):
            yield
        watcher.join()

    before = signal.signal(signal.SIGALRM, handle)
    yield interrupt
    signal.signal(signal.SIGALRM, before)


def a_moment_later() -> bool:
    time.sleep(0.2)
    return True


def uninterruptible() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sendoso-uninterruptible"]


@pytest.fixture
def slow(sandbox, answers_wait) -> threading.Event:
    """Sendoso trades the refresh token, and its answer arrives when this is set."""
    sandbox.fault("slow", delay=1, accept_first=True, path="/oauth/token")
    return answers_wait


def test_tokens_granted_during_an_interruption_are_stored(
    interrupted, slow, until, make_session, make_config, sandbox, token_requests
):
    """They are stored when the exception arrives, because Airflow soon ends the process, and waits for no thread."""
    seed = sandbox.issue_refresh_token()
    session = make_session(make_config(seed))
    threading.Thread(target=lambda: (until(token_requests), a_moment_later(), a_moment_later(), slow.set())).start()
    with interrupted(token_requests):
        session.token()
    assert slow.is_set()  # it was waited for
    stored = make_session(make_config(seed)).tokens.stored()
    assert stored.refresh_token not in (None, seed)
    assert session.token() == make_session(make_config(seed)).token() == stored.access_token
    assert token_requests() == [200]
    assert make_session(make_config(seed)).renew(stored.access_token)
    assert token_requests() == [200, 200]  # what was stored works: no invalid_grant


def test_another_process_waits_for_the_thread_that_an_interrupted_caller_left_behind(
    interrupted, slow, make_session, make_config, sandbox, token_requests
):
    """Interrupted twice, the caller leaves at once."""
    config = make_config(sandbox.issue_refresh_token())
    session = make_session(config)
    with interrupted(token_requests, a_moment_later):
        session.token()
    assert not slow.is_set()
    assert session.tokens.cached() is None
    [abandoned] = uninterruptible()
    assert not abandoned.daemon  # an ordinary end of the process waits for it

    threading.Timer(0.2, slow.set).start()
    token = session.token()
    assert slow.is_set()
    assert make_session(config).token() == token
    assert token_requests() == [200]
    assert make_session(config).renew(token)
    assert token_requests() == [200, 200]


def test_an_interrupted_renewal_makes_no_request_that_had_not_begun(
    interrupted, make_session, make_config, sandbox, token_requests
):
    """The caller is interrupted while the renewal waits for a slot; the renewal then releases its claim."""
    config = make_config(sandbox.issue_refresh_token())
    session = make_session(config)
    waits, slot = threading.Event(), threading.Event()
    session.sleep = lambda seconds: (waits.set(), slot.wait())
    session.pace.push_back(100)
    with interrupted(waits.is_set):
        session.token()
    [abandoned] = uninterruptible()
    slot.set()
    abandoned.join()
    assert token_requests() == []
    started = time.monotonic()
    assert make_session(config).token()
    assert time.monotonic() - started < 60  # and not a lease, which is three minutes
    assert token_requests() == [200]


def test_an_interrupted_caller_does_not_wait_for_a_claim(
    interrupted, book, make_session, make_config, sandbox, token_requests
):
    config = make_config(sandbox.issue_refresh_token())
    store = book.tokens(config.identity, "sandbox")
    assert store.claim("another", 60)
    session = make_session(config)
    with interrupted(a_moment_later):
        session.token()
    for abandoned in uninterruptible():
        abandoned.join(60)
        assert not abandoned.is_alive()
    assert token_requests() == []
    store.release("another")
    assert session.token()


def test_a_renewal_in_a_worker_thread_is_not_interrupted(
    interrupted, slow, make_session, make_config, sandbox, token_requests
):
    """The triggerer asks from a worker thread, in which no exception of a signal handler is ever raised."""
    session = make_session(make_config(sandbox.issue_refresh_token()))
    tokens: list[str] = []
    caller = threading.Thread(target=lambda: tokens.append(session.token()), daemon=True)
    caller.start()
    with interrupted(token_requests):
        caller.join()
    slow.set()
    while not tokens:  # before Python 3.13 a join that was interrupted takes the thread for one that has ended
        time.sleep(0.01)
    assert tokens == [session.token()]
    assert token_requests() == [200]
