"""Runs one try of a batch, in this process or in one that is killed, which has to import it from a module."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import requests

from airflow_provider_sendoso import crashpoints
from airflow_provider_sendoso.client import pace
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.models import RowOutcome
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, EgiftLinksOperator
from airflow_provider_sendoso.sandbox import Sandbox

SENDS = "/api/v3/sends"
SCOPE = "q4"


@dataclass
class Try:
    """How one try of a batch ended; two are equal if they counted and raised the same."""

    error: str
    counts: dict[str, int]
    raised: SendosoError | None = field(default=None, compare=False)


class FakeTI:
    """A task instance; one task sends in one scope, so another scope is another run's."""

    def __init__(self, run_id: str, scope: str = SCOPE) -> None:
        run_id = run_id if scope == SCOPE else f"{run_id} of {scope}"
        self.dag_id, self.task_id, self.run_id, self.map_index = "dag", "gifts", run_id, -1
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


def people(count: int) -> list[dict[str, Any]]:
    return [{"first_name": "Ada", "last_name": f"L{n}", "email": f"ada{n}@example.com"} for n in range(count)]


def posts(sandbox: Sandbox) -> int:
    return sum(request.method == "POST" and request.path == SENDS for request in sandbox.requests)


def sendoso_connection(sandbox: Sandbox, **extra: Any) -> dict[str, Any]:
    connection = {"conn_type": "sendoso", "host": sandbox.url, "login": "sandbox", "password": "sandbox"}
    return connection | {"extra": extra}


def batch(recipients: int | list[dict[str, Any]] = 5, **changes: Any) -> BatchSendOperator:
    """A batch to so many people; of links, if they have a table."""
    arguments: dict[str, Any] = {
        "recipients": people(recipients) if isinstance(recipients, int) else recipients,
        "gift_id": "gift-donation-trees",
        "message": "Thank you",
        "dedupe_scope": SCOPE,
        "claim_timeout": 60,
        "max_in_flight": 1,
    }
    if "links_table" in changes:
        links = {name: value for name, value in arguments.items() if name not in ("gift_id", "message")}
        return EgiftLinksOperator(task_id="gifts", **(links | changes))
    return BatchSendOperator(task_id="gifts", **(arguments | changes))


def one_try(
    recipients: int | list[dict[str, Any]] = 5, run_id: str = "run-1", method: str = "execute", **changes: Any
) -> Try:
    """Run one try of a batch, or with another ``method`` what Airflow calls after a deferral."""
    ti = FakeTI(run_id, changes.get("dedupe_scope", SCOPE))
    try:
        summary, error = getattr(batch(recipients, **changes), method)({"ti": ti}), None
    except SendosoError as raised:
        summary, error = ti.xcom["return_value"], raised
    assert sum(summary[outcome] for outcome in RowOutcome) == summary["rows"], "the counts do not add up"
    counts = {outcome.value: summary[outcome] for outcome in RowOutcome if summary[outcome]}
    return Try(type(error).__name__ if error else "", counts, error)


def die(connections: dict[str, dict[str, Any]], crash_point: str, changes: dict[str, Any], accepted: int = 0) -> None:
    """
    Run a try that is killed on its way; for a process of its own.

    :param accepted: how many sends Sendoso has before it is killed, of several that are posted at once.
    """
    _connect(connections)
    os.environ["SENDOSO_CRASH_POINT"] = crash_point
    importlib.reload(crashpoints)  # it reads the environment when it is imported
    # On a busy machine a slot can come too late to be used, and the next one passes the same points: they are counted.
    pace._STALE = 60.0
    if accepted:
        one_by_one(connections["sendoso_default"]["host"], accepted)
    one_try(**changes)


def one_by_one(url: str, accepted: int) -> None:
    """However slow the machine is: a POST reaches Sendoso before the next has its turn, and all do before the kill."""
    await_turn, turn, taken = SendosoSession.await_turn_to_send, threading.Lock(), itertools.count()

    def reached(count: int) -> None:
        while len(requests.get(f"{url}/sandbox/state", timeout=60).json()["sends"]) < count:
            time.sleep(0.01)

    def in_order(self: SendosoSession, *send: Any, **more: Any) -> None:
        with turn:
            reached(next(taken))
            return await_turn(self, *send, **more)

    def kill(pid: int, number: int) -> None:
        reached(accepted)
        os.kill(pid, number)

    SendosoSession.await_turn_to_send = in_order  # type: ignore[method-assign]
    crashpoints.os = SimpleNamespace(kill=kill, getpid=os.getpid)  # type: ignore[attr-defined]


def _connect(connections: dict[str, dict[str, Any]]) -> None:
    for conn_id, connection in connections.items():
        os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)


def go(connections: dict[str, dict[str, Any]], results: Any, run_id: str, changes: dict[str, Any]) -> None:
    """Run a try to its end, and hand back its counts; for a process of its own."""
    _connect(connections)
    tried = one_try(run_id=run_id, **changes)
    results.put((run_id, tried.error, tried.counts))


def read_on(connections: dict[str, dict[str, Any]]) -> None:
    """Read the marketplace without end; for a process that is killed."""
    _connect(connections)
    while True:
        list(SendosoHook().list_marketplace_products())
