"""One walk through Sendoso's list serves all tasks of a scope for a while, and proves absence as strictly as ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from typing import Any

import frozen
import pytest
from sqlalchemy import update
from trying import SENDS, one_try, sendoso_connection

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Record, State
from airflow_provider_sendoso.ledger.schema import cursors, sends
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending.posting import longest_post
from airflow_provider_sendoso.sending.reconciling import Reconciler

PEOPLE = ("ada@example.com", "bob@example.com", "cleo@example.com")
SETTLE = 900.0


@pytest.fixture(autouse=True)
def serves(hurry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search serves as long as it does in earnest."""
    monkeypatch.setattr("airflow_provider_sendoso.sending.reconciling._SERVES", 60.0)


@pytest.fixture
def lost(make_open: Callable[..., list[str]]) -> list[str]:
    """Sends of unknown outcome that Sendoso does not have, among others that it has; their POST was long ago."""
    keys = make_open(*PEOPLE)
    one = {"first_name": "Ada", "last_name": "L", "email": "witness@example.com"}
    assert one_try([one], dedupe_scope="another").error == ""  # a list that shows none of our sends proves nothing
    long_ago = update(sends).values(posted_at=sends.c.posted_at - 7200, posted_mark=":0.0:0.0")
    SendosoHook().ledger._database.run(lambda connection: connection.execute(long_ago))
    return keys


def lists(sandbox: Sandbox) -> int:
    """How many pages of the list of sends were asked for."""
    return sum(request.method == "GET" and request.path == SENDS for request in sandbox.requests)


def look(settle_time: float = SETTLE, *, prove: bool = True, client: str | None = None) -> set[str]:
    """What a task would take for proven absent, as a task of another process would look."""
    hook = SendosoHook()
    reconciler = Reconciler(hook.session, hook.ledger, hook.config.account, "q4", settle_time)
    if client is not None:
        reconciler._client = client
    return set(reconciler.run(prove=prove))


def change(**values: Any) -> None:
    statement = update(sends).where(sends.c.dedupe_scope == "q4").values(**values)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(statement))


def pass_time(seconds: float) -> None:
    older = update(cursors).values(updated_at=cursors.c.updated_at - seconds)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(older))


def record(key: str) -> Record:
    return SendosoHook().ledger.sends.read([key])[key]


def test_what_one_task_has_proven_absent_serves_another_without_a_request(sendoso: Sandbox, lost: list[str]) -> None:
    assert look() == set(lost)
    before = lists(sendoso)
    assert before == 4  # two complete lists, each to its empty page
    assert look() == set(lost)
    assert look(prove=False) == set()
    assert lists(sendoso) == before


def test_a_search_serves_for_a_minute_from_its_beginning(sendoso: Sandbox, lost: list[str]) -> None:
    look(prove=False)
    before = lists(sendoso)
    pass_time(50)
    look(prove=False)
    assert lists(sendoso) == before
    pass_time(11)
    look(prove=False)
    assert lists(sendoso) > before


def test_a_search_that_proves_nothing_does_not_serve_where_absence_is_to_be_proven(
    sendoso: Sandbox, lost: list[str]
) -> None:
    assert look(prove=False) == set()
    before = lists(sendoso)
    assert look() == set(lost)
    assert lists(sendoso) - before == 4


def test_a_proof_after_a_shorter_settle_time_does_not_serve_a_task_with_a_longer_one(
    sendoso: Sandbox, lost: list[str]
) -> None:
    """Both see the sends as settled now; but the first has read its lists when the second would not have."""
    assert look(0.0) == set(lost)
    before = lists(sendoso)
    assert look(SETTLE) == set(lost)
    assert lists(sendoso) - before == 4


def test_a_send_that_settles_after_a_search_is_searched_for_again(sendoso: Sandbox, lost: list[str]) -> None:
    assert look(1e6) == set()  # looked for, and held; nothing is settled yet
    before = lists(sendoso)
    assert look(SETTLE) == set(lost)
    assert lists(sendoso) - before == 4


def test_a_proof_does_not_hold_for_a_later_post_of_the_same_send(sendoso: Sandbox, lost: list[str]) -> None:
    assert look() == set(lost)
    change(attempt=2)
    before = lists(sendoso)
    look()
    assert lists(sendoso) - before == 4


def test_a_send_that_became_unknown_after_a_search_is_looked_for(sendoso: Sandbox, lost: list[str]) -> None:
    look(prove=False)
    change(state=State.UNKNOWN)
    before = lists(sendoso)
    look(prove=False)
    assert lists(sendoso) > before
    assert {record(key).state for key in lost} == {State.HELD}


def test_what_another_client_has_searched_serves_and_proves_nothing(sendoso: Sandbox, lost: list[str]) -> None:
    """Its list may be that of another organisation."""
    look(prove=False, client="another client!!")
    before = lists(sendoso)
    look(prove=False)
    assert lists(sendoso) > before
    change(client=SendosoHook().ledger.client_hash(SendosoHook().config.client))
    assert look(client="another client!!") == set()
    before = lists(sendoso)
    assert look() == set(lost)
    assert lists(sendoso) - before == 4


def test_what_another_client_has_searched_does_not_keep_this_one_from_searching(
    sendoso: Sandbox, lost: list[str]
) -> None:
    """A send that is in this client's list would stay held until the other's search is old."""
    look(prove=False, client="another client!!")
    before = lists(sendoso)
    look(prove=False)
    assert lists(sendoso) > before


def test_a_search_that_failed_serves_nobody(sendoso: Sandbox, lost: list[str]) -> None:
    sendoso.fault("status", times=100, method="GET", path=SENDS, status=404)
    look()
    sendoso.clear_faults()
    assert look() == set(lost)


def test_a_send_that_a_person_has_decided_since_is_not_proven_absent_any_more(
    sendoso: Sandbox, lost: list[str]
) -> None:
    assert look() == set(lost)
    SendosoHook().ledger.resolutions.resolve(record(lost[0]), State.SENT, resolved_by="ada", why="seen")
    assert look() == set(lost[1:])


def test_while_one_task_searches_another_goes_on_or_waits_for_it(sendoso: Sandbox, lost: list[str]) -> None:
    hook = SendosoHook()
    reconciler = Reconciler(hook.session, hook.ledger, hook.config.account, "q4", SETTLE)
    [kind] = {record(key).kind for key in lost}
    assert kind is not None
    name, looks = reconciler._name(kind), hook.ledger.looks
    turn = looks.begin(name, looks.last(name))
    assert turn is not None
    assert looks.begin(name, replace(looks.last(name), kept=replace(looks.last(name).kept, version=0))) is None
    assert reconciler.run(prove=True) == {}
    waited = []

    def wait() -> bool:
        waited.append(len(waited))
        if len(waited) == 3:
            hook.ledger.resolutions.hold([record(key) for key in lost])
            turn.end(dict.fromkeys(lost, 1), lost, lost[:2], longest_post(hook.config.timeout) + SETTLE)
        return True

    assert set(reconciler.run(prove=True, wait=wait)) == set(lost[:2])
    assert (len(waited), lists(sendoso)) == (3, 0)


def test_a_search_whose_process_has_died_is_taken_over(sendoso: Sandbox, lost: list[str]) -> None:
    hook = SendosoHook()
    reconciler = Reconciler(hook.session, hook.ledger, hook.config.account, "q4", SETTLE)
    [kind] = {record(key).kind for key in lost}
    assert kind is not None
    name, looks = reconciler._name(kind), hook.ledger.looks
    dead = looks.begin(name, looks.last(name))
    assert dead is not None
    assert look() == set()
    pass_time(61)
    assert look() == set(lost)
    dead.end(dict.fromkeys(lost, 9), lost, [])  # it wakes up, and has lost its turn
    assert looks.last(name).looked_for == dict.fromkeys(lost, 1)


def test_many_processes_of_one_scope_read_the_list_a_few_times_and_not_twice_each(
    sendoso: Sandbox, ledger: Any, lost: list[str], forkserver: ForkServerContext
) -> None:
    connections = {
        "sendoso_default": sendoso_connection(sendoso, requests_per_second=1000, timeout=60),
        "sendoso_ledger": ledger,
    }
    people = [{"first_name": "Ada", "last_name": "L", "email": email} for email in PEOPLE]
    queue = forkserver.Queue()
    changes = [
        {"count": [*people, {"first_name": "Ada", "last_name": "L", "email": f"{n}@example.com"}], "run_id": f"run-{n}"}
        for n in range(6)
    ]
    processes = [forkserver.Process(target=frozen.a_try, args=(connections, "batch", one, queue)) for one in changes]
    for process in processes:
        process.start()
    outcomes = [queue.get(timeout=120) for _ in processes]
    assert [outcome["error"] for outcome in outcomes] == ["SendHeldError"] * 6
    assert all(
        outcome["xcom"]["return_value"] | {"sent": 1, "held": 3} == outcome["xcom"]["return_value"]
        for outcome in outcomes
    )
    # A walk of these sends has one page, or two if it goes to the end; there were twelve walks.
    assert 1 <= lists(sendoso) <= 4
