"""How far a request got when it fails on a real socket: this decides whether a gift may be sent again."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import requests
import urllib3
from certificates import self_signed
from raw_exchanges import GET, OK, POST, end_the_time_of, read_request, serving

from airflow_provider_sendoso.client import network
from airflow_provider_sendoso.client import transport as transport_module
from airflow_provider_sendoso.client.answers import Phase
from airflow_provider_sendoso.client.endpoints import Request, get_send_request, list_sends_request, me_request
from airflow_provider_sendoso.client.outcomes import Verdict, classify
from airflow_provider_sendoso.client.transport import phase_of

TIME_IS_OVER = {"Timeout", "TimeoutError"}
"""What it is called by who keeps the time of the whole, and by the socket, which may notice it first."""


def after_the_request(*answer: bytes, reset: bool = False):
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        say_and_close(connection, *answer, reset=reset)

    return handle


def after_the_hello(answer: bytes, *, reset: bool = False):
    """Answer the first bytes of a client: a TLS hello, or a request to a proxy."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        say_and_close(connection, answer, reset=reset)

    return handle


def say_and_close(connection: socket.socket, *answer: bytes, reset: bool) -> None:
    for part in answer:
        connection.sendall(part)
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def in_turn(*answers: bytes, late: bytes = b""):
    """Answer the first request with these parts. Answer every later one normally, on the same connection or another."""
    odd = iter([answers])

    def handle(connection: socket.socket) -> None:
        parts = next(odd, ())
        if parts:
            read_request(connection)
        for part in parts:
            connection.sendall(part)
        if parts and late:
            time.sleep(0.3)
            with contextlib.suppress(OSError):
                connection.sendall(late)
        while read_request(connection):
            connection.sendall(OK)

    return handle


INTERIM = [
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 199 Anything\r\n\r\n",
]
ANOTHERS = OK.replace(b'"s"', b'"z"')


class TestOneAnswerPerRequest:
    """An answer that belongs to another request would give a gift the id of somebody else's."""

    @pytest.mark.parametrize("interim", INTERIM, ids=["103", "102", "101", "199"])
    @pytest.mark.parametrize("together", [True, False], ids=["at once", "late"])
    def test_an_interim_answer_is_never_the_answer(self, session_on, raw_server, interim, together):
        server = raw_server(
            in_turn(*([interim, ANOTHERS] if together else [interim]), late=b"" if together else ANOTHERS)
        )
        session = session_on(server.url)
        first = session.paced(POST, "t")
        assert classify(POST, first, renewed=False, own_gift=False).verdict is Verdict.UNKNOWN
        assert (first.phase, first.answer) == (Phase.LOST, None)
        second = session.paced(POST, "t")
        assert second.answer is not None
        assert second.answer.json == {"id": "s"}
        assert len(server.connections) == 2

    def test_100_continue_is_waited_out(self, session_on, raw_server):
        server = raw_server(in_turn(b"HTTP/1.1 100 Continue\r\n\r\n" * 3, ANOTHERS))
        session = session_on(server.url)
        exchanges = [session.paced(POST, "t") for _ in range(2)]
        assert [exchange.answer and exchange.answer.json for exchange in exchanges] == [{"id": "z"}, {"id": "s"}]

    def test_bytes_after_a_whole_answer_are_not_the_answer_to_the_next_post(self, session_on, raw_server):
        """A POST has a new connection, so that an extra answer of a broken proxy is not taken for its answer."""
        server = raw_server(in_turn(OK + ANOTHERS))
        session = session_on(server.url)
        for _ in range(3):
            answer = session.paced(POST, "t").answer
            assert answer is not None
            assert answer.json == {"id": "s"}
        assert len(server.connections) == 3

    @pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
    def test_a_body_after_a_status_without_one_is_not_the_next_answer(self, session_on, raw_server, status):
        server = raw_server(in_turn(b"HTTP/1.1 " + status + b"\r\n\r\n", late=ANOTHERS))
        session = session_on(server.url)
        session.paced(POST, "t")
        second = session.paced(POST, "t")
        assert second.answer is not None
        assert second.answer.json == {"id": "s"}
        assert len(server.connections) == 2

    def test_a_read_after_an_answer_that_was_not_whole_has_a_connection_of_its_own(self, session_on, raw_server):
        """Only a POST always has one: the answer that is still to come would be taken for the read's."""
        server = raw_server(in_turn(INTERIM[0], late=ANOTHERS))
        session = session_on(server.url)
        assert session.paced(POST, "t").phase is Phase.LOST
        read = session.paced(GET, "t")
        assert read.answer is not None
        assert read.answer.json == {"id": "s"}
        assert len(server.connections) == 2

    def test_an_answer_that_breaks_off_ends_its_connection(self, session_on, raw_server):
        server = raw_server(in_turn(b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"))
        session = session_on(server.url)
        assert session.paced(POST, "t").phase is Phase.LOST
        second = session.paced(POST, "t")
        assert second.answer is not None
        assert len(server.connections) == 2


class TestNotConnected:
    def test_a_closed_port_is_not_connected(self, session_on):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        exchange = session_on(f"http://127.0.0.1:{port}").paced(POST, "t")
        assert (exchange.phase, exchange.error) == (Phase.NOT_CONNECTED, "ConnectionRefusedError")

    def test_a_host_name_that_does_not_exist_is_not_connected(self, session_on):
        exchange = session_on("https://nonexistent.invalid").paced(POST, "t")
        assert (exchange.phase, exchange.answer) == (Phase.NOT_CONNECTED, None)

    def test_a_server_that_does_not_accept_is_not_connected(self, session_on):
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # a full queue: what comes now is not answered at all
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            exchange = session_on(f"http://127.0.0.1:{full.getsockname()[1]}", timeout=0.2).paced(POST, "t")
        assert exchange.phase is Phase.NOT_CONNECTED
        assert exchange.error in TIME_IS_OVER

    def test_an_untrusted_certificate_is_not_connected(self, session_on, raw_server, tmp_path):
        context = serving(self_signed(tmp_path / "server.pem", "127.0.0.1"))

        def handle(connection: socket.socket) -> None:
            with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secure:
                requests.append(secure.recv(1))

        requests: list[bytes] = []
        server = raw_server(handle)
        exchange = session_on(server.url.replace("http:", "https:")).paced(POST, "t")
        assert (exchange.phase, exchange.error) == (Phase.NOT_CONNECTED, "SSLCertVerificationError")
        assert not any(requests)

    def test_a_trusted_certificate_is_read_once_and_checked_for_each_post(
        self, session_on, raw_server, tmp_path, monkeypatch
    ):
        certificate = self_signed(tmp_path / "server.pem", "127.0.0.1")
        context = serving(certificate)

        def handle(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                while read_request(secure):
                    secure.sendall(OK)

        server = raw_server(handle)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        before = network._context.cache_info().misses
        session = session_on(server.url.replace("http:", "https:"))
        assert [session.paced(POST, "t").status for _ in range(3)] == [201, 201, 201]
        assert network._context.cache_info().misses == before + 1
        # Another name for the same server is not in its certificate.
        elsewhere = session_on(server.url.replace("http:", "https:").replace("127.0.0.1", "localhost"))
        assert elsewhere.paced(POST, "t").phase is Phase.NOT_CONNECTED
        assert len(server.connections) == 4

    @pytest.mark.parametrize(
        "answer",
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b""],
        ids=["plain HTTP", "an alert", "closed"],
    )
    def test_a_server_without_tls_is_not_connected(self, session_on, raw_server, answer):
        server = raw_server(after_the_hello(answer))
        exchange = session_on(server.url.replace("http:", "https:")).paced(POST, "t")
        assert (exchange.phase, len(server.connections)) == (Phase.NOT_CONNECTED, 1)

    def test_a_reset_during_the_handshake_is_not_connected(self, session_on, raw_server):
        server = raw_server(after_the_hello(b"\x16\x03\x03", reset=True))
        exchange = session_on(server.url.replace("http:", "https:")).paced(POST, "t")
        assert (exchange.phase, exchange.error) == (Phase.NOT_CONNECTED, "ConnectionResetError")

    def test_a_proxy_that_is_down_is_not_connected(self, session_on, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:s3cret@127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        exchange = session_on("https://sendoso.invalid").paced(POST, "t")
        assert (exchange.phase, exchange.error) == (Phase.NOT_CONNECTED, "ConnectionRefusedError")
        assert "s3cret" not in repr(exchange)

    @pytest.mark.parametrize(
        "answer",
        [b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 407 Who\r\n\r\n", b"garbage\r\n\r\n", b""],
        ids=["503", "407", "garbage", "closed"],
    )
    def test_a_proxy_that_refuses_is_not_connected(self, session_on, raw_server, monkeypatch, answer):
        proxy = raw_server(after_the_hello(answer))
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        exchange = session_on("https://sendoso.invalid").paced(POST, "t")
        assert (exchange.phase, len(proxy.connections)) == (Phase.NOT_CONNECTED, 1)

    @pytest.mark.parametrize(
        "request_",
        [
            Request("POST", "/x", json={"send": {"amount": math.nan}}),
            Request("POST", "/x", json={"send": {"name": b"Ada"}}),
            Request("POST", ":99999/x", json={}),
        ],
        ids=["NaN", "bytes", "no URL"],
    )
    def test_a_request_that_cannot_be_encoded_is_not_connected(self, session_on, request_):
        exchange = session_on("http://127.0.0.1").paced(request_, "t")
        assert (exchange.phase, exchange.answer) == (Phase.NOT_CONNECTED, None)


class TestLost:
    """Once the request may have been received, every failure leaves the outcome unknown."""

    @pytest.mark.parametrize(
        "handle",
        [
            after_the_request(),
            after_the_request(reset=True),
            after_the_request(b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n", b'{"send": {"id": "s-'),
            after_the_request(b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n", b'{"send"', reset=True),
            after_the_request(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\n{", reset=True),
            after_the_request(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n{}\r\n"),
            after_the_request(b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
            after_the_request(b"SSH-2.0-OpenSSH_9.6\r\n"),
            after_the_request(b"\x00\xff\x00\xffgarbage\r\n\r\n"),
            after_the_request(b"HTTP/1.1 abc OK\r\n\r\n"),
            after_the_request(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n"),
            after_the_request(b"HTTP/1.1 201 Created\r\nContent-Length: 11, 12\r\n\r\n", b'{"id": "s"}'),
            after_the_request(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"),
        ],
        ids=[
            "closed",
            "reset",
            "half a body",
            "reset in the body",
            "reset in a chunk",
            "bad chunk",
            "bad gzip",
            "another protocol",
            "garbage",
            "bad status line",
            "too many headers",
            "contradictory lengths",
            "unparsable location",
        ],
    )
    def test_a_failure_after_the_request_is_lost_and_posted_once(self, session_on, raw_server, handle):
        server = raw_server(handle)
        exchange = session_on(server.url).paced(POST, "t")
        assert (exchange.phase, exchange.answer) == (Phase.LOST, None)
        assert len(server.connections) == 1

    def test_a_request_without_an_answer_in_time_is_lost(self, session_on, raw_server):
        done = threading.Event()
        server = raw_server(lambda connection: (read_request(connection), end_the_time_of(session), done.wait(600)))
        session = session_on(server.url)
        exchange = session.paced(POST, "t")
        done.set()
        assert (exchange.phase, exchange.error) == (Phase.LOST, "Timeout")

    def test_a_request_whose_answer_stalls_is_lost(self, session_on, raw_server):
        done = threading.Event()

        def handle(connection: socket.socket) -> None:
            read_request(connection)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{")
            end_the_time_of(session)
            done.wait(600)

        session = session_on(raw_server(handle).url)
        exchange = session.paced(POST, "t")
        done.set()
        assert (exchange.phase, exchange.answer) == (Phase.LOST, None)

    @pytest.mark.parametrize(
        "request_",
        [get_send_request("s-1"), me_request(), replace(list_sends_request(), params={"page": 1})],
        ids=["one send", "the user", "a page"],
    )
    def test_a_body_that_is_too_large_is_not_read_to_its_end(self, session_on, raw_server, request_):
        written = []

        def handle(connection):
            read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n[{}")
            with contextlib.suppress(OSError):
                for _ in range(512):  # 32 MiB
                    connection.sendall(b",{}" * 21845)
                    written.append(65535)

        session = session_on(raw_server(handle).url)
        tracemalloc.start()
        try:
            exchange = session.paced(request_, "t")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (exchange.phase, exchange.answer) == (Phase.LOST, None)
        assert peak < 4 * request_.largest_answer + 2**20
        assert sum(written) < request_.largest_answer + 16 * 2**20  # what the sockets hold

    def test_a_body_of_the_largest_size_is_read(self, session_on, raw_server):
        size = get_send_request("s-1").largest_answer
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        exchange = session_on(raw_server(after_the_request(head, b" " * size)).url).paced(get_send_request("s-1"), "t")
        assert exchange.status == 200


class TestTheDeadline:
    """The deadline is that of the whole request, even if the server sends a byte now and then for minutes."""

    @pytest.mark.parametrize(
        ("first", "again"),
        [
            (b"HTTP/1.1 201 Created\r\nX-Drip: ", b"x"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n", b" "),
            (b"HTTP/1.1 201 Created\r\n\r\n", b" "),
            (b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b" " * 0x1000 + b"\r\n"),
        ],
        ids=["head", "one more head", "body", "body without a length", "body without an end"],
    )
    def test_the_deadline_ends_an_answer_that_comes_byte_by_byte(self, session_on, raw_server, first, again):
        def handle(connection: socket.socket) -> None:
            read_request(connection)
            connection.sendall(first)
            end_the_time_of(session)
            drip(connection, again)

        session = session_on(raw_server(handle).url)
        exchange = session.paced(POST, "t")
        assert (exchange.phase, exchange.answer, exchange.error) == (Phase.LOST, None, "Timeout")

    @pytest.mark.parametrize("through_a_proxy", [False, True])
    def test_the_deadline_ends_a_handshake_that_comes_byte_by_byte(
        self, session_on, raw_server, monkeypatch, through_a_proxy
    ):
        def handle(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" if through_a_proxy else b"\x16\x03\x03\x40\x00")
            drip(connection, b"X: 1\r\n" if through_a_proxy else b"\x02")

        url = raw_server(handle).url
        if through_a_proxy:
            monkeypatch.setenv("HTTPS_PROXY", url)
            monkeypatch.setenv("NO_PROXY", "")
        session = session_on(
            "https://sendoso.invalid" if through_a_proxy else url.replace("http", "https"), timeout=0.3
        )
        started = time.monotonic()
        exchange = session.paced(POST, "t")
        assert exchange.phase is Phase.NOT_CONNECTED
        assert exchange.error in TIME_IS_OVER
        assert time.monotonic() - started < 60

    def test_a_request_whose_time_is_over_before_its_first_byte_is_not_sent(
        self, session_on, raw_server, monkeypatch, until
    ):
        received: list[bytes] = []
        server = raw_server(lambda connection: received.append(connection.recv(65536)))
        connect = transport_module.HTTPConnection.connect

        def connect_until_the_time_is_over(self) -> None:
            connect(self)
            transport_module._notes.note.cut()

        monkeypatch.setattr(transport_module.HTTPConnection, "connect", connect_until_the_time_is_over)
        exchange = session_on(server.url).paced(POST, "t")
        assert (exchange.phase, exchange.error) == (Phase.NOT_CONNECTED, "Timeout")
        until(lambda: received == [b""])

    def test_the_deadline_of_a_request_does_not_end_the_next_one(self, session_on, raw_server):
        def handle(connection: socket.socket) -> None:
            while read_request(connection):
                connection.sendall(OK)

        server = raw_server(handle)
        session = session_on(server.url)
        for _ in range(3):
            assert session.paced(GET, "t").status == 201
            end_the_time_of(session)
            time.sleep(0.05)
        assert len(server.connections) == 1

    def test_one_thread_keeps_the_deadlines_of_many_requests(self, session_on, raw_server):
        def handle(connection: socket.socket) -> None:
            read_request(connection)
            all_are_cut.wait(600)
            connection.sendall(OK)

        all_are_cut = threading.Event()
        slow = session_on(raw_server(handle).url, timeout=0.3)
        patient = session_on(raw_server(handle).url)
        before = [thread.name for thread in threading.enumerate()].count("sendoso-watchdog")
        with ThreadPoolExecutor(12) as pool:
            cut = [pool.submit(slow.paced, POST, "t") for _ in range(6)]
            answered = [pool.submit(patient.paced, POST, "t") for _ in range(6)]
            # The second is what it is called where the time was over before the first byte left.
            assert {future.result().error for future in cut} <= TIME_IS_OVER
            all_are_cut.set()
            assert {future.result().status for future in answered} == {201}
        # They do not end; each client has one.
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("sendoso-watchdog") - before == 2, names

    def test_the_deadline_holds_for_a_second_request_on_a_connection(self, session_on, raw_server):
        answers = [OK]

        def handle(connection: socket.socket) -> None:
            while read_request(connection):
                if answers:
                    connection.sendall(answers.pop())
                else:
                    end_the_time_of(session)

        session = session_on(raw_server(handle).url)
        assert session.paced(POST, "t").status == 201
        assert session.paced(POST, "t").error == "Timeout"


def drip(connection: socket.socket, what: bytes) -> None:
    for _ in range(4000):
        connection.sendall(what)
        time.sleep(0.05)


class TestWithoutANote:
    """Without a note of a connection, only a few errors prove that nothing was sent."""

    @pytest.mark.parametrize(
        ("error", "phase"),
        [
            (requests.ConnectTimeout(), Phase.NOT_CONNECTED),
            (requests.ConnectionError(urllib3.exceptions.NewConnectionError(None, "no")), Phase.NOT_CONNECTED),
            (requests.exceptions.ProxyError(urllib3.exceptions.ProxyError("no", OSError())), Phase.NOT_CONNECTED),
            (requests.ConnectionError(), Phase.LOST),
            (requests.ReadTimeout(), Phase.LOST),
            (requests.exceptions.SSLError(), Phase.LOST),
            (requests.exceptions.ChunkedEncodingError(), Phase.LOST),
            (requests.exceptions.InvalidHeader(), Phase.LOST),
            (requests.exceptions.InvalidURL(), Phase.LOST),
            (ValueError(), Phase.LOST),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
    )
    def test_only_errors_of_connecting_prove_that_nothing_was_sent(self, error, phase):
        assert phase_of(error) is phase

    def test_the_context_of_an_error_proves_nothing(self):
        """An error that is raised while another request's error is handled has that error as its context."""
        error = requests.ReadTimeout()
        error.__context__ = requests.ConnectTimeout()
        assert phase_of(error) is Phase.LOST


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 201 Created\r\nContent-Le",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 201 Created\r\n\r\n{",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=[
        "half a header",
        "another protocol",
        "half a body without a length",
        "port of a location",
        "bytes of a location",
    ],
)
def test_an_answer_cut_off_after_its_status_is_unknown(session_on, raw_server, answer):
    exchange = session_on(raw_server(after_the_request(answer)).url).paced(POST, "t")
    assert classify(POST, exchange, renewed=False, own_gift=False).verdict is Verdict.UNKNOWN


class TestTheSandboxesFaults:
    """The same with the sandbox, which counts the requests and the accepted sends."""

    @pytest.mark.parametrize(
        ("fault", "options", "accepted"),
        [
            ("drop_before", {}, 0),
            ("drop_after", {}, 1),
            ("truncate", {}, 1),
            ("slow", {"delay": 1}, 1),
        ],
    )
    def test_a_fault_of_the_connection_is_lost_and_posted_once(
        self, sandbox, late_answers, session_on, fault, options, accepted
    ):
        session = session_on(sandbox.url)
        token = session.token()
        sandbox.fault(fault, times=5, method="POST", path="/api/v3/sends", **options)
        exchange = session.paced(gift("ada@example.com"), token)
        assert (exchange.phase, exchange.answer) == (Phase.LOST, None)
        assert [request.path for request in sandbox.requests].count("/api/v3/sends") == 1
        assert len(sandbox.sends) == accepted

    @pytest.mark.parametrize(
        ("fault", "status"), [("error_after", 500), ("garbage", 200), ("redirect", 302), ("throttle", 429)]
    )
    def test_a_fault_with_an_answer_is_posted_once(self, sandbox, session_on, fault, status):
        session = session_on(sandbox.url)
        token = session.token()
        sandbox.fault(fault, times=5, method="POST", path="/api/v3/sends")
        assert session.paced(gift("ada@example.com"), token).status == status
        assert [request.path for request in sandbox.requests].count("/api/v3/sends") == 1


class TestKeptConnections:
    def answer_all(self, connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(OK)

    def test_a_kept_connection_is_used_again_within_two_seconds_only(self, session_on, raw_server, clock, monkeypatch):
        monkeypatch.setattr(transport_module, "time", clock)
        server = raw_server(self.answer_all)
        session = session_on(server.url)
        for idle, connections in ((0, 1), (1.5, 1), (1.9, 1), (2.1, 2)):
            clock.now += idle
            assert session.paced(GET, "t").status == 201
            assert len(server.connections) == connections

    def test_a_kept_connection_that_the_server_closed_is_noticed(self, session_on, raw_server, until):
        def answer_one(connection: socket.socket) -> None:
            read_request(connection)
            connection.sendall(OK)
            connection.close()
            closed.append(connection)

        closed: list[socket.socket] = []
        server = raw_server(answer_one)
        session = session_on(server.url)
        for posted in (1, 2, 3):
            assert session.paced(POST, "t").status == 201
            assert len(server.connections) == posted
            until(lambda posted=posted: len(closed) == posted)


def gift(email: str) -> Request:
    send = {
        "gift_id": "gift-egift-coffee",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": email,
        "message": "Thanks",
    }
    return Request("POST", "/api/v3/sends", json={"send": send})
