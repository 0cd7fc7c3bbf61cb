"""Transitions of several threads in one transaction: each thread gets its own result, and no failure affects others."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from group_queue import Queue
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from airflow_provider_sendoso.exceptions import SendosoLedgerError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger import group_commit as together
from airflow_provider_sendoso.ledger.group_commit import GroupCommit
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.models import Item, Kind, StatusReport

BATCH = Batch("batch", "account", "q4", "email", "dag", "task", "run", -1)
KEYS = [f"key-{number:02}" for number in range(16)]


@pytest.fixture
def claims(opened: Ledger) -> list[Claim]:
    found = opened.sends.claim(
        BATCH, "mine", 60, [Wanted(key, "payload", Item("gift"), None, kind=Kind.GIFT) for key in KEYS]
    )
    claims = [claim for claim in found.values() if isinstance(claim, Claim)]
    assert all(opened.sends.begin_post(claim, 60) for claim in claims)
    return claims


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(len(KEYS)) as threads:
        yield threads


@pytest.fixture
def queue(opened: Ledger, pool: ThreadPoolExecutor, claims: list[Claim]) -> Iterator[Queue]:
    queue = Queue(opened._database.together, pool)
    yield queue
    queue.go_on.set()


def states(ledger: Ledger) -> list[State]:
    return [ledger.sends.read(KEYS)[key].state for key in KEYS]


def test_each_transition_of_a_group_learns_its_own_result(opened: Ledger, claims: list[Claim], queue: Queue) -> None:
    def finish(number: int) -> bool:
        claim = claims[number] if number % 2 else replace(claims[number], owner="another")
        return opened.sends.finish(claim, State.SENT, send_id=f"id-{number}", report=StatusReport.of("pending"))

    futures = queue.add(*(lambda number=number: finish(number) for number in reversed(range(15))))
    queue.release()
    assert [future.result(60) for future in reversed(futures)] == [bool(number % 2) for number in range(15)]
    assert states(opened) == [State.POSTING if n % 2 == 0 or n == 15 else State.SENT for n in range(16)]
    assert {record.send_id for record in opened.sends.records(State.SENT)} == {f"id-{n}" for n in range(1, 15, 2)}
    assert queue.sizes == [15]


def test_sixteen_threads_in_ten_rounds_lose_no_transition(
    opened: Ledger, claims: list[Claim], pool: ThreadPoolExecutor
) -> None:
    def back_and_forth(claim: Claim) -> list[bool]:
        rounds = [(opened.sends.post_again(claim, 60), opened.sends.begin_post(claim, 60)) for _ in range(10)]
        return [all(done) for done in rounds] + [opened.sends.finish(claim, State.SENT, send_id=claim.send_key)]

    assert list(pool.map(back_and_forth, claims)) == [[True] * 11] * 16
    assert {r.send_key: r.send_id for r in opened.sends.records(State.SENT)} == dict(zip(KEYS, KEYS, strict=True))


def test_a_transition_that_fails_does_not_fail_the_others_of_its_group(
    opened: Ledger, claims: list[Claim], queue: Queue
) -> None:
    def poison() -> None:
        opened._database.run(break_it, 0.0, lambda: opened._database.together.once(break_it, KEYS[1]))

    def break_it(connection: Connection) -> None:
        connection.execute(text("SELECT 1 FROM nowhere"))

    poisoned, *others = queue.add(poison, *(lambda claim=claim: finish(opened, claim) for claim in claims[:5]))
    queue.release()
    assert [other.result(60) for other in others] == [True] * 5
    with pytest.raises(SendosoLedgerError, match="nowhere"):
        poisoned.result(60)
    assert states(opened) == [State.SENT] * 5 + [State.POSTING] * 11


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
def test_a_group_whose_connection_is_lost_is_committed_again(
    opened: Ledger, claims: list[Claim], queue: Queue, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, failures = opened._database.once, [3]

    def lose(work: Callable[[Connection], Any]) -> Any:
        lost = failures[0] > 0
        failures[0] -= 1
        if lost and when == "before the commit":
            raise OperationalError("UPDATE", {}, Exception("the connection was lost"))
        result = once(work)
        if lost:
            raise OperationalError("COMMIT", {}, Exception("the connection was lost"))
        return result

    futures = queue.add(*(lambda claim=claim: finish(opened, claim) for claim in claims[:5]))
    monkeypatch.setattr(opened._database, "once", lose)
    monkeypatch.setattr(queue.together, "_once", lose)
    queue.release()
    assert [future.result(60) for future in futures] == [True] * 5
    assert states(opened) == [State.SENT] * 5 + [State.POSTING] * 11


class Stopped(BaseException):
    pass


def test_a_thread_stopped_while_it_commits_leaves_no_other_thread_waiting(
    opened: Ledger, claims: list[Claim], queue: Queue
) -> None:
    stops = [Stopped]

    def stop(connection: Connection) -> None:
        if stops:
            raise stops.pop()

    (stopped,) = queue.add(lambda: queue.together.once(stop, ""))
    others = queue.add(*(lambda claim=claim: finish(opened, claim) for claim in claims[:2]))
    queue.release()
    ended = [future.exception(60) for future in (stopped, *others)]
    # The exception was raised in the leader's thread.
    assert [type(error) for error in ended if error] == [Stopped]
    assert finish(opened, claims[2])
    assert [state is State.SENT for state in states(opened)[:2]] == [error is None for error in ended[1:]]


def test_a_transition_whose_thread_was_interrupted_while_it_waited_is_not_committed(
    opened: Ledger, claims: list[Claim], queue: Queue
) -> None:
    def interrupt(*_: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, interrupt)
    others = queue.add(lambda: finish(opened, claims[0]))

    def finish_and_be_stopped() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        finish(opened, claims[1])

    try:
        with pytest.raises(Stopped):
            finish_and_be_stopped()
    finally:
        signal.signal(signal.SIGALRM, before)
    queue.release()
    assert others[0].result(60)
    assert states(opened)[:2] == [State.SENT, State.POSTING]


def test_a_thread_interrupted_as_it_becomes_leader_hands_the_lead_on(
    opened: Ledger, claims: list[Claim], queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __init__(self, lock: threading.Lock) -> None:
            self._lock, self.release = lock, lock.release

        def acquire(self, *_: Any, **__: Any) -> None:
            self._lock.acquire()
            raise Stopped

    class Part(together._Part):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.called = Interrupted(self.called)

    with monkeypatch.context() as patched:
        patched.setattr(together, "_Part", Part)
        (interrupted,) = queue.add(lambda: finish(opened, claims[0]))
    others = queue.add(*(lambda claim=claim: finish(opened, claim) for claim in claims[1:3]))
    queue.release()
    with pytest.raises(Stopped):
        interrupted.result(60)
    assert [other.result(60) for other in others] == [True, True]
    assert states(opened)[:3] == [State.POSTING, State.SENT, State.SENT]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_during_a_commit_does_not_wait_for_its_parents_threads() -> None:
    ours: GroupCommit = GroupCommit(lambda work: work(None))
    with ThreadPoolExecutor(1) as pool:
        queue = Queue(ours, pool)
        child = multiprocessing.get_context("fork").Process(target=ours.once, args=(print, ""))
        child.start()
        child.join(60)
        queue.release()
    assert child.exitcode == 0


def finish(ledger: Ledger, claim: Claim) -> bool:
    return ledger.sends.finish(claim, State.SENT)
