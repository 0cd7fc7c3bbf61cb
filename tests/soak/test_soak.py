"""A short soak test, and tests that its verdict finds duplicates and lost recipients."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine

from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.sandbox import Sandbox

pytest.importorskip(
    "airflow.dag_processing.dagbag",
    reason="The soak kills the supervisors and tasks of Airflow 3.3, and stands in for its execution API",
)
from soak.driver import Driver, Run
from soak.ledgers import LedgerDatabase
from soak.recipients import Batch as Invitations
from soak.settings import ACCOUNT
from soak.task_process import Told
from soak.verdict import judge

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("ledger", ["sqlite", "postgresql", "mysql", "bucket"])
def test_in_a_soak_no_recipient_gets_two_gifts_and_no_recipient_is_lost(ledger: str) -> None:
    for seconds in (20, 100):  # a busy machine needs longer for as much
        command = [sys.executable, "-m", "soak", "--seconds", str(seconds), "--ledger", ledger, "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
        output = done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"ledger"')]
        assert lines, output
        figures = json.loads(lines[0])
        assert figures["duplicates"] == 0, output
        assert figures["limits passed"] == 0, output
        assert figures["lost"] == 0, output
        assert done.returncode == 0, output
        if figures["kills"] >= 10 and figures["unknown"] > 0 and figures["accepted"] > 100 and _limited(figures):
            break
    assert figures["kills"] >= 10, "too few kills to say anything"
    assert figures["unknown"] > 0
    assert figures["accepted"] > figures["of these by a campaign"] > 30
    assert figures["of these of the marketplace"] > 0
    assert figures["of these by SmartSend"] > 0
    assert _limited(figures), "no limit was reached, or nobody was capped"


def _limited(figures: dict[str, int]) -> bool:
    return figures["limits used up"] > 0 and figures["rows that were capped"] > 0


class Dying:
    """A try that is over from the third look on."""

    def __init__(self, number: int) -> None:
        self.looks = 0
        self.task_was_killed = self.supervisor_was_killed = False
        self.told = Told("run", number, {}, Path(), {"SENDOSO_CRASH_POINT": ""})

    def facts(self) -> dict[str, str]:
        return {"state": "failed"}

    @property
    def supervised(self) -> bool:
        self.looks += 1
        return self.looks < 3

    @property
    def is_over(self) -> bool:
        return not self.supervised


@pytest.mark.parametrize("looked_at_before", [0, 1])
def test_a_try_that_dies_between_two_looks_is_followed_by_the_next(
    sandbox: Sandbox, tmp_path: Path, looked_at_before: int
) -> None:
    driver = Driver(sandbox, LedgerDatabase({}, ""), tmp_path, random.Random(1))
    one = Dying(1)
    one.looks = looked_at_before
    run = Run(Invitations("run", "scope", []), tmp_path, tries=1, running=one)
    driver._tries.append((run, one))
    while driver._tries:
        driver._step()
    assert run.running is None
    assert run.done


class World:
    """A server and a ledger that say about one recipient whatever a test has them say."""

    email = "ada@example.com"

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.database = LedgerDatabase({}, f"sqlite:///{directory}/ledger.db")
        self.ledger = Ledger(create_engine(self.database.url))

    def accept(self, times: int) -> str:
        """Have the server accept a gift for her, so many times; return the id of the first."""
        credentials = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
        token = requests.post(f"{self.sandbox.url}/oauth/token", json=credentials).json()["access_token"]
        send = {"gift_id": "gift-donation-trees", "first_name": "A", "last_name": "L", "email": self.email}
        for _ in range(times):
            requests.post(
                f"{self.sandbox.url}/api/v3/sends",
                json={"send": send | {"message": "Thanks"}},
                headers={"Authorization": f"Bearer {token}"},
            ).raise_for_status()
        return self.sandbox.sends[0].id if times else "send-none"

    def record(self, state: State, send_id: str | None, scope: str = "scope") -> None:
        """Have the ledger know this of her."""
        batch = Batch(f"b {scope}", ACCOUNT, scope, "email", "dag", "task", "run", -1)
        key = self.ledger.send_key(ACCOUNT, scope, self.email)
        claim = self.ledger.sends.claim(
            batch, "me", 60, [Wanted(key, "hash", Item("gift-donation-trees"), None, kind=Kind.GIFT)]
        )[key]
        assert isinstance(claim, Claim)
        self.ledger.sends.begin_post(claim, 60)
        self.ledger.sends.finish(claim, state, send_id=send_id)

    def judge(self, *scopes: str, most: int = 150) -> tuple[int, int, int]:
        """Return the numbers of duplicates, of lost recipients and of limits that were passed."""
        batches = [Invitations("run", scope, [self.email], most) for scope in scopes or ["scope"]]
        verdict = judge(self.sandbox, self.database, batches)
        return len(verdict.duplicates), len(verdict.lost), len(verdict.passed)


@pytest.mark.parametrize(
    ("accepted", "state", "known", "verdict"),
    [
        (1, State.SENT, True, (0, 0)),
        (0, State.REFUSED, False, (0, 0)),
        (0, State.HELD, False, (0, 0)),
        (1, State.HELD, False, (0, 0)),
        (2, State.SENT, True, (1, 0)),
        (0, State.SENT, True, (0, 1)),
        (1, State.SENT, False, (0, 1)),
        (1, State.REFUSED, False, (0, 1)),
        (0, State.READY, False, (0, 1)),
        (0, None, False, (0, 1)),
        (1, None, False, (0, 1)),
    ],
)
def test_the_verdict_counts_duplicates_and_lost_recipients(
    sandbox: Sandbox, tmp_path: Path, accepted: int, state: State | None, known: bool, verdict: tuple[int, int]
) -> None:
    world = World(sandbox, tmp_path)
    send_id = world.accept(accepted)
    if state is not None:
        world.record(state, send_id if known else None)
    assert world.judge() == (*verdict, 0)


@pytest.mark.parametrize(
    ("accepted", "state", "most", "verdict"),
    [
        (0, State.READY, 0, (0, 0, 0)),
        (0, None, 0, (0, 0, 0)),
        (0, None, 1, (0, 1, 0)),
        (0, State.SENT, 1, (0, 1, 0)),
        (1, State.READY, 1, (0, 1, 0)),
        (1, None, 0, (0, 1, 1)),
        (1, State.SENT, 0, (0, 0, 1)),
        (0, State.HELD, 0, (0, 0, 1)),
        (1, State.SENT, 1, (0, 0, 0)),
    ],
)
def test_the_verdict_finds_limits_that_were_passed_or_not_used_up(
    sandbox: Sandbox, tmp_path: Path, accepted: int, state: State | None, most: int, verdict: tuple[int, int, int]
) -> None:
    world = World(sandbox, tmp_path)
    send_id = world.accept(accepted)
    if state is not None:
        world.record(state, send_id)
    assert world.judge(most=most) == verdict


@pytest.mark.parametrize(
    ("accepted", "again", "verdict"),
    [
        (1, None, (0, 0, 0)),
        (1, State.READY, (0, 0, 0)),
        (1, State.REFUSED, (0, 0, 0)),
        (1, State.HELD, (0, 1, 0)),
        (2, State.SENT, (1, 0, 0)),
        (1, State.SENT, (0, 1, 0)),
    ],
)
def test_the_verdict_takes_one_gift_in_two_scopes_as_capped_and_two_as_a_duplicate(
    sandbox: Sandbox, tmp_path: Path, accepted: int, again: State | None, verdict: tuple[int, int, int]
) -> None:
    world = World(sandbox, tmp_path)
    world.record(State.SENT, world.accept(accepted))
    if again is not None:
        world.record(again, None, "again")
    assert world.judge("scope", "again") == verdict
