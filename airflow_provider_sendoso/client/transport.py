"""One request over ``requests``: never repeated, never redirected, over in time, and it is known how far it got.

Whether a failed POST may be made again depends on one fact: had its first byte left? The exception alone does not say,
so the connection itself keeps a note of it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase

LARGEST_BODY = 32 * 1024 * 1024

_IDLE = 2.0
"""Seconds after which a kept connection is not used again: the far side may have closed it."""


_WITHOUT_BODY = (204, 304)
"""Statuses after which ``http.client`` expects no body, whatever the far side goes on to write."""


class _InterimAnswer(Exception):
    """The far side answered with a 1xx status; its final answer is still to come."""


class Transport:
    """
    Makes requests; one connection per thread that uses it.

    :param timeout: seconds that a request may take, from connecting to the last byte of its answer.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
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
    ) -> Exchange:
        """
        Make one request; no failure is raised.

        :param method: of HTTP.
        :param url: without a query.
        :param params: the query.
        :param json: the body.
        :param headers: besides the authorisation.
        :param auth: sets the authorisation.
        """
        http = self._session()
        try:
            prepared = http.prepare_request(
                requests.Request(method, url, params=params, json=json, headers=headers, auth=auth)
            )
            settings = self._settings(http, url)
        except Exception as error:
            return Exchange(Phase.NOT_CONNECTED, error=_name(error))
        note = _notes.note = _Note()
        whole = False
        try:
            self._watchdog.watch(note)
            with http.send(prepared, timeout=self._timeout, allow_redirects=False, **settings) as response:
                body = _read_body(response)
                given = {name.lower(): value for name, value in response.headers.items()}
                if note.was_cut:
                    raise TimeoutError
                if response.status_code < 200:
                    raise _InterimAnswer
                whole = response.status_code not in _WITHOUT_BODY
                return Exchange(Phase.ANSWERED, Answer(response.status_code, given, body))
        except Exception as error:
            # Whatever it is: once the first byte has left, the far side may have acted on the request.
            return Exchange(note.phase or phase_of(error), error="Timeout" if note.was_cut else _name(error))
        finally:
            self._watchdog.forget(note)
            if not whole:
                # Bytes that still arrive on this connection would be read as the answer to the next request on it.
                http.close()
            self._local.last_used = time.monotonic()

    def close(self) -> None:
        """Close this thread's connections."""
        self._session().close()

    def _settings(self, http: requests.Session, url: str) -> dict[str, Any]:
        """Proxy and certificates as the environment has them; looked up once for a series of requests to a host."""
        scheme, _, host, *_ = url.split("/", 3)
        if (scheme, host) not in self._local.settings:
            found = http.merge_environment_settings(url, {}, True, None, None)
            self._local.settings[scheme, host] = dict(found)
        settings: dict[str, Any] = self._local.settings[scheme, host]
        return settings

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
            for scheme in ("http://", "https://"):
                self._local.http.mount(scheme, _NotingAdapter(max_retries=0))
            self._local.settings = {}
        elif time.monotonic() - self._local.last_used > _IDLE:
            self._local.http.close()
            self._local.settings = {}
        self._local.last_used = time.monotonic()
        http: requests.Session = self._local.http
        return http


@dataclass(eq=False)
class _Note:
    """How far the request of this thread got."""

    phase: Phase | None = None
    sock: socket.socket | None = None
    was_cut: bool = False

    def cut(self) -> None:
        """End it, from another thread: whoever is reading or writing fails at once."""
        self.was_cut = True
        if self.sock is not None:
            with suppress(OSError):  # it may have ended by itself
                self.sock.shutdown(socket.SHUT_RDWR)


class _Watchdog:
    """
    Ends requests whose time is over; one thread for all of them, for a timer each costs half of what sending one does.

    :param timeout: seconds, the same for every request, so that the first one in is the first one due.
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
        """Leave this request alone, from here on: it is over."""
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
                # Before anybody is told to forget it: its connection may serve another request after that.
                note.cut()


_notes = threading.local()


class _Noting:
    """A connection that notes whether it was being made, or a request was being written; a POST has one of its own."""

    sock: Any
    _used = False

    def request(self, method: str, *args: Any, **kwargs: Any) -> None:
        if method == "POST" and self._used:
            # Whatever the far side or a proxy has written on it since the last answer would be read as this one's.
            self.close()  # type: ignore[attr-defined]
        self._used = True
        super().request(method, *args, **kwargs)  # type: ignore[misc]

    def connect(self) -> None:
        note: _Note = getattr(_notes, "note", None) or _Note()
        note.phase = Phase.NOT_CONNECTED
        try:
            super().connect()  # type: ignore[misc]
        finally:
            # Also what was said to a proxy and in a TLS handshake was not yet the request.
            note.phase = Phase.NOT_CONNECTED

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        note: _Note = getattr(_notes, "note", None) or _Note()
        note.sock = self.sock
        if note.was_cut and note.phase is not Phase.LOST:
            raise TimeoutError  # the time was over before the first byte left
        note.phase = Phase.LOST
        super().send(data)  # type: ignore[misc]


class _NotingHTTPConnection(_Noting, HTTPConnection):
    pass


class _NotingHTTPSConnection(_Noting, HTTPSConnection):
    pass


class _NotingHTTPPool(HTTPConnectionPool):
    ConnectionCls = _NotingHTTPConnection


class _NotingHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _NotingHTTPSConnection


_POOLS = {"http": _NotingHTTPPool, "https": _NotingHTTPSPool}


class _NotingAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        # Until a connection says otherwise: a CA bundle that is missing, or a proxy that makes no sense.
        _notes.note.phase = Phase.NOT_CONNECTED
        return super().send(*args, **kwargs)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_BEFORE_THE_FIRST_BYTE = (
    requests.exceptions.ConnectTimeout,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ProxyError,
)


def phase_of(error: BaseException) -> Phase:
    """
    Say how far a request got of which no connection kept a note: not connected only where the error proves it.

    :param error: what ``requests`` raised.
    """
    return Phase.NOT_CONNECTED if any(isinstance(e, _BEFORE_THE_FIRST_BYTE) for e in _wrapped(error)) else Phase.LOST


def _read_body(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(64 * 1024):
        body += chunk
        if len(body) > LARGEST_BODY:
            raise requests.exceptions.ContentDecodingError("the answer is too large")
    return bytes(body)


def _wrapped(error: BaseException | None) -> Iterator[BaseException]:
    """Walk from an error to what it explicitly wraps; ``__context__`` could belong to another request."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((e for e in inner if isinstance(e, BaseException)), None)


def _name(error: BaseException) -> str:
    """Name the innermost error; its text may hold the URL or a proxy's credentials."""
    return type(list(_wrapped(error))[-1]).__name__
