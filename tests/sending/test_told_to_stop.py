"""A task that is told to stop says so, by whom as far as that is known, and what happens next; in real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from types import SimpleNamespace
from typing import Any

import frozen
import pytest
from trying import SENDS, sendoso_connection

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import State
from airflow_provider_sendoso.runs.stops import stopped_by
from airflow_provider_sendoso.sandbox import Sandbox

NEXT = (
    "1 POSTs are in flight: their answers are waited for and recorded. Nothing more is claimed or posted; the next try "
    "goes on with the rows that are left, and nobody is sent a second gift."
)
BY_SIGTERM = "Airflow has told this task to stop (SIGTERM)."


@pytest.fixture
def stopped(
    sendoso: Sandbox, ledger: dict[str, Any], forkserver: ForkServerContext, until: Callable[..., None]
) -> Callable[..., dict[str, Any]]:
    """Runs a try in a process of its own, which gets a signal while its first POST is in flight."""

    def run(what: str, number: signal.Signals) -> dict[str, Any]:
        connections = {
            "sendoso_default": sendoso_connection(sendoso, requests_per_second=1000, timeout=60),
            "sendoso_ledger": ledger,
        }
        sendoso.fault("slow", method="POST", path=SENDS, delay=2.0)
        queue = forkserver.Queue()
        process = forkserver.Process(target=frozen.a_try, args=(connections, what, {}, queue))
        process.start()
        until(lambda: len(sendoso.sends) == 1)
        assert process.pid
        os.kill(process.pid, number)
        outcome: dict[str, Any] = queue.get(timeout=120)
        process.join(20)
        return outcome

    return run


@pytest.mark.parametrize(
    ("number", "said", "error"),
    [
        (signal.SIGTERM, BY_SIGTERM, "SendosoNotReachedError"),
        (signal.SIGUSR1, BY_SIGTERM, "AirflowException"),
        (signal.SIGALRM, "The task's execution_timeout is over.", "AirflowTaskTimeout"),
    ],
    ids=["Airflow 3", "Airflow 2", "execution_timeout"],
)
def test_a_batch_says_what_stopped_it_before_it_waits_for_what_is_in_flight(
    sendoso: Sandbox, stopped: Callable[..., dict[str, Any]], number: signal.Signals, said: str, error: str
) -> None:
    outcome = stopped("batch", number)
    assert outcome["error"] == error
    told = [line for line in outcome["log"] if said.split(" (")[0] in line]
    assert told == [f"WARNING {said} {NEXT}"]
    assert SendosoHook().ledger.sends.states() == {State.SENT: 1, State.READY: 7}
    assert outcome["xcom"]["return_value"]["not_reached"] == 7
    if error == "SendosoNotReachedError":
        assert "The task was told to stop: its process or its worker got SIGTERM" in outcome["words"]


def test_a_single_gift_that_is_told_to_stop_is_recorded_and_says_so(
    sendoso: Sandbox, stopped: Callable[..., dict[str, Any]]
) -> None:
    outcome = stopped("gift", signal.SIGTERM)
    assert (outcome["error"], outcome["returned"]) == ("", sendoso.sends[0].id)
    assert [line for line in outcome["log"] if BY_SIGTERM in line] == [f"WARNING {BY_SIGTERM} {NEXT}"]


def states_as_airflow_3(state: str | None) -> SimpleNamespace:
    ids = {"dag_id": "dag", "task_id": "gifts", "run_id": "run-1", "map_index": 3}

    def get_task_states(**asked: Any) -> dict[str, Any]:
        assert asked == {"dag_id": "dag", "map_index": 3, "task_ids": ["gifts"], "run_ids": ["run-1"]}
        return {"run-1": {"gifts_3": state}}

    return SimpleNamespace(**ids, get_task_states=get_task_states)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("running", "its process or its worker got SIGTERM"),
        ("failed", "the task was marked failed while it ran"),
        ("success", "the task was marked success while it ran"),
        ("skipped", "dagrun_timeout"),
        ("up_for_retry", "Airflow took the task for dead"),
        ("restarting", "the task was cleared while it ran"),
        (None, "the task was cleared while it ran"),
    ],
)
def test_the_state_that_airflow_gave_the_task_says_who_stopped_it(state: str | None, words: str) -> None:
    assert words in stopped_by({"ti": states_as_airflow_3(state)})
    assert words in stopped_by({"ti": SimpleNamespace(current_state=lambda: state)})


def test_where_airflow_does_not_answer_who_stopped_the_task_is_not_guessed() -> None:
    def away() -> str:
        raise ConnectionError("the API server is away")

    assert "its process or its worker got SIGTERM" in stopped_by({"ti": SimpleNamespace(current_state=away)})
    assert "its process or its worker got SIGTERM" in stopped_by({})
