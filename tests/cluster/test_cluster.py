"""The parts of ``make cluster``, without the whole: its DAG, machines, servers, harms and verdict."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip("airflow.sdk", reason="The cluster is of Airflow 3")
import psycopg

from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.sandbox import Sandbox
from cluster import deployment, harms, run, services
from cluster.machines import Machine, have_namespaces
from cluster.settings import DAG_ID, FREEZE, HEARTBEAT_TIMEOUT, POSTING_LEASE, RATE, SHARDS
from cluster.verdict import about_results, about_traffic
from soak.recipients import Batch

SLEEPER = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
BATCH = Batch("run", "scope", [f"p{number}@example.com" for number in range(10)])


def test_its_dag_is_imported_and_has_mapped_shards_and_a_deferred_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(Path(deployment.__file__).with_name("dags"))
    assert bag.import_errors == {}
    dag = bag.dags[DAG_ID]
    assert dag.task_dict["gifts"].is_mapped
    assert len(dag.task_dict["gifts"].expand_input.value["parameters"]) == SHARDS
    assert dag.task_dict["shipped"].deferrable


def test_a_frozen_worker_sleeps_longer_than_the_heartbeats_time_out_and_all_leases() -> None:
    assert 2 * (HEARTBEAT_TIMEOUT + POSTING_LEASE) < FREEZE


def test_a_machine_sees_no_other_ones_files_and_its_whole_tree_is_frozen_and_killed(
    tmp_path: Path, until: Callable[..., None]
) -> None:
    first, second = (Machine(name, tmp_path, {}, {}) for name in ("first", "second"))
    (second.folder / "tmp" / "secret").touch()
    show = "import os; print(os.environ['TMPDIR'], os.environ['AIRFLOW_HOME'], flush=True); time.sleep(60)"
    first.launch([sys.executable, "-c", SLEEPER + show])
    try:
        until(lambda: len(first.processes()) == 2 and "first" in first.log.read_text())
        assert first.log.read_text().split() == [str(first.folder / "tmp"), str(first.folder / "airflow")]
        assert first.sees(second) is not have_namespaces()
        assert first.sees(first)
        assert first.signal(signal.SIGSTOP) == 2
        until(lambda: {process.status() for process in first.processes()} == {"stopped"})
    finally:
        assert first.kill() == 2
    assert first.processes() == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_ledgers_server_comes_back_behind_its_pooler_with_what_was_committed(tmp_path: Path, mode: str) -> None:
    tmp_path.chmod(0o755)
    with services.ledger(tmp_path / "ledger") as ledger:
        address = {"host": "127.0.0.1", "port": ledger.port, "user": "any", "dbname": "ledger"}
        with psycopg.connect(**address) as before:
            before.execute("CREATE TABLE kept (it int)")
            assert sum(ledger.clients().values()) == 1
        ledger.stop(mode)
        ledger.start()
        give_up = time.monotonic() + 60
        while True:  # the pooler takes some seconds until it tries again
            try:
                with psycopg.connect(**address) as after:
                    assert after.execute("SELECT count(*) FROM kept").fetchone() == (0,)
                    break
            except psycopg.OperationalError:
                assert time.monotonic() < give_up


def test_what_a_worker_has_not_acknowledged_is_put_into_its_queue_again(tmp_path: Path) -> None:
    redis = pytest.importorskip("redis", reason="The dependency group `cluster` is not installed (make cluster-group)")
    broker = services.Redis(tmp_path / "redis")
    try:
        services.wait_for_port(broker.port)
        with redis.Redis(port=broker.port) as client:
            client.hset("unacked", "tag", '[{"body": "task"}, "", "default"]')
            assert broker.deliver_again() == 1
            assert client.lrange("default", 0, -1) == [b'{"body": "task"}']
            broker.stop(signal.SIGTERM)
            broker.start()
            services.wait_for_port(broker.port)
            assert client.llen("default") == 1
    finally:
        broker.stop(signal.SIGKILL)


def test_where_there_is_no_redis_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(services.debian, "has_apt", lambda: False)
    with pytest.raises(services.ServiceError, match="install redis-server"):
        services.Redis(tmp_path / "redis")


class Recorder:
    """A deployment, its broker and its ledger in one, which write down what is done to them."""

    def __init__(self) -> None:
        self.done = Counter[str]()
        self.port = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            self.done[" ".join([name, *map(str, arguments)])] += 1
            return 1

        return note


class OneMachine(Recorder):
    """A machine with one task, until it is killed."""

    def processes(self) -> list[Any]:
        return []

    @property
    def sessions(self) -> list[Any]:
        return [type("Session", (), {"pid": 1})]


@pytest.mark.parametrize("seed", range(5))
def test_every_harm_is_done_and_everybody_is_up_again_at_the_end(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harms, "FREEZE", 0.05)
    monkeypatch.setattr(harms, "wait_for_port", lambda port: None)
    monkeypatch.setattr(harms.psutil, "Process", lambda pid: Recorder())
    monkeypatch.setattr(harms.Harms, "_tasks", lambda self, name: 1)
    monkeypatch.setattr(harms.Harms, "_pause", lambda self: 0.02)
    monkeypatch.setattr(harms.Harms, "_has_ledger", lambda self, name: True)
    airflow, broker, ledger = Recorder(), Recorder(), Recorder()
    sending = iter([False, False] + 1000 * [True])
    airflow.machines = {name: OneMachine() for name in (*deployment.WORKERS, *deployment.TRIGGERERS)}
    plan = harms.Harms(airflow, broker, ledger, lambda: next(sending), random.Random(seed), 0.2)
    give_up = time.monotonic() + 20
    while not plan.are_over:
        plan.step()
        assert time.monotonic() < give_up, plan.counts
    assert plan.counts["worker trees killed"] == 2
    assert plan.counts["workers frozen"] == 1
    assert plan.counts["workers told to end"] == 1
    assert plan.counts["triggerers killed"] == 2
    assert ledger.done == {"stop fast": 1, "stop immediate": 1, "start": 2}
    assert broker.done == {"stop 15": 1, "stop 9": 1, "start": 2, "deliver_again": 4}
    # The freeze and the end of its kill leave the machine up; whatever was killed was started again.
    started = sum(airflow.done[f"start_machine {name}"] for name in airflow.machines)
    assert started == 2 + 1 + 1 + 2
    frozen = sum(machine.done["signal 19"] for machine in airflow.machines.values())
    assert frozen == sum(machine.done["signal 18"] for machine in airflow.machines.values()) == 1


def summary(rows: int, **counts: int) -> dict[str, int]:
    return dict.fromkeys(RowOutcome, 0) | {"rows": rows, **counts}


@pytest.mark.parametrize(
    ("state", "result", "is_right"),
    [
        ("success", summary(4, sent=3, already_sent=1), True),
        ("success", summary(4, sent=3), False),
        ("success", summary(3, sent=3), False),
        ("success", summary(4, sent=1, not_reached=3), False),
        ("success", summary(4, sent=3, held=1), False),
        ("success", None, False),
        ("failed", summary(4, sent=3, held=1), True),
        ("failed", None, True),
    ],
)
def test_a_green_task_has_counted_all_of_its_rows_and_left_none_open(
    state: str, result: dict[str, int] | None, is_right: bool
) -> None:
    task = {"map_index": 0, "state": state, "try_number": 1}
    assert (about_results(BATCH, [(task, result)]) == []) is is_right


def test_more_requests_than_the_rate_and_a_token_too_many_are_wrong(sandbox: Sandbox) -> None:
    token = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
    requests.post(f"{sandbox.url}/oauth/token", json=token).raise_for_status()
    counts, wrong = about_traffic(sandbox, revocations=0)
    assert (counts["tokens issued"], wrong) == (1, [])
    with requests.Session() as session:
        for _ in range(10 * RATE):
            session.post(f"{sandbox.url}/oauth/token", json=token).raise_for_status()
    counts, wrong = about_traffic(sandbox, revocations=10 * RATE)
    assert counts["most in ten sliding seconds"] == 1 + 10 * RATE, "this machine is too slow for the test"
    assert [text.split()[0] for text in wrong] == ["RATE"]
    _, wrong = about_traffic(sandbox, revocations=10 * RATE - 1)
    assert [text.split()[0] for text in wrong] == ["RATE", "TOKENS"]


def test_the_run_is_made_of_these_parts() -> None:
    assert run.Cluster(Path(), 7).figures == {"seed": 7}
