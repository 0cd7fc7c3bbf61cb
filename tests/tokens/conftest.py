"""Ledgers, connections and crews of real processes for the tests of the tokens and the pace."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from buckets import folder_address, folder_engine
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

import airflow_provider_sendoso
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.pace import POLL_SHARE, SPACING
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tokens import TokenManager
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.sandbox import Sandbox

ROOT = Path(airflow_provider_sendoso.__file__).parents[1]
CREW = Path(__file__).with_name("crew.py")


@pytest.fixture
def environment() -> Callable[..., dict[str, str]]:
    """Makes the environment of a process that runs this very package."""
    return lambda **more: {**os.environ, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def ledger_connection(request: pytest.FixtureRequest, empty_ledger: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The connection of an empty ledger; the tests that need MySQL, too, say so."""
    return empty_ledger(request.param)


@pytest.fixture
def ledger_url(ledger: dict[str, Any]) -> str:
    """The empty ledger, for SQLAlchemy."""
    if address := folder_address(ledger):
        return address
    if ledger["conn_type"] == "sqlite":
        return f"sqlite:///{ledger['host']}"
    if ledger["conn_type"] == "mysql":
        return f"mysql+pymysql://root@localhost/{ledger['schema']}?unix_socket={ledger['extra']['unix_socket']}"
    return f"postgresql://postgres@/{ledger['schema']}?host={ledger['host']}"


@pytest.fixture
def make_engine(ledger_url: str) -> Iterator[Callable[[], Engine]]:
    """Makes engines on the ledger's database."""
    engines: list[Engine] = []

    def make() -> Engine:
        in_folder = ledger_url.startswith("file://")
        engines.append(folder_engine(ledger_url) if in_folder else create_engine(ledger_url, hide_parameters=True))
        return engines[-1]

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def book(make_engine: Callable[[], Engine]) -> Ledger:
    """The ledger, opened."""
    return Ledger(make_engine())


@pytest.fixture
def lapse(make_engine: Callable[[], Engine]) -> Callable[[], None]:
    """Lets every claim on a token lapse, as if its time had passed."""

    def lapse() -> None:
        with make_engine().begin() as database:
            database.execute(text("UPDATE sendoso_tokens SET lease_until = 0"))

    return lapse


@pytest.fixture
def connection(sandbox: Sandbox) -> Callable[..., dict[str, Any]]:
    """Makes the fields of a connection to the sandbox; keywords go into the extra."""

    def make(*, login: str = "sandbox", password: str = "sandbox", **extra: Any) -> dict[str, Any]:
        extra = {"requests_per_second": 500, "timeout": 60} | extra
        return {"host": sandbox.url, "login": login, "password": password, "extra": extra}

    return make


@pytest.fixture
def make_config(connection: Callable[..., dict[str, Any]]) -> Callable[..., ClientConfig]:
    """Makes a resolved connection to the sandbox; a refresh token makes it of that grant."""

    def make(refresh_token: str | None = None, **extra: Any) -> ClientConfig:
        if refresh_token is not None:
            extra |= {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return ClientConfig.from_connection("sendoso_default", schema=None, port=None, **connection(**extra))

    return make


@pytest.fixture
def session_on() -> Callable[..., SendosoSession]:
    """Makes a session on a ledger, as another process would; it sleeps neither for its turn nor between retries."""

    def make(ledger: Ledger, config: ClientConfig, *, lease: float | None = None, **more: Any) -> SendosoSession:
        store = ledger.tokens(config.identity, config.client_secret.get_secret_value())
        pace = ledger.pace(config.account, SPACING / config.requests_per_second, POLL_SHARE)
        session = SendosoSession(config, store, pace, sleep=lambda seconds: None, **more)
        if lease is not None:
            session.tokens = TokenManager(config, store, session.paced, lease=lease, **more)
        return session

    return make


@pytest.fixture
def make_session(book: Ledger, session_on: Callable[..., SendosoSession]) -> Callable[..., SendosoSession]:
    """Makes a session on the test's ledger."""
    return functools.partial(session_on, book)


@pytest.fixture
def token_requests(sandbox: Sandbox) -> Callable[[], list[int | None]]:
    """Tells how the sandbox answered each token request so far."""
    return lambda: [request.status for request in sandbox.requests if request.path == "/oauth/token"]


@pytest.fixture(scope="session")
def crew_process() -> Iterator[subprocess.Popen[str]]:
    """The process that the crews are forked from; importing the provider takes seconds, so there is one for all."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(CREW)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def crew(crew_process: subprocess.Popen[str]) -> Callable[..., list[list[dict[str, Any]]]]:
    """Runs stages of jobs in real processes; see ``crew.py``."""

    def run(*stages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        assert crew_process.stdin
        assert crew_process.stdout
        crew_process.stdin.write(json.dumps(stages) + "\n")
        crew_process.stdin.flush()
        outcomes: list[list[dict[str, Any]]] = json.loads(crew_process.stdout.readline())
        return outcomes

    return run
