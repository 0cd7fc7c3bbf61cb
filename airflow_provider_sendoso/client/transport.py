"""One request over ``requests``: no retries, no redirects, a total timeout, and a record of how far the request got.

A failed POST may only be repeated if its first byte was not sent. The exception does not tell, so the connection itself
records it.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase
from airflow_provider_sendoso.client.network import Network
from airflow_provider_sendoso.client.pace import SlotMissed

_IDLE = 2.0
"""Seconds after which an idle connection is not used, because the server may have closed it."""

_CONNECTING = 3.0
"""Seconds for which a connection that is opened ahead of its request may take."""


_WITHOUT_BODY = (204, 304)
"""Statuses after which ``http.client`` expects no body, even if the server sends one."""


class _InterimAnswer(Exception):
    """The server answered with a 1xx status; its final answer is still to come."""


class Transport:
    """
    Makes requests; one connection per thread that uses it.

    :param timeout: seconds that a request may take, from connecting to the last byte of its answer.
    :param network: the way to the host.
    """

    def __init__(self, timeout: float, network: Network) -> None:
        self._timeout = timeout
        self._network = network
        self._proxies = {"all": network.proxy.url} if network.proxy else {}
        self._watchdog = _Watchdog(timeout)
        self._local = threading.local()

    def exchange(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any],
        json: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        auth: AuthBase,
        largest: int,
        over_at: float = math.inf,
    ) -> Exchange:
        """
        Make one request; failures are returned, not raised.

        :param method: the HTTP method.
        :param url: the URL without a query.
        :param params: the query.
        :param json: the body.
        :param headers: the headers, without the authorisation.
        :param auth: sets the authorisation.
        :param largest: bytes of the answer's body beyond which it is not read.
        :param over_at: seconds of the monotonic clock after which the request is not begun.
        :raises SlotMissed: if that time came before the first byte was sent; nothing was sent.
        """
        http = self._session()
        try:
            prepared = _Prepared()
            # As the session would, which takes twice as long to merge what it does not have.
            prepared.prepare(
                method, url, {**http.headers, **headers}, params=params, auth=auth, cookies=http.cookies, json=json
            )
            note = _notes.note = _Note(tls=self._network.tls, over_at=over_at)
        except Exception as error:
            return Exchange(Phase.NOT_CONNECTED, error=error_name(error))
        note.check_slot()  # before the connection is touched, which can be used for another slot
        whole = False
        try:
            self._watchdog.watch(note)
            with http.send(
                prepared, timeout=self._timeout, allow_redirects=False, stream=True, proxies=self._proxies
            ) as response:
                body = _read_body(response, largest)
                given = {name.lower(): value for name, value in response.headers.items()}
                if note.was_cut:
                    raise TimeoutError
                if response.status_code < 200:
                    raise _InterimAnswer
                whole = response.status_code not in _WITHOUT_BODY
                return Exchange(Phase.ANSWERED, Answer(response.status_code, given, body))
        except SlotMissed:
            raise
        except Exception as error:
            # For any error: once the first byte was sent, Sendoso may have acted on the request.
            return Exchange(note.phase or phase_of(error), error="Timeout" if note.was_cut else error_name(error))
        finally:
            self._watchdog.forget(note)
            if not whole:
                # Late bytes on this connection would be read as the answer to the next request.
                http.close()
            self._local.last_used = time.monotonic()

    def open_ahead(self, url: str, used_in: float = 0.0, *, post: bool = True) -> None:
        """
        Open the connection of this thread's next request, so that only the request is left when its time has come.

        If opening it fails, or it is too old in the end, the request opens one itself.

        :param url: the host's URL.
        :param used_in: seconds until the request.
        :param post: whether the request is a POST, whose connection no request has used.
        """
        adapter = self._session().get_adapter(url)
        if not isinstance(adapter, _NotingAdapter):
            return
        note: _Note | None = None
        with suppress(Exception):  # the POST reports what is wrong
            note = _notes.note = _Note(tls=self._network.tls)
            self._watchdog.watch(note)
            adapter.open(url, self._proxies, min(self._timeout, _CONNECTING), used_in, post=post)
        if note is not None:
            self._watchdog.forget(note)

    def close(self) -> None:
        """Close this thread's connections."""
        self._session().close()

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
            self._local.http.trust_env = False
            for scheme in ("http://", "https://"):
                self._local.http.mount(scheme, _NotingAdapter(self._network))
        elif time.monotonic() - self._local.last_used > _IDLE:
            self._local.http.close()
        self._local.last_used = time.monotonic()
        http: requests.Session = self._local.http
        return http


@dataclass(eq=False)
class _Note:
    """The current request of a thread, shared with its connection, which records how far it got."""

    query: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    phase: Phase | None = None
    sock: socket.socket | None = None
    was_cut: bool = False
    over_at: float = math.inf

    def check_slot(self) -> None:
        """Raise if the time to begin the request is over."""
        if self.phase is not Phase.LOST and time.monotonic() > self.over_at:
            raise SlotMissed

    def cut(self) -> None:
        """End the request from another thread: its reads and writes fail at once."""
        self.was_cut = True
        if self.sock is not None:
            with suppress(OSError):  # it may have ended by itself
                self.sock.shutdown(socket.SHUT_RDWR)


class _Watchdog:
    """
    Ends requests that exceed the timeout. One thread serves all: a timer for each would cost half as much as sending
    it.

    :param timeout: seconds, the same for every request, so that requests are due in the order in which they began.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._due: dict[_Note, float] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, note: _Note) -> None:
        """End this request when its time is over."""
        with self._changed:
            self._due[note] = time.monotonic() + self._timeout
            if self._thread is None or not self._thread.is_alive():  # or not in this process: it was forked
                self._thread = threading.Thread(target=self._run, name="sendoso-watchdog", daemon=True)
                self._thread.start()
            elif len(self._due) == 1:
                self._changed.notify()

    def forget(self, note: _Note) -> None:
        """Stop watching a request, because it is over."""
        with self._changed:
            self._due.pop(note, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due:
                    self._changed.wait()
                note, due = next(iter(self._due.items()))
                wait = due - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                del self._due[note]
                # While holding the lock: after ``forget`` returns, the connection may serve another request.
                note.cut()


_notes = threading.local()


class _Noting:
    """A connection that records whether it was still connecting or already writing the request; no POST reuses one."""

    sock: Any
    _used = False
    _opened_at = 0.0

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        if method == "POST" and self._used:
            # Bytes that a server or a proxy has written since the last answer would be read as this request's answer.
            self.close()  # type: ignore[attr-defined]
        query: str = _notes.note.query
        super().request(method, f"{url}?{query}" if query else url, *args, **kwargs)  # type: ignore[misc]

    def connect(self) -> None:
        note: _Note = getattr(_notes, "note", None) or _Note()
        note.phase = Phase.NOT_CONNECTED
        try:
            super().connect()  # type: ignore[misc]
        finally:
            # Bytes sent to a proxy or in a TLS handshake are not yet the request.
            note.phase = Phase.NOT_CONNECTED
        self._used, self._opened_at = False, time.monotonic()

    def is_fresh(self, used_in: float = 0.0) -> bool:
        """
        Whether a POST can use the connection: no request has used it, it is young, and nothing has come on it.

        :param used_in: seconds until its use.
        """
        young = time.monotonic() + used_in - self._opened_at < _IDLE
        return not self._used and young and self.is_connected

    @property
    def is_connected(self) -> bool:
        """Whether the connection is open and nothing has come on it; urllib3 asks this before each request."""
        if self.sock is None or (not self._used and time.monotonic() - self._opened_at > _IDLE):
            return False
        if not isinstance(self.sock, ssl.SSLSocket):
            return bool(super().is_connected)  # type: ignore[misc]
        # A TLS server sends session tickets by itself, and to read is to process them. Anything else is data or an end.
        patience = self.sock.gettimeout()
        try:
            self.sock.settimeout(0)
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except (OSError, ValueError):
            return False
        finally:
            with suppress(OSError):
                self.sock.settimeout(patience)
        return False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        note: _Note = getattr(_notes, "note", None) or _Note()
        note.sock = self.sock
        if note.was_cut and note.phase is not Phase.LOST:
            raise TimeoutError  # the time was over before the first byte was sent
        note.check_slot()
        note.phase, self._used = Phase.LOST, True
        super().send(data)  # type: ignore[misc]


class _NotingHTTPConnection(_Noting, HTTPConnection):
    pass


class _NotingHTTPSConnection(_Noting, HTTPSConnection):
    def connect(self) -> None:
        # Instead of what requests names, which urllib3 would read again for each connection.
        self.ca_certs = self.ca_cert_dir = None
        self.ssl_context = _notes.note.tls
        if self.proxy_config is not None:
            self.proxy_config = self.proxy_config._replace(ssl_context=self.ssl_context)
        super().connect()


class _NotingHTTPPool(HTTPConnectionPool):
    ConnectionCls = _NotingHTTPConnection


class _NotingHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _NotingHTTPSConnection


_POOLS = {"http": _NotingHTTPPool, "https": _NotingHTTPSPool}


class _NotingAdapter(HTTPAdapter):
    def __init__(self, network: Network) -> None:
        self._network = network
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        # The phase until a connection sets it, for errors that come before.
        _notes.note.phase = Phase.NOT_CONNECTED
        # urllib3 logs the URL, and its errors quote it: the query may be a token, or name a person.
        request.url, _, _notes.note.query = (request.url or "").partition("?")
        return super().send(request, *args, **kwargs)

    def open(self, url: str, proxies: Mapping[str, str], timeout: float, used_in: float, *, post: bool) -> None:
        """Open the connection that the next request to this host takes."""
        pool: Any = self.get_connection_with_tls_context(_to(url), True, proxies=dict(proxies))
        self.cert_verify(pool, url, True, None)  # type: ignore[no-untyped-call]
        connection = pool._get_conn()
        try:
            if connection.is_fresh(used_in) if post else connection.is_connected:
                return
            connection.close()
            connection.timeout = timeout
            if pool.proxy is None:
                connection.connect()
            else:
                pool._prepare_proxy(connection)
        except BaseException:
            connection.close()
            raise
        finally:
            pool._put_conn(connection)

    def proxy_headers(self, proxy: Any) -> dict[str, str]:
        return dict(self._network.proxy.headers) if self._network.proxy else {}

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _Prepared(requests.PreparedRequest):
    """A request whose URL is parsed once: every send has the same, and parsing it takes as long as all the rest."""

    def prepare_url(self, url: Any, params: Any) -> None:
        if params:
            super().prepare_url(url, params)
        else:
            self.url = _to(url).url


@lru_cache(maxsize=64)
def _to(url: str) -> requests.PreparedRequest:
    """Make a request that names only a URL: once, because preparing it takes as long as preparing a send."""
    return requests.Request("GET", url).prepare()


_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})\b")
"""What http.client says, before it quotes the proxy."""

_BEFORE_THE_FIRST_BYTE = (
    requests.exceptions.ConnectTimeout,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ProxyError,
)


def phase_of(error: BaseException) -> Phase:
    """
    Return how far a request got that no connection has recorded: not connected only if the error proves it.

    :param error: the error that ``requests`` raised.
    """
    return Phase.NOT_CONNECTED if any(isinstance(e, _BEFORE_THE_FIRST_BYTE) for e in _wrapped(error)) else Phase.LOST


def _read_body(response: requests.Response, largest: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > largest:
            raise requests.exceptions.ContentDecodingError("the answer is too large")
    return bytes(body)


def _wrapped(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those it explicitly wraps; ``__context__`` is not followed, it could be another request's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((e for e in inner if isinstance(e, BaseException)), None)


def error_name(error: BaseException) -> str:
    """
    Return the name of an error's class alone: an error's text could hold the URL or a proxy's credentials.

    :param error: the error; of those that it wraps, the innermost is named.
    """
    innermost = list(_wrapped(error))[-1]
    refused = _TUNNEL_REFUSED.match(str(innermost))
    return proxy_answered(int(refused[1])) if refused else type(innermost).__name__


def proxy_answered(status: int) -> str:
    """
    Describe a proxy's refusal to connect.

    :param status: the HTTP status of the proxy's answer.
    """
    return f"the proxy answered {status} to CONNECT"
