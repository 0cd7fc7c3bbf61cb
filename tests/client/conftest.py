"""Fixtures of the client's tests: sessions that never sleep, and servers that answer with raw bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tenacity import wait_none

from airflow_provider_sendoso.client import retrying
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tokens import MemoryTokenStore
from airflow_provider_sendoso.models.slot_commit import SlotCommit


class FreePace:
    """A pace that lets every call through at once, and records its calls."""

    lead = 0.0

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pushed_back: list[float] = []

    @property
    def slots(self) -> int:
        return len(self.asked) - self.asked.count("queue")

    def queue(self) -> float:
        self.asked.append("queue")
        return 0.0

    def reserve(self, *, poll: bool) -> float:
        self.asked.append("poll" if poll else "send")
        return 0.0

    def take(self, send: SlotCommit) -> bool:
        self.asked.append("free")
        send.commit_posting()
        return True

    def push_back(self, seconds: float) -> None:
        self.pushed_back.append(seconds)


class Clock:
    """Replaces the ``time`` module: time passes only in ``sleep``."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []
        self.oversleep: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds + (self.oversleep.pop(0) if self.oversleep else 0.0)


@pytest.fixture
def pace() -> FreePace:
    return FreePace()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def naps() -> list[float]:
    """The seconds for which a session would have slept."""
    return []


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once; how long a retry waits is not what these tests are about."""
    monkeypatch.setattr(retrying, "backoff", wait_none())


@pytest.fixture
def session_on(pace: FreePace, naps: list[float]) -> Iterator[Callable[..., SendosoSession]]:
    """Makes a session on a base URL that never sleeps."""
    made = []

    def make(url: str, *, timeout: float = 60.0, **config: Any) -> SendosoSession:
        resolved = ClientConfig(
            base_url=url,
            client_id="sandbox",
            client_secret=config.pop("client_secret", "sandbox"),
            account="test",
            timeout=timeout,
            **config,
        )
        made.append(
            SendosoSession(resolved, MemoryTokenStore(), pace, sleep=lambda nap: naps.append(nap) if nap else None)
        )
        return made[-1]

    yield make
    for session in made:
        session.close()


class RawServer:
    """Accepts connections on loopback and hands each to a function."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._handle(connection)

    def close(self) -> None:
        self._listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def raw_server() -> Iterator[Callable[[Callable[[socket.socket], None]], RawServer]]:
    """Starts a server on loopback that treats each connection as a function says."""
    servers = []

    def start(handle: Callable[[socket.socket], None]) -> RawServer:
        servers.append(RawServer(handle))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
