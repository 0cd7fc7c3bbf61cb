"""A ledger in a bucket whose store answers after 50 ms, against one in SQLite: speed, requests, time to open.

The store is a folder behind a delay, so the figures are those of a store with that latency and nothing else. Run

    python benchmarks/bucket.py --sends 1000 --stored 100000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import batch

DELAY = 0.05
PUT, GET = 5.00 / 1e6, 0.40 / 1e6
"""USD for a request to Amazon S3 Standard (published, us-east-1); a list costs as much as a PUT."""

ROUND = 2.0
"""Seconds between two rounds of a wait: short, as a round asks for the same, whatever the interval."""


class Slow:
    """A store that answers after a while, and counts what it is asked for."""

    def __init__(self, bucket: Any, delay: float = DELAY) -> None:
        self._bucket, self._delay = bucket, delay
        self.where = bucket.where
        self.asked = Counter[str]()

    def create(self, name: str, body: bytes) -> bool:
        return bool(self._do("PUT", self._bucket.create, name, body))

    def read(self, name: str) -> bytes | None:
        found: bytes | None = self._do("GET", self._bucket.read, name)
        return found

    def read_all(self, names: Sequence[str]) -> list[bytes | None]:
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(self.read, names))

    def names(self, folder: str, after: str = "") -> list[str]:
        found: list[str] = self._do("LIST", self._bucket.names, folder, after)
        return found

    def modified(self, name: str) -> Any:
        return self._do("GET", self._bucket.modified, name)

    def _do(self, what: str, function: Any, *arguments: Any) -> Any:
        self.asked[what] += 1
        time.sleep(self._delay)
        return function(*arguments)

    def cost(self) -> float:
        return cost_of(self.asked)


def cost_of(asked: Counter[str]) -> float:
    return (asked["PUT"] + asked["LIST"]) * PUT + asked["GET"] * GET


@contextmanager
def slow_bucket() -> Iterator[Slow]:
    """Let every ledger that is opened be behind the delay."""
    from airflow_provider_sendoso.hooks import ledger_engine

    made: list[Slow] = []
    really = ledger_engine.open_bucket

    def open_slowly(*arguments: Any) -> Slow:
        made.append(Slow(really(*arguments)))
        return made[-1]

    ledger_engine.open_bucket = open_slowly
    try:
        yield made  # type: ignore[misc]
    finally:
        ledger_engine.open_bucket = really


def connection(folder: str) -> dict[str, Any]:
    return {"conn_type": "generic", "extra": {"ledger": f"file://{folder}"}}


def sends(count: int, rounds: int, directory: Path) -> None:
    """Compare the speed of a batch, by turns, and say what one costs in requests."""
    ratios, costs = list[float](), list[float]()
    for number in range(rounds):
        with batch.sandbox(0) as url, batch.ledger_of("sqlite", directory) as ledger:
            batch.ours(url, ledger, 100, 100_000, batch.WIDTH, "warm-up")
            of_sqlite = batch.ours(url, ledger, count, 100_000, batch.WIDTH, f"sqlite {number}")
        with batch.sandbox(0) as url, slow_bucket() as made:
            ledger = connection(f"{directory}/fast-{number}")
            batch.ours(url, ledger, 100, 100_000, batch.WIDTH, "warm-up")
            of_bucket = batch.ours(url, ledger, count, 100_000, batch.WIDTH, f"bucket {number}")
        asked = made[-1]
        ratios.append(of_sqlite / of_bucket)
        costs.append(asked.cost() / count * 100_000)
        row("as fast as it can, 16 in flight", f"{count / of_bucket:.1f} a second", f"{ratios[-1]:.2f} of SQLite")
        row("requests for a send", per_send(asked, count), f"{costs[-1]:.2f} USD for 100,000 sends")
    row("the same, median", "", f"{statistics.median(ratios):.2f} of SQLite")


def row(*cells: str) -> None:
    print("|", " | ".join(cells), "|", flush=True)


def per_send(asked: Slow, count: int) -> str:
    return ", ".join(f"{number / count:.3g} {what}" for what, number in sorted(asked.asked.items()))


def paced(count: int, directory: Path) -> None:
    with batch.sandbox(10) as url, slow_bucket() as made:
        spent = batch.ours(url, connection(f"{directory}/paced"), count, 10, None)
    cost = made[-1].cost() / count * 100_000
    row("at 10 a second", f"{count / spent:.2f} a second", f"{count / spent / 10:.3f} of the ceiling")
    row("requests for a send at that rate", per_send(made[-1], count), f"{cost:.2f} USD for 100,000 sends")


def stored(count: int, directory: Path) -> None:
    """Open a ledger with many sends, with and without a snapshot, and read a whole scope."""
    from obstore.store import LocalStore

    from airflow_provider_sendoso.ledger import Ledger
    from airflow_provider_sendoso.ledger.bucket import snapshots
    from airflow_provider_sendoso.ledger.bucket.engine import make_engine
    from airflow_provider_sendoso.ledger.bucket.objects import Bucket
    from airflow_provider_sendoso.ledger.records import Batch, Wanted
    from airflow_provider_sendoso.models import Item, Kind

    folder = f"{directory}/stored"
    where = Bucket(LocalStore(folder, mkdir=True), folder)
    ledger = Ledger(make_engine(where))
    of = Batch("b" * 32, "acme", "scope", "email", "dag", "task", "run", -1)
    ledger.sends.open_batch(of)
    for first in range(0, count, 50):
        keys = [ledger.identity.digest("key", str(number)) for number in range(first, min(count, first + 50))]
        wanted = [Wanted(key, key, Item("gift-mug"), None, email_hash=key, kind=Kind.GIFT) for key in keys]
        for claim in ledger.sends.claim(of, "owner", 60, wanted).values():
            assert not isinstance(claim, type(None))
    ledger._database.engine.dispose()

    def opens(what: str, every: int) -> None:
        snapshots.EVERY, before = every, snapshots.EVERY
        slow, began = Slow(where), time.monotonic()
        opened = Ledger(make_engine(slow))
        spent, cpu = time.monotonic() - began, time.process_time()
        states = opened.sends.states(dedupe_scope="scope")
        assert sum(states.values()) == count
        snapshots.EVERY = before
        row(f"{what}, {count:,} sends", f"{spent:.1f} s", per_send(slow, 1))
        row(f"count a scope of {count:,}", f"{time.process_time() - cpu:.2f} s of a processor", "")

    opens("open it from the log alone", 10**9)
    opens("open it, and make a snapshot", 1)
    opens("open it from a snapshot", 10**9)


async def rounds_of(given: dict[str, Any], made: list[Slow], count: int) -> list[Counter[str]]:
    """Wait as a triggerer does, and count what each of the first rounds asks the store for."""
    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger

    rounds, over = list[Counter[str]](), asyncio.Event()

    class Counted(SendStatusTrigger):
        async def _round(self, *arguments: Any) -> None:
            await super()._round(*arguments)
            rounds.append(sum((store.asked for store in made), Counter()))
            if len(rounds) == count:
                over.set()

    hook = SendosoHook()
    await hook.aprepare()
    await asyncio.to_thread(hook.session.token)
    await asyncio.to_thread(hook.ledger.cursors.read, "")
    before = sum((store.asked for store in made), Counter[str]())
    trigger = Counted(deadline=time.time() + 86_400, poke_interval=ROUND, **given)
    waiting = asyncio.create_task(anext(trigger.run()))
    await over.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return [after - earlier for earlier, after in pairwise([before, *rounds])]


def waits(count: int, directory: Path) -> None:
    """Count what a round of a wait asks the store for, and what that makes in a day."""
    import wait

    from airflow_provider_sendoso.hooks import connections
    from airflow_provider_sendoso.sandbox import Sandbox

    ids = wait.fill(directory / "open", count)
    with Sandbox(rate=wait.RATE, step=10**6, state=directory / "open") as sandbox, slow_bucket() as made:
        sendoso = {"conn_type": "sendoso", "host": sandbox.url, "login": "sandbox", "password": "sandbox"}
        os.environ["AIRFLOW_CONN_SENDOSO_DEFAULT"] = json.dumps(sendoso)
        os.environ["AIRFLOW_CONN_SENDOSO_LEDGER"] = json.dumps(connection(f"{directory}/waits"))
        connections._ledgers.clear()
        wait.record(ids)
        one = asyncio.run(rounds_of({"send_ids": ids[:1]}, made, 3))
        many = asyncio.run(rounds_of({"batch_id": "bench"}, made, 3))
    a_day = round(86_400 / wait.POKE)
    # The store's clock is measured every ten minutes, with an object and a look at it.
    clock = Counter({"PUT": 144, "GET": 144})
    for what, found in (
        ("a round of a wait, for one send that is due", one[-1]),
        (f"a round of a wait, for {count:,} sends that are due", many[0]),
        (f"a round of a wait, for {count:,} sends of which none is due", many[-1]),
    ):
        day = Counter({kind: a_day * number for kind, number in found.items()}) + clock
        row(what, listed(found), f"a day of such rounds: {listed(day)}, {cost_of(day):.3f} USD")
    looks = Counter({"GET": round(86_400 / wait.LOOK)})
    row("a day's looks for webhooks, of one triggerer", listed(looks), f"{cost_of(looks):.3f} USD")


def listed(asked: Counter[str]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in sorted(asked.items())) or "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sends", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paced-sends", type=int, default=300)
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--open", type=int, default=10_000, help="sends that a wait follows")
    parser.add_argument("--waits-only", action="store_true", help="leave out everything but the waits")
    arguments = parser.parse_args()
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    print("| what | figure | |", "|---|---|---|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        waits(arguments.open, Path(directory))
        if arguments.waits_only:
            return
        paced(arguments.paced_sends, Path(directory))
        sends(arguments.sends, arguments.rounds, Path(directory))
        stored(arguments.stored, Path(directory))


if __name__ == "__main__":
    main()
