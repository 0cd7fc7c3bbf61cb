"""
Real processes for the tests: ``python crew.py`` reads plans on stdin, forks a process per job, prints what came of it.

The provider is imported once, before forking and before there is any thread, so that sixty-four processes cost
little more than one; engines, sessions and managers are each process's own.

A plan is one line of JSON, a list of stages, run one after the other; a stage is a list of jobs, which start together
at a barrier.
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg  # noqa: F401  (here, so that not each process spends its time on it)
import pymysql  # noqa: F401
from sqlalchemy import create_engine
from sqlalchemy.dialects.mysql import pymysql as _mysql  # noqa: F401

with suppress(ImportError):  # SQLAlchemy 1.4 has psycopg2's
    from sqlalchemy.dialects.postgresql import psycopg as _dialect  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[1]))
from buckets import folder_engine

from airflow_provider_sendoso import crashpoints
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import gift_send_request, me_request
from airflow_provider_sendoso.client.pace import POLL_SHARE, SPACING
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.models import GiftSend

PATIENCE = 300.0

logging.disable(logging.WARNING)  # Airflow logs to stdout, where the results go


def ledger_of(job: dict[str, Any], **options: Any) -> Ledger:
    """Open the ledger of a job."""
    url = job["ledger_url"]
    if url.startswith("file://"):
        return Ledger(folder_engine(url))
    return Ledger(create_engine(url, hide_parameters=True, **options))


def open_session(job: dict[str, Any]) -> SendosoSession:
    """Build what the hook builds, without the hook."""
    config = ClientConfig.from_connection("crew", schema=None, port=None, **job["connection"])
    ledger = ledger_of(job, pool_pre_ping=True)
    store = ledger.tokens(config.identity, config.client_secret.get_secret_value())
    pace = ledger.pace(config.account, SPACING / config.requests_per_second, POLL_SHARE)
    pace.notes = []  # type: ignore[attr-defined]
    for question in ("queue", "reserve"):
        setattr(pace, question, noting(pace.notes, question, getattr(pace, question)))  # type: ignore[attr-defined]
    return SendosoSession(config, store, pace)


def noting(notes: list[Any], question: str, ask: Callable[..., float]) -> Callable[..., float]:
    """Record when a pace was asked, when it answered, and the moment of its slot or one just after."""

    def asked(**arguments: Any) -> float:
        before = time.monotonic()
        wait = ask(**arguments)
        notes.append((question, before, time.monotonic(), before + wait))
        return wait

    return asked


def used(session: SendosoSession) -> dict[str, Any]:
    """Return what was noted of the last slot, and of its turn in the queue if it was a poll's; forget the others."""
    last = {question: rest for question, *rest in session.pace.notes}  # type: ignore[attr-defined]
    session.pace.notes.clear()  # type: ignore[attr-defined]
    return last


def token(job: dict[str, Any]) -> dict[str, Any]:
    """Ask for a token."""
    session = open_session(job)
    yield_start(job)
    try:
        return {"token": session.token()}
    except SendosoError as error:
        return {"error": type(error).__name__, "message": str(error)}


def send(job: dict[str, Any]) -> dict[str, Any]:
    """Send one gift after the other, as a batch does, for some seconds."""
    session = open_session(job)
    yield_start(job)
    recipient = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
    statuses, slots = [], []
    end = time.monotonic() + job["seconds"]
    while time.monotonic() < end:
        gift = GiftSend.model_validate({"gift_id": "gift-donation-trees", "recipient": recipient, "message": "Thanks"})
        statuses.append(session.paced(gift_send_request(gift), session.token()).status)
        slots.append(used(session))
    return {"statuses": statuses, "slots": slots}


def poll(job: dict[str, Any]) -> dict[str, Any]:
    """Read one thing after the other for some seconds; return how long each took."""
    session = open_session(job)
    yield_start(job)
    time.sleep(job.get("after", 0.0))
    waits, slots = [], []
    end = time.monotonic() + job["seconds"]
    while (started := time.monotonic()) < end:
        session.read(me_request())
        waits.append(time.monotonic() - started)
        slots.append(used(session))
    return {"waits": waits, "slots": slots}


def reserve(job: dict[str, Any]) -> dict[str, Any]:
    """Take slots of a pace, without waiting for them; return the moments at which they come up."""
    ledger = ledger_of(job)
    pace = ledger.pace(job["account"], job["interval"], POLL_SHARE)
    yield_start(job)
    waits = ((pace.reserve(poll=False), time.time()) for _ in range(job["slots"]))
    return {"slots": [now + wait for wait, now in waits]}


def open_ledger(job: dict[str, Any]) -> dict[str, Any]:
    """Open the ledger; return its identity."""
    yield_start(job)
    return {"uuid": ledger_of(job).identity.ledger_uuid}


JOBS = {function.__name__: function for function in (token, send, poll, reserve, open_ledger)}
_barrier: Any = None


def yield_start(job: dict[str, Any]) -> None:
    """Wait until every process of the stage is ready."""
    _barrier.wait(300)


def work(job: dict[str, Any], result: Path) -> None:
    if "crash_point" in job:
        os.environ["SENDOSO_CRASH_POINT"] = job["crash_point"]
        importlib.reload(crashpoints)  # it reads the environment when it is imported
    result.write_text(json.dumps(JOBS[job["job"]](job)))


def run(plan: list[list[dict[str, Any]]], directory: str) -> list[list[dict[str, Any]]]:
    global _barrier
    context = multiprocessing.get_context("fork")
    outcomes: list[list[dict[str, Any]]] = []
    for number, stage in enumerate(plan):
        _barrier = context.Barrier(len(stage))
        results = [Path(directory, f"{number}-{index}.json") for index in range(len(stage))]
        crew = [context.Process(target=work, args=pair, daemon=True) for pair in zip(stage, results, strict=True)]
        for process in crew:
            process.start()
        for process in crew:
            process.join(PATIENCE)
            process.kill()  # nothing, where it has ended
            process.join()
        outcomes.append(
            [
                {"exitcode": process.exitcode, **(json.loads(path.read_text()) if path.exists() else {})}
                for process, path in zip(crew, results, strict=True)
            ]
        )
    return outcomes


def main() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as directory:
            print(json.dumps(run(json.loads(line), directory)), flush=True)


if __name__ == "__main__":
    main()
