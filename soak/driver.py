"""The three phases, and the part of Airflow's scheduler that they need: start tries, retry, resume, clear."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.sandbox import Sandbox
from soak.kills import Interruption, Kind, draw, draw_crash
from soak.ledgers import LedgerDatabase
from soak.recipients import Batch, Warehouse
from soak.server_faults import ServerFaults
from soak.settings import ACCOUNT, POSTING_LEASE, RATE, SCOPE, SETTLE_TIME, TIMEOUT
from soak.task_process import Told
from soak.tries import Try

_AT_ONCE = 8
"""Tries that run at the same time; on two processors, more would mostly wait for each other."""

_OPEN = 24
"""Batches that are under way: more than run at once, because many wait for the lease of a try that was killed."""

_TICK = 0.02
_PATIENCE = 240.0
"""Seconds after which a batch has to be done once there are no more faults and interruptions."""


@dataclass
class Run:
    """
    A batch that the driver runs.

    :param batch: what it is to send.
    :param directory: of what its tries leave.
    :param state: what its last try ended in, as Airflow names it; empty until then.
    """

    batch: Batch
    directory: Path
    state: str = ""
    tries: int = 0
    due: float = 0.0
    next_method: str | None = None
    running: Try | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether Airflow would not try it again by itself."""
        return self.state in ("success", "failed")

    def conf(self, on_absent: str) -> dict[str, Any]:
        """
        Return the DAG run's ``conf``.

        :param on_absent: what a try does with a send that is proven absent.
        """
        return {
            "dedupe_scope": self.batch.dedupe_scope,
            "scope_max_sends": self.batch.scope_max_sends,
            "on_absent": on_absent,
        }


class Driver:
    """
    Runs batches, and interrupts their tries.

    :param sandbox: the server; it has to run.
    :param ledger: the ledger's database.
    :param directory: for everything that is written.
    :param chance: decides everything that is left to chance.
    """

    def __init__(self, sandbox: Sandbox, ledger: LedgerDatabase, directory: Path, chance: random.Random) -> None:
        self.runs: list[Run] = []
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._sandbox = sandbox
        self._directory = directory
        self._chance = chance
        self._warehouse = Warehouse(directory / "warehouse.db", chance)
        self._tries: list[tuple[Run, Try]] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        sendoso = {
            "conn_type": "sendoso",
            "host": sandbox.url,
            "login": "sandbox",
            "password": "sandbox",
            "extra": {"account": ACCOUNT, "requests_per_second": RATE, "timeout": TIMEOUT, "scope": SCOPE},
        }
        connections = {
            "SENDOSO_DEFAULT": sendoso,
            "SENDOSO_LEDGER": ledger.connection,
            "WAREHOUSE": self._warehouse.connection,
        }
        self._environment = {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in connections.items()}

    def warm_up(self) -> None:
        """Start the process that tries are forked from, which imports Airflow: once, and before time is taken."""
        self._open(Batch("warm-up", "warm-up", []))
        run = self.runs.pop()
        one = Try(Told(run.batch.run_id, 1, run.conf("hold"), run.directory, self._environment))
        while not one.is_over:
            time.sleep(_TICK)

    # -- the phases ------------------------------------------------------------------------------------------------

    def chaos(self, seconds: float) -> None:
        """
        Start batch after batch while the server has faults, and interrupt their tries.

        :param seconds: for how long.
        """
        faults = ServerFaults(self._sandbox, self._chance, seconds)
        batches = self._warehouse.batches()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            faults.step()
            self._step()
            if sum(not run.done for run in self.runs) < _OPEN and self._room() and not self._due(self.runs):
                self._open(next(batches))
            self._start(self.runs, "hold", lambda run: draw(self._chance))
            time.sleep(_TICK)
        faults.clear()
        self.counts |= Counter(faults=faults.faults, outages=faults.outages)
        self._let_everything_end()

    def calm(self) -> None:
        """Run every batch to its end, and look for sends of unknown outcome, without faults and interruptions."""
        for run in self.runs:
            if run.state == "failed":
                run.state = ""  # cleared
        self._finish(self.runs, "hold", lambda run: Interruption(Kind.NOTHING))
        self._let_everything_end()

    def settle(self) -> None:
        """
        Prove absent and send again what is held, which may leave room in a limit.

        The first try of each batch is to be killed on the way.
        """
        held = [run for run in self.runs if run.state == "failed"]
        before = {run.batch.run_id: run.tries for run in held}

        def interruption(run: Run) -> Interruption:
            again = run.tries - before[run.batch.run_id] > 1
            return Interruption(Kind.NOTHING) if again else draw_crash(self._chance)

        for run in held:
            run.state = ""
        self._finish(held, "resend", interruption)
        self._let_everything_end()

    def close(self) -> None:
        """Kill all processes, however the soak ends."""
        for _, one in self._tries:
            one.signal_supervisor(signal.SIGKILL)
            one.signal_task(signal.SIGKILL)
        self._tries.clear()

    # -- what a scheduler does -------------------------------------------------------------------------------------

    def _finish(self, runs: list[Run], on_absent: str, interruption: Callable[[Run], Interruption]) -> None:
        end = time.monotonic() + _PATIENCE
        while not all(run.done for run in runs) and time.monotonic() < end:
            self._step()
            self._start(runs, on_absent, interruption)
            time.sleep(_TICK)

    def _open(self, batch: Batch) -> None:
        directory = self._directory / batch.run_id
        directory.mkdir()
        self.runs.append(Run(batch, directory))

    def _start(self, runs: Iterable[Run], on_absent: str, interruption: Callable[[Run], Interruption]) -> None:
        """Start the tries that are due, as long as there is room."""
        for run in self._due(runs)[: self._room()]:
            run.tries += 1
            drawn = interruption(run)
            told = Told(
                run.batch.run_id,
                run.tries,
                run.conf(on_absent),
                run.directory,
                self._environment | {"SENDOSO_CRASH_POINT": drawn.crash_point},
                run.next_method,
            )
            run.next_method = None
            run.running = Try(told)
            self._tries.append((run, run.running))
            self.counts["tries"] += 1
            self._schedule(run, run.running, drawn)

    def _due(self, runs: Iterable[Run]) -> list[Run]:
        now = time.monotonic()
        due = [run for run in runs if not run.done and run.running is None and run.due <= now]
        return sorted(due, key=lambda run: run.due)

    def _room(self) -> int:
        return max(0, _AT_ONCE - sum(run.running is not None for run in self.runs))

    def _step(self) -> None:
        """Do what is due, and take in the tries that are over."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        for run, one in list(self._tries):
            # Read once, at the beginning, so that a try that ends in between is still concluded.
            is_over = one.is_over
            if run.running is one and (is_over or not one.supervised):
                # An orphan goes on, but Airflow has given it up.
                self._conclude(run, one)
            if is_over:
                self._tries.remove((run, one))
                self._take_in(run, one)

    def _conclude(self, run: Run, one: Try) -> None:
        """Decide what comes after a try as Airflow does."""
        facts = one.facts()
        run.running = None
        run.state = facts.get("state", "killed")
        run.due = time.monotonic() + self._chance.uniform(0.1, 2.0)
        if run.state == "deferred":
            # As long as the trigger may take at most.
            run.due = time.monotonic() + POSTING_LEASE + SETTLE_TIME + 1.0
            run.next_method = facts["next_method"]

    def _take_in(self, run: Run, one: Try) -> None:
        """Count how a try ended, and check that it has counted everybody."""
        facts = one.facts()
        self.counts["task kills"] += one.task_was_killed
        self.counts["crash points"] += one.task_was_killed and bool(one.told.environment["SENDOSO_CRASH_POINT"])
        self.counts["supervisor kills"] += one.supervisor_was_killed
        state = facts.get("state")
        summary = facts.get("summary")
        if summary is None:
            if state == "success":
                self.wrong.append(f"{run.batch.run_id} try {run.tries} succeeded without a summary")
            return
        self.counts["summaries"] += 1
        run.summary = summary
        counted = sum(summary[name] for name in RowOutcome)
        if not counted == summary["rows"] == len(run.batch.emails):
            self.wrong.append(f"{run.batch.run_id}: {len(run.batch.emails)} rows, but try {one.told.number}: {summary}")

    def _let_everything_end(self) -> None:
        """Start nothing more, and wait until no process is left: also those that are frozen wake up and end."""
        end = time.monotonic() + _PATIENCE
        while self._tries and time.monotonic() < end:
            self._step()
            time.sleep(_TICK)
        for run, one in self._tries:
            self.wrong.append(f"{run.batch.run_id} try {one.told.number} does not end")
        self.close()

    # -- interruptions --------------------------------------------------------------------------------------------

    def _schedule(self, run: Run, one: Try, interruption: Interruption) -> None:
        if interruption.kind in (Kind.NOTHING, Kind.CRASH):
            return
        # From the task's own start, which is some way after the supervisor's.
        self._when_started(one, lambda: self._at(interruption.after, lambda: self._interrupt(run, one, interruption)))

    def _when_started(self, one: Try, act: Callable[[], None]) -> None:
        if one.task is not None:
            act()
        elif one.supervised:
            self._at(_TICK, lambda: self._when_started(one, act))

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), act))

    def _interrupt(self, run: Run, one: Try, interruption: Interruption) -> None:
        if not one.supervised or "state" in one.facts():
            return  # too late, it was quicker
        match interruption.kind:
            case Kind.KILL:
                one.signal_task(signal.SIGKILL)
            case Kind.ORPHAN:
                one.signal_supervisor(signal.SIGKILL)
            case Kind.TERM:
                self.counts["terms"] += 1
                one.signal_supervisor(signal.SIGTERM)
            case Kind.STOP:
                self.counts["stops"] += 1
                one.signal_task(signal.SIGSTOP)
                self._at(interruption.lasts, lambda: one.signal_task(signal.SIGCONT))
            case Kind.FREEZE:
                self.counts["stops"] += 1
                self.counts["stops beyond the lease"] += interruption.lasts > POSTING_LEASE
                one.signal_supervisor(signal.SIGSTOP)
                one.signal_task(signal.SIGSTOP)
                self._at(interruption.lasts, lambda: self._continue(one))
                # No heartbeat any more: given up for dead.
                run.running = None
                run.due = time.monotonic() + self._chance.uniform(0.1, 0.7)

    def _continue(self, one: Try) -> None:
        one.signal_task(signal.SIGCONT)
        one.signal_supervisor(signal.SIGCONT)
