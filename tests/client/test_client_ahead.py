"""A POST's connection is opened ahead of its slot; nothing that came before its first byte is its answer."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from certificates import self_signed
from raw_exchanges import GET, OK, POST, end_the_time_of, read_request, serving

from airflow_provider_sendoso.client import pace as pace_module
from airflow_provider_sendoso.client import transport as transport_module
from airflow_provider_sendoso.client.answers import Phase
from airflow_provider_sendoso.client.pace import SlotMissed, Turn

ANOTHERS = OK.replace(b'"s"', b'"z"')


@pytest.fixture(params=["http", "https"])
def serve(request, raw_server, tmp_path, monkeypatch) -> Callable[[Callable[[int, Any], None]], Any]:
    """Starts a server, with or without TLS; ``handle`` is given the connection's number, from 1, and the connection."""
    certificate = self_signed(tmp_path / "server.pem", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    def start(handle: Callable[[int, Any], None]) -> Any:
        def on(connection: socket.socket) -> None:
            number = len(server.connections)
            if request.param == "https":
                with (
                    contextlib.suppress(OSError),
                    serving(certificate).wrap_socket(connection, server_side=True) as tls,
                ):
                    handle(number, tls)
            else:
                handle(number, connection)

        server = raw_server(on)
        server.base_url = server.url.replace("http:", f"{request.param}:")
        return server

    return start


def answer_all(number: int, connection: Any) -> None:
    while read_request(connection):
        connection.sendall(OK)


def opened(session: Any, server: Any, until: Any) -> None:
    """Open the next POST's connection, and let the server treat it."""
    before = len(server.connections)
    session._transport.open_ahead(server.base_url)
    until(lambda: len(server.connections) == before + 1)


class TestAhead:
    def test_a_post_goes_out_on_the_connection_that_was_opened_for_it(self, session_on, serve, until):
        server = serve(answer_all)
        session = session_on(server.base_url)
        for posted in (1, 2, 3):
            opened(session, server, until)
            time.sleep(0.05)  # a TLS server's tickets have come
            session._transport.open_ahead(server.base_url)  # once more changes nothing
            assert session.call(POST, "t").status == 201
            assert len(server.connections) == posted

    @pytest.mark.parametrize("first", [POST, GET], ids=["POST", "GET"])
    def test_no_post_goes_out_on_a_connection_that_a_request_has_used(self, session_on, serve, until, first):
        server = serve(answer_all)
        session = session_on(server.base_url)
        opened(session, server, until)
        assert session.call(first, "t").status == 201
        assert session.call(POST, "t").status == 201
        assert len(server.connections) == 2

    def test_bytes_that_came_before_the_post_are_never_its_answer(self, session_on, serve, until):
        """As proxies write a 408 on a connection on which no request comes."""

        def handle(number: int, connection: Any) -> None:
            if number == 1:
                connection.sendall(ANOTHERS)
            answer_all(number, connection)

        server = serve(handle)
        session = session_on(server.base_url)
        opened(session, server, until)
        time.sleep(0.2)
        answer = session.call(POST, "t").answer
        assert answer is not None
        assert answer.json == {"id": "s"}
        assert len(server.connections) == 2

    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    def test_a_connection_that_has_ended_before_the_post_is_replaced(self, session_on, serve, until, reset):
        """Not a byte was sent on it, so the send is made, once, on another."""

        def handle(number: int, connection: Any) -> None:
            if number == 1:
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                return
            while request := read_request(connection):
                received.append(request)
                connection.sendall(OK)

        received: list[bytes] = []
        server = serve(handle)
        session = session_on(server.base_url)
        opened(session, server, until)
        time.sleep(0.2)
        assert session.call(POST, "t").status == 201
        assert len(received) == 1

    def test_a_connection_that_is_two_seconds_old_is_replaced(self, session_on, serve, until, clock, monkeypatch):
        monkeypatch.setattr(transport_module, "time", clock)
        server = serve(answer_all)
        session = session_on(server.base_url)
        for age, connections in ((1.9, 1), (2.1, 3)):
            opened(session, server, until)
            clock.now += age
            assert session.call(POST, "t").status == 201
            assert len(server.connections) == connections

    def test_a_server_that_is_down_is_reported_by_the_post(self, session_on):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        session = session_on(f"http://127.0.0.1:{port}")
        session._transport.open_ahead(f"http://127.0.0.1:{port}")
        assert session.call(POST, "t").phase is Phase.NOT_CONNECTED

    def test_a_proxy_that_dribbles_ends_with_the_time_of_a_request(self, session_on, raw_server, monkeypatch):
        def handle(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            end_the_time_of(session)
            for _ in range(4000):
                connection.sendall(b"X: 1\r\n")
                time.sleep(0.05)

        monkeypatch.setenv("HTTPS_PROXY", raw_server(handle).url)
        monkeypatch.setenv("NO_PROXY", "")
        session = session_on("https://sendoso.invalid")
        started = time.monotonic()
        session._transport.open_ahead("https://sendoso.invalid")
        assert time.monotonic() - started < 60


class TestASlotThatIsOver:
    def test_its_request_is_not_sent_and_its_connection_kept(self, session_on, raw_server, until):
        def handle(connection: socket.socket) -> None:
            while request := read_request(connection):
                received.append(request)
                connection.sendall(OK)

        received: list[bytes] = []
        server = raw_server(handle)
        server.base_url = server.url
        session = session_on(server.url)
        opened(session, server, until)
        with pytest.raises(SlotMissed):
            session.call(POST, "t", Turn(time.monotonic() - 0.5, at_once=True))
        assert received == []
        assert session.call(POST, "t", Turn(time.monotonic() + 60, at_once=True)).status == 201
        assert (len(received), len(server.connections)) == (1, 1)

    def test_it_is_looked_at_after_connecting(self, session_on, raw_server, tmp_path, monkeypatch):
        """A process may also be frozen there: the first byte is what must not be late."""
        certificate = self_signed(tmp_path / "server.pem", "127.0.0.1")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

        def handle(connection: socket.socket) -> None:
            time.sleep(0.5)
            with contextlib.suppress(OSError), serving(certificate).wrap_socket(connection, server_side=True) as tls:
                received.append(tls.recv(65536))

        received: list[bytes] = []
        session = session_on(raw_server(handle).url.replace("http:", "https:"))
        with pytest.raises(SlotMissed):
            session.call(POST, "t", Turn(time.monotonic() + 0.3, at_once=True))
        assert not any(received)


class TestARead:
    @pytest.mark.parametrize(("missed", "turns"), [(0, 1), (1, 2), (2, 3), (99, 3)])
    def test_whose_slot_is_over_before_its_first_byte_takes_another(
        self, session_on, serve, monkeypatch, missed, turns
    ):
        """With the third it is made however late it is."""

        def a_turn(*request: Any, **more: Any) -> Turn:
            taken.append(request)
            return Turn(time.monotonic() + (-1.0 if len(taken) <= missed else 60.0), at_once=True)

        taken: list[Any] = []
        server = serve(answer_all)
        session = session_on(server.base_url)
        monkeypatch.setattr(session, "await_turn", a_turn)
        assert session.paced(GET, "t", poll=True).status == 201
        assert (len(taken), len(server.connections)) == (turns, 1)

    def test_has_its_connection_before_its_slot_and_uses_it_again(self, session_on, serve, pace, monkeypatch):
        def handle(number: int, connection: Any) -> None:
            opened_at.append(time.monotonic())
            while read_request(connection):
                asked_at.append(time.monotonic())
                connection.sendall(OK)

        opened_at: list[float] = []
        asked_at: list[float] = []
        server = serve(handle)
        session = session_on(server.base_url)
        session.sleep = time.sleep
        # On a busy machine seconds may pass between the two, and a slot be missed just before the first byte.
        monkeypatch.setattr(transport_module, "_IDLE", 60.0)
        monkeypatch.setattr(pace_module, "_STALE", 60.0)
        monkeypatch.setattr(pace, "reserve", lambda *, poll: 0.8)
        for _ in range(2):
            assert session.paced(GET, "t", poll=True).status == 201
        [opened], [first, second] = opened_at, asked_at
        assert opened < first - 0.3
        assert first < second - 0.3


def test_posting_is_committed_before_its_slot_and_the_turn_comes_with_it(session_on, pace, monkeypatch):
    """A ledger's commit takes time, in which the slot would grow old."""
    monkeypatch.setattr(pace, "take", lambda send: False)
    monkeypatch.setattr(pace, "reserve", lambda *, poll: 0.3)

    class Send:
        row = "k"

        def commit_posting(self, transaction: Any = None) -> None:
            committed.append(time.monotonic())

    committed: list[float] = []
    session = session_on("http://127.0.0.1:9")
    session.sleep = time.sleep
    turn = session.await_turn_to_send(Send(), sleep=time.sleep)
    assert turn.due == math.inf or committed[-1] < turn.due <= time.monotonic()
