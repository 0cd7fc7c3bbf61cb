"""Campaign sends in an account with many old ones: how much of the Send Tracker's list has to be read to follow them.

In one run and against the same sandbox: a look at a batch of campaign sends, which ends where the list is older than
they are; the search for one whose answer was lost; and what one would write otherwise, a walk through the whole list:

    python benchmarks/campaigns.py --old 100000 --sends 200
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EGIFT = 102


def measure(what: str, sandbox: Any, work: Callable[[], Any]) -> dict[str, Any]:
    before, cpu, started = len(sandbox.requests), time.process_time(), time.monotonic()
    work()
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    pages = sum((r.method, r.path) == ("GET", "/api/v3/send") for r in sandbox.requests[before:])
    print(f"{what:45} {pages:6} requests {seconds:8.2f} s {cpu:8.2f} s CPU, sandbox included", flush=True)
    return {"requests": pages, "seconds": seconds}


def main(old: int, count: int) -> None:
    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
    from airflow_provider_sendoso.sandbox import Sandbox
    from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

    class TI:
        dag_id, task_id, run_id, map_index = "benchmark", "gifts", "run-1", -1

        def xcom_push(self, key: str, value: Any) -> None: ...

    with tempfile.TemporaryDirectory() as directory, Sandbox(step=1000, rate=0) as sandbox:
        os.environ["AIRFLOW_CONN_SENDOSO_LEDGER"] = json.dumps(
            {"conn_type": "sqlite", "host": str(Path(directory, "ledger.db"))}
        )
        os.environ["AIRFLOW_CONN_SENDOSO_DEFAULT"] = json.dumps(
            {
                "conn_type": "sendoso",
                "host": sandbox.url,
                "login": "sandbox",
                "password": "sandbox",
                "extra": {"requests_per_second": 1000},
            }
        )
        sandbox.preload(old, touch_ids=(101, EGIFT), spacing=60.0)

        def send(scope: str, people: int) -> None:
            recipients = [{"email": f"ada{number}@example.com"} for number in range(people)]
            batch = BatchSendOperator(task_id="gifts", recipients=recipients, touch_id=EGIFT, dedupe_scope=scope)
            batch.execute({"ti": TI()})

        send("q4", count)
        sensor = SendStatusSensor(task_id="arrived", dedupe_scope="q4", deferrable=False, poke_interval=0)
        print(f"{old} old sends, one a minute; {count} new ones\n")
        look = measure("a look at the batch", sandbox, lambda: sensor.poke({}))
        sandbox.fault("drop_after", method="POST", path="/api/v3/send")
        measure("a batch of one whose answer is lost, found", sandbox, lambda: send("lost", 1))
        whole = measure(
            "a walk through the whole list", sandbox, lambda: sum(1 for _ in SendosoHook().list_objects("send"))
        )
        print(f"\nThe look takes 1/{whole['requests'] / look['requests']:.0f} of the requests.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=int, default=100_000)
    parser.add_argument("--sends", type=int, default=200)
    arguments = parser.parse_args()
    main(arguments.old, arguments.sends)
