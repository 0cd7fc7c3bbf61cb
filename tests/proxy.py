"""A proxy that logs its requests, and a TLS front for a server without TLS, on real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

LOCALHOST = "127.0.0.1"


class _Server:
    """Accepts connections, each in a thread of its own."""

    def __init__(self, certificate: Path | None) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls:
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server((LOCALHOST, 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._begin, args=(connection,), daemon=True).start()

    def _begin(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._open.append(connection)
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def _join(self, one: socket.socket, other: socket.socket, replace: tuple[bytes, bytes] | None = None) -> None:
        """Carry bytes both ways until either side closes."""
        self._open.append(other)
        back = threading.Thread(target=_carry, args=(other, one, None), daemon=True)
        back.start()
        _carry(one, other, replace)
        back.join()

    def close(self) -> None:
        for open_socket in (self._listener, *self._open):
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()


def _carry(source: socket.socket, target: socket.socket, replace: tuple[bytes, bytes] | None) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk.replace(*replace) if replace else chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


class TlsFront(_Server):
    """
    Stands before a plain server under a name of its own, as a company's gateway does.

    :param certificate: key and certificate, for that name.
    :param host: the name.
    :param port: of the server behind it, which is told that it is asked by its own address.
    """

    def __init__(self, certificate: Path, host: str, port: int) -> None:
        self._behind = port
        self._rename = (f"Host: {host}".encode(), f"Host: {LOCALHOST}:{port}".encode())
        super().__init__(certificate)

    def _serve(self, connection: socket.socket) -> None:
        with socket.create_connection((LOCALHOST, self._behind)) as behind:
            self._join(connection, behind, self._rename)


class LoggingProxy(_Server):
    """
    A CONNECT proxy that logs everything that it can read.

    :param routes: names that it knows, each with the port on loopback that they are to be found at.
    :param certificate: to be spoken to over TLS.
    :param answer: what it says instead of making a connection.
    """

    def __init__(self, routes: dict[str, int], certificate: Path | None = None, answer: bytes = b"") -> None:
        self._routes = routes
        self._answer = answer
        self.log: list[str] = []
        self._scheme = "https" if certificate else "http"
        super().__init__(certificate)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{LOCALHOST}:{self.port}"

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{self._scheme}://{self.address}"

    @property
    def lines(self) -> list[str]:
        """The request lines, without the version of HTTP."""
        return [entry.splitlines()[0].rpartition(" ")[0] for entry in self.log]

    def _serve(self, connection: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            chunk = connection.recv(65536)
            if not chunk:
                return
            asked += chunk
        self.log.append(asked.decode())
        method, target, *_ = asked.decode().split()
        if self._answer or method != "CONNECT":
            connection.sendall(self._answer or b"HTTP/1.1 405 CONNECT only\r\nContent-Length: 0\r\n\r\n")
            connection.close()
            return
        with socket.create_connection((LOCALHOST, self._routes[target.partition(":")[0]])) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._join(connection, far)
