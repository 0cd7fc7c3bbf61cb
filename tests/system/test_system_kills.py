"""
Whatever Airflow and its users do to a running task: no gift twice, no recipient lost.

One real Airflow, and a story for each thing that can happen. A story takes a minute, nearly all of it spent waiting
for Airflow or for a lease, so all that were selected are played at once, each with a DAG, a Sendoso and a ledger of
its own.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import psutil
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from buckets import FolderLedger
from live_airflow import LiveAirflow, Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]

SENDS = "/api/v3/sends"


def is_gone(process: psutil.Process) -> bool:
    """An orphan that nobody waits for stays as a zombie; it has ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- the stories: each is also the id of its DAG -------------------------------------------------------------------


def kill_with_two_in_flight(stage: Stage) -> str:
    """Kill the task while two gifts are accepted and not answered for."""
    stage.sandbox.clear_faults()
    stage.sandbox.fault("slow", times=4, method="POST", path=SENDS)
    stage.sandbox.fault("slow", times=2, method="POST", path=SENDS, delay=60.0)
    run_id = stage.trigger()
    task = stage.process(run_id)
    stage.wait_for_gifts(6)
    task.kill()
    return run_id


def task_is_killed(stage: Stage) -> None:
    """The sends in flight are found by their marks; the other rows of the dead try wait for its lease to lapse."""
    run_id = kill_with_two_in_flight(stage)

    assert stage.wait_for_end(run_id) == "success"
    assert stage.task(run_id)["try_number"] == 2
    stage.assert_everybody_has_one_gift(12)
    assert stage.counts(run_id) == {"sent": 12}
    assert stage.found() == 2


def task_is_killed_and_sends_cannot_be_listed(stage: Stage) -> None:
    """The sends in flight are held for a person or a later run; no try sends them again."""
    run_id = kill_with_two_in_flight(stage)
    stage.sandbox.fault("status", times=10**6, method="GET", path=SENDS, status=404)

    assert stage.wait_for_end(run_id) == "failed"
    assert stage.task(run_id)["try_number"] == 2  # not retried
    assert stage.counts(run_id) == {"sent": 10, "held": 2}
    assert stage.states() == {"SENT": 10, "HELD": 2}
    assert len(stage.sandbox.sends) == 12
    stage.sandbox.clear_faults()

    stage.clear(run_id)
    stage.wait_for_try(run_id, 3)
    assert stage.wait_for_end(run_id) == "success"
    stage.assert_everybody_has_one_gift(12)
    assert stage.counts(run_id) == {"sent": 12}
    assert stage.found() == 2


def supervisor_is_killed(stage: Stage) -> None:
    """The orphan goes on until its next log line fails without a supervisor; then it releases its claims."""
    run_id = stage.trigger()
    orphan = stage.process(run_id)
    stage.wait_for_gifts(4)
    orphan.parent().kill()

    stage.wait_until(lambda: is_gone(orphan), "the orphan has ended")
    gifts = len(stage.sandbox.sends)
    assert 4 <= gifts < 40
    assert stage.states() == {"SENT": gifts, "READY": 40 - gifts}
    stage.sandbox.clear_faults()

    assert stage.wait_for_end(run_id) == "success"
    assert stage.task(run_id)["try_number"] == 2
    stage.assert_everybody_has_one_gift(40)
    assert stage.counts(run_id) == {"sent": 40}
    assert stage.found() == 0


def machine_is_frozen_and_thaws_beside_the_next_try(stage: Stage) -> None:
    """A frozen process that counts as dead wakes up beside the next try, which has superseded it: it ends at once."""
    run_id = stage.trigger()
    old = stage.process(run_id)
    supervisor = old.parent()
    stage.wait_for_gifts(4)
    supervisor.suspend()
    old.suspend()

    frozen_at = len(stage.sandbox.sends)
    stage.wait_for_try(run_id, 2)
    stage.wait_for_gifts(frozen_at + 4)
    # First without its supervisor, which would find out that the task is not its own any more, and kill it.
    old.resume()
    assert not stage.is_over(run_id)
    assert stage.wait_for_end(run_id) == "success"
    supervisor.resume()
    stage.wait_until(lambda: is_gone(old), "the old process has ended")

    stage.wait_until(lambda: "A newer try of this task has begun" in stage.log(run_id, 1), "the old try's last words")
    assert stage.task(run_id)["state"] == "success"
    assert stage.task(run_id)["try_number"] == 2
    counts = stage.counts(run_id)
    held = counts.pop("held", 0)  # it may have frozen after the commit of POSTING and before the POST
    assert counts == {"sent": 40 - held}
    assert held <= 2, "no more than were in flight"
    assert len(stage.emails()) == len(set(stage.emails())) == 40 - held
    assert stage.states() == Counter(SENT=40 - held, HELD=held)


def task_is_cleared_while_it_runs(stage: Stage) -> None:
    """Airflow ends the old process in its own time, and starts a new one."""
    run_id = stage.trigger()
    old = stage.process(run_id)
    stage.wait_for_gifts(4)
    stage.clear(run_id)
    stage.wait_for_try(run_id, 2)
    assert stage.wait_for_end(run_id) == "success"
    assert is_gone(old)
    stage.assert_everybody_has_one_gift(24)
    assert stage.counts(run_id) == {"sent": 24}


def user_marks_it_failed(stage: Stage) -> None:
    """The task is told to stop before it is killed, and uses the time: nothing it posted is unknown."""
    run_id = stage.trigger()
    task = stage.process(run_id)
    stage.wait_for_gifts(4)
    stage.mark_failed(run_id)

    stage.wait_until(lambda: is_gone(task), "the task has ended")
    assert stage.wait_for_end(run_id) == "failed"
    gifts = len(stage.sandbox.sends)
    assert stage.states() == {"SENT": gifts, "READY": 40 - gifts}
    assert "Airflow has told this task to stop (SIGTERM)" in stage.log(run_id, 1)
    assert "was marked failed while it ran" in stage.log(run_id, 1)
    stage.sandbox.clear_faults()

    stage.clear(run_id)
    stage.wait_for_try(run_id, 2)
    assert stage.wait_for_end(run_id) == "success"
    stage.assert_everybody_has_one_gift(40)
    assert stage.counts(run_id) == {"sent": 40}
    assert stage.found() == 0


def runs_and_backfill_share_a_scope(stage: Stage) -> None:
    """Five runs claim at the same time; a late run finds that another has sent the gifts already."""
    stage.sandbox.clear_faults()
    stage.sandbox.fault("slow", times=10**6, method="POST", path=SENDS, delay=0.3)
    run_ids = [stage.trigger(), stage.trigger()]
    days = {"from_date": "2025-03-01T00:00:00Z", "to_date": "2025-03-03T00:00:00Z"}
    stage.airflow.api("POST", "backfills", dag_id=stage.dag_id, **days)

    runs = f"dags/{stage.dag_id}/dagRuns"
    run_ids += [
        run["dag_run_id"] for run in stage.airflow.api("GET", runs)["dag_runs"] if run["run_type"] == "backfill"
    ]
    assert len(run_ids) == 5
    for run_id in run_ids:
        assert stage.wait_for_end(run_id) == "success"
        assert stage.task(run_id)["try_number"] == 1
    stage.assert_everybody_has_one_gift(150)
    counts = [stage.counts(run_id) for run_id in run_ids]
    assert all(count.get("sent", 0) + count.get("already_sent", 0) == 150 for count in counts)
    assert sum(count.get("sent", 0) for count in counts) == 150
    assert stage.found() == 0


def execution_times_out(stage: Stage) -> None:
    """What is in flight is waited for, what is claimed is given back, and the summary is there before the next try."""
    run_id = stage.trigger()
    task = stage.process(run_id)
    stage.wait_for_gifts(4)
    # What Airflow's alarm sends when the time is out; nobody knows how far a busy machine has come by then.
    task.send_signal(signal.SIGALRM)
    stage.wait_until(lambda: stage.task(run_id)["state"] == "up_for_retry", "the time is out")
    first = stage.counts(run_id)
    gifts = len(stage.sandbox.sends)
    assert "AirflowTaskTimeout" in stage.log(run_id, 1)
    assert "The task's execution_timeout is over." in stage.log(run_id, 1)
    assert 0 < gifts < 80
    assert first == {"sent": gifts, "not_reached": 80 - gifts}
    states = stage.states()
    assert states["SENT"] == gifts
    assert states.keys() <= {"SENT", "READY"}
    stage.sandbox.clear_faults()

    assert stage.wait_for_end(run_id) == "success"
    stage.assert_everybody_has_one_gift(80)
    assert stage.counts(run_id) == {"sent": 80}
    assert stage.found() == 0


def task_gets_sigterm(stage: Stage) -> None:
    """On Airflow 3 nothing is raised in the task: it notices by itself, finishes what is in flight and fails."""
    run_id = stage.trigger()
    task = stage.process(run_id)
    stage.wait_for_gifts(4)
    task.terminate()

    stage.wait_until(lambda: is_gone(task), "the task has ended")
    gifts = len(stage.sandbox.sends)
    assert 4 <= gifts < 24
    stage.wait_until(lambda: "rows were not reached" in stage.log(run_id, 1), "the log says why it ended")
    assert "Airflow has told this task to stop (SIGTERM)" in stage.log(run_id, 1)
    assert "told to stop: its process or its worker got SIGTERM" in stage.log(run_id, 1)

    assert stage.wait_for_end(run_id) == "success"
    assert stage.task(run_id)["try_number"] == 2
    stage.assert_everybody_has_one_gift(24)
    assert stage.counts(run_id) == {"sent": 24}
    assert stage.found() == 0


def ledger_is_another_one(stage: Stage) -> None:
    """Airflow remembers which ledger the first try used; another one knows nothing of what that try has sent."""
    run_id = stage.trigger()
    task = stage.process(run_id)
    stage.wait_for_gifts(4)
    task.terminate()
    stage.wait_until(lambda: stage.task(run_id)["state"] == "up_for_retry", "the task waits for its next try")
    gifts = len(stage.sandbox.sends)
    right, wrong = stage.ledger.connection, stage.make_ledger().connection
    ledger = {"connection_id": f"{stage.dag_id}_ledger"}
    stage.airflow.api("PATCH", f"connections/{ledger['connection_id']}", **ledger, **wrong)

    assert stage.wait_for_end(run_id) == "failed"
    assert stage.task(run_id)["try_number"] == 2  # not retried
    assert "An earlier try of this task used the ledger" in stage.log(run_id)
    assert len(stage.sandbox.sends) == gifts < 24

    stage.airflow.api("PATCH", f"connections/{ledger['connection_id']}", **ledger, **right)
    stage.clear(run_id)
    stage.wait_for_try(run_id, 3)
    assert stage.wait_for_end(run_id) == "success"
    stage.assert_everybody_has_one_gift(24)
    assert stage.counts(run_id) == {"sent": 24}


def another_run_died_with_claims(stage: Stage) -> None:
    """What is free is posted first; then the worker's slot is free, until the dead run's claims have lapsed."""
    dead = stage.trigger()
    task = stage.process(dead)
    stage.wait_for_gifts(4)
    for process in (task.parent(), task):
        process.suspend()
    stage.mark_failed(dead)
    for process in (task.parent(), task):
        process.kill()
    claimed = stage.states()["CLAIMED"]
    stage.sandbox.clear_faults()

    run_id = stage.trigger()
    stage.wait_until(lambda: stage.task(run_id)["state"] == "up_for_reschedule", "the slot is given back")
    assert len(stage.sandbox.sends) == 60 - claimed
    assert stage.wait_for_end(run_id) == "success"
    assert stage.task(run_id)["try_number"] == 1
    stage.assert_everybody_has_one_gift(60)
    assert "The worker's slot is given back" in stage.log(run_id, 1)
    assert sum(stage.counts(run_id).values()) == 60


def send_never_arrived(stage: Stage) -> None:
    """Deferred until its absence is proven, then sent again."""
    stage.sandbox.clear_faults()
    stage.sandbox.fault("drop_before", method="POST", path=SENDS)
    run_id = stage.trigger()
    stage.wait_until(lambda: stage.task(run_id)["state"] == "deferred", "the task is deferred")
    assert stage.counts(run_id) == {"sent": 2, "held": 1}
    assert len(stage.sandbox.sends) == 2

    assert stage.wait_for_end(run_id) == "success"
    assert stage.task(run_id)["try_number"] == 1
    stage.assert_everybody_has_one_gift(3)
    assert stage.counts(run_id) == {"sent": 3}
    decided = stage.ask_ledger("SELECT from_state, to_state, resolved_by FROM sendoso_resolutions")
    assert decided == [("HELD", "READY", "reconcile")]


STORIES = (
    task_is_killed,
    task_is_killed_and_sends_cannot_be_listed,
    supervisor_is_killed,
    machine_is_frozen_and_thaws_beside_the_next_try,
    task_is_cleared_while_it_runs,
    user_marks_it_failed,
    runs_and_backfill_share_a_scope,
    execution_times_out,
    task_gets_sigterm,
    ledger_is_another_one,
    another_run_died_with_claims,
    send_never_arrived,
)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest,
    live_airflow: LiveAirflow,
    postgres_database: Callable[[], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[None]]]:
    """Every story that was selected, being played; each on an empty ledger of the kind that the test is for."""
    in_a_bucket = partial(tmp_path_factory.mktemp, "ledger")
    make_ledger = postgres_database if request.param == "postgresql" else lambda: FolderLedger(in_a_bucket())

    def play(story: Callable[[Stage], None]) -> None:
        with Stage(live_airflow, make_ledger, story.__name__, timeout=8) as here:
            # A gift is accepted at once and answered a second later, so that there is something in flight to be killed.
            here.sandbox.fault("slow", times=10**6, method="POST", path=SENDS, delay=1.0)
            story(here)
            here.delete_runs()  # a backfill of the next round would find its days done

    tests = [item.callspec.params for item in request.session.items if item.path == request.path]
    selected = [params["story"] for params in tests if params["played"] == request.param]
    with ThreadPoolExecutor(len(selected)) as threads:
        yield {story.__name__: threads.submit(play, story) for story in selected}


@pytest.mark.parametrize("played", ["postgresql", "bucket"], indirect=True)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_no_gift_is_sent_twice_and_no_recipient_is_lost_when(
    story: Callable[[Stage], None], played: dict[str, Future[None]]
) -> None:
    played[story.__name__].result()
