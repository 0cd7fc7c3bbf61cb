"""
Run the demo: ``make demo``, or ``python -m demo``.

A warehouse table of 25 people, the DAG ``dags_examples/champions_campaign.py`` in a real Airflow, and a local Sendoso
that takes the gifts. The DAG is run twice, and the second run sends nobody a second gift. ``make demo KILL=1`` instead
kills the task in the middle, with ``kill -9``, and tries it again, with a ledger and a Sendoso that are new each time.
With ``LEDGER=bucket`` the ledger is not in PostgreSQL but in a bucket, which is a folder here.
Everything it keeps is in ``.demo``.
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import Engine

from demo.people import fill_warehouse, read_people
from demo.report import Summary, read_ledger, table
from demo.services import ROOT, Airflow, DemoError, Interrupted, Postgres, Sandbox, Stop, postgres, sandbox

STEP = 1.5
"""Seconds from one status of a gift to the next; days in the real world."""

DAG_ID = "champions_campaign"

KILL_AFTER = 8
"""Gifts that Sendoso has received when the task is killed; with those on their way there are some more."""

_SILENCE = 30.0
"""Seconds without a new line after which the demo prints that it still waits."""


class Demo:
    """
    One run.

    :param directory: where everything is kept.
    :param kill: whether the task is killed in the middle and tried again.
    :param bucket: whether the ledger is in a bucket.
    """

    def __init__(self, directory: Path, *, kill: bool = False, bucket: bool = False) -> None:
        self._directory = directory
        self._kill = kill
        self._ledger = "killed_ledger" if kill else "ledger"
        self._folder = directory / "bucket" / self._ledger if bucket else None
        self._started = self._said = time.monotonic()
        self._stop = Stop()
        self._begun = False

    @property
    def log(self) -> Path:
        """The log file of all Airflow commands."""
        return self._directory / "airflow.log"

    def tail(self) -> str:
        """Return the last lines of this run's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:]) if self._begun else ""

    def run(self) -> None:
        """Start all services, run the DAG, print the outcome of every person, and stop the services."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(_alone(self._directory / "lock"))
            self.log.write_bytes(b"")
            self._begun = True
            server = stack.enter_context(postgres(self._directory / "postgres"))
            self._stop.check()
            with closing(server.database("warehouse")) as warehouse:
                fill_warehouse(warehouse)
            name = "killed" if self._kill else "sandbox"
            state = self._directory / f"{name}{'-bucket' if self._folder else ''}.jsonl"
            if self._kill:
                self._forget_ledger(server)
                state.unlink(missing_ok=True)
            if self._folder is None:
                server.database(self._ledger).close()
            place = "in PostgreSQL" if self._folder is None else f"in the folder {_shown(self._folder)}"
            self._say(f"A warehouse with {len(read_people())} people in the table champions; the ledger is {place}")
            sendoso = stack.enter_context(sandbox(state, STEP))
            self._stop.check()
            before = len(sendoso.state()["sends"])
            received = f"{before} gifts were received in earlier runs" if before else "no gifts were received yet"
            self._say(f"A local Sendoso runs on {sendoso.url}; {received}")
            airflow = self._airflow(server, sendoso)
            if self._kill:
                self._run_killed(airflow, server, sendoso)
                return
            succeeded = self._run_dag(airflow, sendoso)
            self._report(server, sendoso.state(), before)
            if not succeeded:
                raise DemoError("The DAG run failed.")
            received = len(sendoso.state()["sends"])
            if received > before:
                print("\nThe same again, to see that nobody is sent a second gift:\n", flush=True)
                self._run_again(airflow, server, sendoso, received)

    def _run_again(self, airflow: Airflow, server: Postgres, sendoso: Sandbox, before: int) -> None:
        if not self._run_dag(airflow, sendoso):
            raise DemoError("The second DAG run failed.")
        self._report(server, sendoso.state(), before, with_people=False)

    def _run_killed(self, airflow: Airflow, server: Postgres, sendoso: Sandbox) -> None:
        """Kill the task when some gifts are out, and try the same task instance again."""
        instance = ("demo.task_instance", DAG_ID, datetime.now(UTC).isoformat())
        out = 0

        def enough() -> bool:
            nonlocal out
            out = len(sendoso.state()["sends"])
            return out >= KILL_AFTER

        self._say(f"Airflow runs the DAG, which is killed when Sendoso has received {KILL_AFTER} gifts")
        if airflow.run(*instance, meanwhile=self._stop.check, killed=enough):
            raise DemoError("The DAG run was over before it could be killed.")
        if out < KILL_AFTER:
            raise DemoError("The DAG run failed.")
        out = len(sendoso.state()["sends"])
        self._say(f"kill -9: no process of the task is left, and {out} gifts are out")
        self._say("The retry: the same task again; what the dead one had claimed is free after a minute")
        succeeded = airflow.run(*instance, meanwhile=self._watch(sendoso))
        summary = self._report(server, sendoso.state(), 0)
        held = summary.count("held")
        if not succeeded and not held:
            raise DemoError("The retry failed.")
        more = len(sendoso.state()["sends"]) - out
        print(f"Killed     with {out} gifts out; the retry found them, and sent {more} more")
        if held:
            print(
                f"Held       {held}: the kill came between the note that it is posted and the POST, so nobody knows "
                "whether it went out; the task fails and names it, and a person decides (docs/held.md)"
            )

    def _airflow(self, server: Postgres, sendoso: Sandbox) -> Airflow:
        connections = {
            "warehouse": server.airflow_connection("warehouse"),
            "sendoso_ledger": self._ledger_connection(server),
            "sendoso_default": sendoso.airflow_connection(),
        }
        home = self._directory / "airflow"
        airflow = Airflow.at(home, self.log, connections, SENDOSO_POKE_INTERVAL="1")
        migrated = home / "migrated-to"
        if not migrated.exists() or migrated.read_text() != version("apache-airflow"):
            self._say("Airflow makes its database (only the first time)")
            if not airflow.run("airflow", "db", "migrate", meanwhile=self._stop.check):
                raise DemoError("Airflow could not make its database.")
            migrated.write_text(version("apache-airflow"))
        return airflow

    def _ledger_connection(self, server: Postgres) -> dict[str, Any]:
        if self._folder is None:
            return server.airflow_connection(self._ledger)
        return {"conn_type": "generic", "extra": {"ledger": f"file://{self._folder.resolve()}"}}

    def _forget_ledger(self, server: Postgres) -> None:
        if self._folder is None:
            server.empty_database(self._ledger)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ledger_engine(self, server: Postgres) -> Engine:
        if self._folder is not None:
            # Imported here, because they import Airflow, which takes seconds and logs what PostgreSQL's starter does.
            from obstore.store import LocalStore

            from airflow_provider_sendoso.ledger.bucket.engine import make_engine
            from airflow_provider_sendoso.ledger.bucket.objects import Bucket

            return make_engine(Bucket(LocalStore(self._folder), str(self._folder)))
        return create_engine(f"postgresql+psycopg://postgres@/{self._ledger}?host={server.socket_dir}")

    def _run_dag(self, airflow: Airflow, sendoso: Sandbox) -> bool:
        self._say(f"Airflow runs the DAG: airflow dags test {DAG_ID}")
        return airflow.run("airflow", "dags", "test", DAG_ID, meanwhile=self._watch(sendoso))

    def _watch(self, sendoso: Sandbox) -> Callable[[], None]:
        """Say what Sendoso has received, whenever that has changed."""
        seen, looked = sendoso.state()["counts"], time.monotonic()

        def watch() -> None:
            nonlocal seen, looked
            self._stop.check()
            if time.monotonic() - looked < 1:
                return
            looked = time.monotonic()
            counts = sendoso.state()["counts"]
            if counts != seen:
                seen = counts
                statuses = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
                self._say(f"Gifts received by Sendoso: {sum(counts.values())} ({statuses})")
            elif looked - self._said > _SILENCE:
                self._say(f"Airflow is still running; what it does is in {_shown(self.log)}")

        return watch

    def _report(self, server: Postgres, state: dict[str, Any], before: int, *, with_people: bool = True) -> Summary:
        summary = Summary.read(self.log.read_text(errors="replace"))
        if summary is None:
            raise DemoError("The batch did not get as far as its summary.")
        ledger = read_ledger(self._ledger_engine(server), summary.scope)
        sent = sum(state == "SENT" for state, _, _ in ledger.values())
        self._say("The DAG run is over")
        print()
        if with_people:
            print("\n".join(table(read_people(), summary, ledger, state["sends"])))
            print()
        print(f"Batch      {summary.counts}")
        print(
            f"Sendoso    {len(state['sends']) - before} gifts received in this run, {before} in earlier ones; "
            f"{state['duplicates']} people were sent the same gift twice"
        )
        if summary.count("already_sent"):
            print(
                f"Why        {summary.count('already_sent')} were already sent in scope {summary.scope!r}: the ledger "
                f"has {sent} recorded, so nobody was sent a second one"
            )
        print(f"Airflow    {_shown(self.log)}")
        return summary

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(f"{self._said - self._started:6.1f} s  {text}", flush=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Prevent a second demo in the same directory."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError("Another demo is running in this directory.") from None
        yield


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _fail(message: str, demo: Demo) -> int:
    if tail := demo.tail():
        print(f"\nThe end of {_shown(demo.log)}:\n\n{tail}", file=sys.stderr)
    print(f"\n{message} Everything was shut down.", file=sys.stderr)
    return 1


def main() -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Show the provider at work, on this machine.")
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo", help="where to keep everything")
    parser.add_argument("--bucket", action="store_true", help="keep the ledger in a bucket, which is a folder here")
    parser.add_argument("--kill", action="store_true", help="kill the task in the middle, and try it again")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # not every terminal can show every name
    arguments = parser.parse_args()
    demo = Demo(arguments.directory.resolve(), kill=arguments.kill, bucket=arguments.bucket)
    try:
        demo.run()
    except Interrupted as interrupted:
        print("\nStopped. Everything was shut down; the next run goes on where this one was.", file=sys.stderr)
        return 128 + interrupted.signal_number
    except DemoError as error:
        return _fail(str(error), demo)
    except Exception as error:
        return _fail(f"The demo failed with {type(error).__name__}: {error}.", demo)
    return 0


if __name__ == "__main__":
    sys.exit(main())
