"""Functions that the tests run in other processes, which have to import them from a module."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from buckets import folder_address, folder_engine
from slots import note_slots
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.client.endpoints import me_request
from airflow_provider_sendoso.exceptions import SendosoError, SendosoLedgerError, SendosoLimitError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.bucket import snapshots
from airflow_provider_sendoso.ledger.bucket.objects import Bucket
from airflow_provider_sendoso.ledger.database import Database
from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
from airflow_provider_sendoso.ledger.schema import cursors
from airflow_provider_sendoso.ledger.spending import Capped, Fit
from airflow_provider_sendoso.models import Item, Kind
from airflow_provider_sendoso.models.spending import Price, SpendingLimits
from airflow_provider_sendoso.operators import sendoso as operators
from airflow_provider_sendoso.runs import base as run
from airflow_provider_sendoso.sending import posting


class FakeTI:
    """The part of a task instance that the operators use."""

    def __init__(self, run_id: str = "run-1", task_id: str = "gifts") -> None:
        self.dag_id, self.task_id, self.run_id, self.map_index = "campaign", task_id, run_id, -1
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


def ledger_url(connection: dict[str, Any]) -> str:
    """The URL of a ledger that a test has set as an Airflow connection."""
    if address := folder_address(connection):
        return address
    if connection["conn_type"] == "sqlite":
        return f"sqlite:///{connection['host']}"
    if connection["conn_type"] == "mysql":
        return f"mysql+pymysql://{connection['login']}@localhost/{connection['schema']}?unix_socket={connection['extra']['unix_socket']}"
    return f"postgresql://{connection['login']}@/{connection['schema']}?host={connection['host']}"


def open_ledger(url: str) -> Ledger:
    if url.startswith("file://"):
        return Ledger(folder_engine(url))
    return Ledger(create_engine(url, hide_parameters=True))


def people(count: int) -> list[dict[str, Any]]:
    """Recipients who need no postal address."""
    return [
        {"first_name": f"Ada{n}", "last_name": f"Lovelace{n}", "email": f"ada{n}@example.com"}
        for n in range(1, count + 1)
    ]


def run_together(barrier: Any, results: Any, number: int, function: Callable[..., Any], arguments: Any) -> None:
    barrier.wait(60)
    try:
        results.put((number, function(*arguments)))
    except Exception as error:
        results.put((number, error))


# -- what they run ---------------------------------------------------------------------------------------------------


def bind(url: str, send_key: str, bound_id: str) -> bool:
    """Return whether this process has bound the send; the database may refuse the second of two at once."""
    try:
        return open_ledger(url).bindings.bind(send_key, bound_id)
    except SendosoLedgerError:
        return False


def ledger_uuid(url: str) -> str:
    return open_ledger(url).identity.ledger_uuid


def write_cursor(url: str, version: int, text: str) -> bool:
    return open_ledger(url).cursors.write("a", version, text)


def open_as_a_reader(url: str) -> str:
    """Open a ledger as a user who may not write to its file; return the error."""
    if os.getuid() == 0:
        os.setuid(65534)
    Database.run.__defaults__ = (0.2, None)
    try:
        return open_ledger(url).identity.ledger_uuid
    except SendosoError as error:
        return f"{type(error).__name__}: {error}"


def claim_everything(url: str, owner: str, keys: Sequence[str]) -> list[str]:
    """Claim keys in a random order, a few at a time; return those that this process has got."""
    ledger = open_ledger(url)
    batch = Batch(owner, "account", "scope", "email", "dag", "task", owner, -1)
    keys = random.sample(keys, len(keys))
    had: list[str] = []
    for start in range(0, len(keys), 10):
        wanted = [Wanted(key, "payload", Item("gift"), None, kind=Kind.GIFT) for key in keys[start : start + 10]]
        found = ledger.sends.claim(batch, owner, 60, wanted)
        had += [key for key, claim in found.items() if isinstance(claim, Claim)]
    return had


def resolve(url: str, key: str, person: str) -> bool:
    """Decide about a send that was just read; return whether this decision was recorded."""
    ledger = open_ledger(url)
    record = ledger.sends.read([key])[key]
    return ledger.resolutions.resolve(record, State.SENT, resolved_by=person, why="looked", send_id="id-1")


def reserve_slots(url: str, account: str, interval: float, count: int) -> list[float]:
    """Take slots as fast as they are given; return the moments at which they come up."""
    pace = open_ledger(url).pace(account, interval, 5)
    slots = []
    for _ in range(count):
        wait = pace.reserve(poll=False)
        slots.append(time.monotonic() + wait)
    return slots


def token(connections: dict[str, dict[str, Any]]) -> str:
    _set(connections)
    return SendosoHook().session.token()


def read(connections: dict[str, dict[str, Any]], count: int) -> list[float]:
    """Read from Sendoso, as sensors do, as fast as is allowed; return the slot of each, or a moment just before it."""
    _set(connections)
    session = SendosoHook().session
    slots, used = note_slots(session.pace), []
    for _ in range(count):
        assert session.read(me_request()).status == 200
        used.append(slots[-1])  # those before it came up too late
    return used


def send_batch(
    connections: dict[str, dict[str, Any]], run_id: str, recipients: list[dict[str, Any]], lease: float = 60
) -> tuple[str, dict[str, Any]]:
    """
    Run a batch as Airflow would run its task; return the name of the error, or "", and the summary.

    :param lease: seconds, shorter than the operator lets users have it, so that tests need not wait.
    """
    _set(connections)
    run._SHORTEST_LEASE, posting._MARGIN = 0.1, 0.1
    ti = FakeTI(run_id)
    operator = operators.BatchSendOperator(
        task_id=ti.task_id,
        recipients=recipients,
        gift_id="gift-donation-trees",
        message="Thank you",
        dedupe_scope="campaign",
        lease=lease,
        claim_timeout=60,
        max_in_flight=4,
    )
    try:
        return "", operator.execute({"ti": ti})
    except SendosoError as error:
        return type(error).__name__, ti.xcom.get("return_value", {})


def _set(connections: dict[str, dict[str, Any]]) -> None:
    for conn_id, connection in connections.items():
        os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)


def use_up(url: str, keys: Sequence[str], limits: dict[str, Any], price: str, seed: int) -> None:
    """Claim and post sends until a limit is reached; some are refused, some are not received, some never answered."""
    ledger, chance = open_ledger(url), random.Random(seed)
    batch = Batch(f"batch-{seed}", "account", "q4", "email", "dag", "task", f"run-{seed}", -1)
    fit = Fit(SpendingLimits(**limits), Price(Decimal(price), "USD"), {})
    for key in keys:
        wanted = Wanted(key, "payload", Item("gift"), None, email_hash=key, kind=Kind.GIFT)
        claim = ledger.sends.claim(batch, f"owner-{seed}", 60, [wanted])[key]
        assert isinstance(claim, Claim)
        try:
            assert ledger.sends.begin_post(claim, 60, fit=fit)
        except SendosoLimitError:
            ledger.sends.release(claim.owner)
            return
        outcome = chance.random()
        if outcome < 0.3:
            assert ledger.sends.post_again(claim, 60)
        elif outcome < 0.6:
            assert ledger.sends.finish(claim, State.REFUSED, reason="http_422")
        elif outcome < 0.7:
            assert ledger.sends.finish(claim, State.UNKNOWN, reason="http_500")
        else:
            assert ledger.sends.finish(claim, State.SENT, send_id=key)


def send_to_one_person(url: str, scopes: Sequence[str], first_limit: bool) -> list[str]:
    """Begin to post a gift to the same person in each scope; return what became of each, as one word."""
    ledger, found = open_ledger(url), []
    for scope in scopes:
        batch = Batch(f"batch-{scope}", "account", scope, "email", "dag", "task", "run", -1)
        wanted = Wanted(f"key of {scope}", "payload", Item("gift"), None, email_hash="ada", kind=Kind.GIFT)
        (claim,) = ledger.sends.claim(batch, scope, 60, [wanted]).values()
        assert isinstance(claim, Claim)
        limits = SpendingLimits(max_sends_per_day=1) if first_limit else SpendingLimits(min_days_between_gifts=90)
        try:
            ledger.sends.begin_post(claim, 60, fit=Fit(limits, "no cost is limited", {}))
            found.append("posting")
        except Capped:
            found.append("capped")
        except SendosoLimitError:
            found.append("limited")
    return found


def note_wakeups(url: str, count: int) -> None:
    """Receive the same webhooks as other processes."""
    ledger = open_ledger(url)
    for number in range(count):
        ledger.wakeups.note("acme", f"msg_{number}", "gid")


def count_up(url: str, times: int) -> None:
    """Add one to a number, and note that in the same transaction, again and again."""
    database = open_ledger(url)._database
    empty = {"position": "", "updated_at": 0.0}

    def work(connection: Connection) -> None:
        known = connection.execute(select(cursors.c.version).where(cursors.c.name == "count")).scalar()
        if known is None:
            connection.execute(insert(cursors).values(name="count", version=1, **empty))
        else:
            connection.execute(update(cursors).where(cursors.c.name == "count").values(version=known + 1))
        connection.execute(insert(cursors).values(name=uuid.uuid4().hex, version=(known or 0) + 1, **empty))

    for _ in range(times):
        database.run(work)


def die_in_a_snapshot(url: str, every: int) -> None:
    """Be killed in the middle of the first object that this process creates."""

    def die(self: Bucket, name: str, body: bytes) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return False

    snapshots.EVERY = every
    Bucket.create = die  # type: ignore[method-assign]
    folder_engine(url)
