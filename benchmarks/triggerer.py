"""A thousand deferred sensors of one connection in a real triggerer: one token request, and the pace kept.

Runs ``airflow standalone`` (scheduler, triggerer, PostgreSQL for the metadata) with the Airflow of this environment:

    python benchmarks/triggerer.py --triggers 1000 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Any

import live

SETTLED = 500
"""Requests that the triggerer has made before it is counted: by then all triggers are running."""

DAG = """
import time
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow.triggers.base import StartTriggerArgs

class Wait(BaseOperator):
    # Deferred by the scheduler itself: a worker process for each of a thousand sensors would take half an hour.
    start_from_trigger = True

    def __init__(self, *, send_id, **kwargs):
        super().__init__(**kwargs)
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="{trigger_cls}", trigger_kwargs={trigger_kwargs}, next_method="execute_complete"
        )

    def execute_complete(self, context, event=None):
        print(event)

with DAG("waiting", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks={triggers}) as dag:
    for number in range({triggers}):
        Wait(task_id=f"wait_{{number}}", send_id="{send_id}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triggers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to count with all of them waiting")
    parser.add_argument("--control", action="store_true", help="Airflow's own timer instead of ours, for comparison")
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds for all of them to be deferred")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="triggerer-"))
    home.chmod(0o755)
    os.environ["AIRFLOW_HOME"] = str(home)

    import requests

    from airflow_provider_sendoso.sandbox import Sandbox

    with Sandbox(rate=10, step=10**6) as sandbox:
        credentials = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
        token = requests.post(f"{sandbox.url}/oauth/token", json=credentials, timeout=10).json()["access_token"]
        recipient = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
        send = requests.post(
            f"{sandbox.url}/api/v3/sends",
            json={"send": {"gift_id": "gift-egift-coffee", "message": "Thank you.", **recipient}},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        ).json()["send"]
        ours = len(sandbox.requests)
        source = DAG.format(triggers=arguments.triggers, send_id=send["id"], **trigger(arguments.control))
        capacity = {"AIRFLOW__TRIGGERER__CAPACITY": "2000", "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "2000"}
        with live.airflow(home, source, sandbox.url, **capacity) as running:
            running.trigger("waiting")
            started = time.monotonic()
            wait_for_triggers(running, arguments.triggers, started + arguments.patience)
            if arguments.control:
                time.sleep(SETTLED / 10)
            while not arguments.control and len(sandbox.requests) - ours < SETTLED:
                if time.monotonic() > started + arguments.patience:
                    raise RuntimeError("the triggerer asked nothing in time")
                time.sleep(0.5)
            deferred_after = time.monotonic() - started
            counted_from = time.monotonic()
            time.sleep(arguments.seconds)
            everything = sandbox.requests[ours:]
            counted = [r for r in everything if r.received_at >= counted_from]
            print(
                json.dumps(
                    {
                        "airflow": airflow_version(),
                        "trigger": "Airflow's DateTimeTrigger" if arguments.control else "SendStatusTrigger",
                        "triggers": arguments.triggers,
                        "waiting after s": round(deferred_after),
                        "token requests": sum(r.path == "/oauth/token" for r in everything),
                        "while starting": figures(everything[: len(everything) - len(counted)], deferred_after),
                        "while waiting": figures(counted, arguments.seconds),
                        "loop blocked warnings": running.log.count("async thread was blocked"),
                        "triggerer": triggerer_usage(running.pid),
                    },
                    indent=2,
                )
            )


def trigger(control: bool) -> dict[str, str]:
    """Which trigger, and its arguments as source."""
    if control:
        from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

        moment = "__import__('pendulum').now('UTC').add(days=1)"
        module = TimeDeltaTrigger.__module__
        return {"trigger_cls": f"{module}.DateTimeTrigger", "trigger_kwargs": f"dict(moment={moment})"}
    ours = f"dict(send_ids=[send_id], poke_interval=30.0, deadline={time.time() + 86_400})"
    return {"trigger_cls": "airflow_provider_sendoso.triggers.sendoso.SendStatusTrigger", "trigger_kwargs": ours}


def figures(requests: list[Any], seconds: float) -> dict[str, Any]:
    return {
        "requests": len(requests),
        "per second": round(len(requests) / seconds, 2),
        "peak in 1 s": peak([request.received_at for request in requests]),
        "statuses": dict(Counter(str(request.status) for request in requests)),
    }


def airflow_version() -> str:
    from importlib.metadata import version

    return version("apache-airflow")


def wait_for_triggers(running: live.Live, wanted: int, deadline: float) -> None:
    said = 0.0
    while time.monotonic() < deadline:
        (found,) = running.query("SELECT count(*) FROM task_instance WHERE dag_id = 'waiting' AND state = 'deferred'")
        if found >= wanted:
            return
        if time.monotonic() - said > 30:
            said = time.monotonic()
            print(f"{found} deferred", file=sys.stderr, flush=True)
        time.sleep(1)
    raise RuntimeError(f"only {found} tasks were deferred in time")


def triggerer_usage(group: int) -> dict[str, float]:
    """Memory and processor time of the group's process that has used most, among those named triggerer."""
    import psutil

    def usage(process) -> tuple[float, float]:
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss / 2**20

    # Airflow's, not this script, which has the sandbox in it.
    mine = os.getpid()
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "triggerer" in " ".join(process.info["cmdline"] or []) and process.pid != mine
    ]
    if not found:
        return {}
    cpu, memory = max(usage(process) for process in found)
    return {"cpu s": round(cpu, 1), "memory MiB": round(memory)}


def peak(at: list[float]) -> int:
    at = sorted(at)
    return max((bisect_left(at, moment + 1.0) - index for index, moment in enumerate(at)), default=0)


if __name__ == "__main__":
    main()
