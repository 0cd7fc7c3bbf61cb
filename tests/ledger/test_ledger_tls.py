"""The TLS settings of the ledger's connection are applied, as Airflow's own hook applies them."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import mysql_server
import pgbouncer
import pytest
from certificates import self_signed
from ports import free_ports

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook


@pytest.fixture(params=["json", "uri"])
def set_ledger(
    request: pytest.FixtureRequest, set_connection: Callable[..., None], sendoso: Any
) -> Callable[..., None]:
    """Sets a PostgreSQL ledger's connection, as JSON and as a URI."""

    def set_it(port: int, schema: str = "ledger", host: str = "127.0.0.1", **extra: str) -> None:
        if request.param == "uri":
            set_connection(
                "sendoso_ledger", f"postgres://any:s3cret@{host}:{port}/{schema}?{urlencode(extra, quote_via=quote)}"
            )
            return
        fields = {"conn_type": "postgres", "host": host, "port": port, "login": "any", "password": "s3cret"}
        set_connection("sendoso_ledger", fields | {"schema": schema, "extra": json.dumps(extra)})

    return set_it


@pytest.fixture
def in_the_clear() -> Iterator[tuple[int, list[bytes]]]:
    """A server without TLS: its port, and what clients have sent it besides asking for TLS."""
    received: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.settimeout(5)
                if client.recv(8)[4:] == b"\x04\xd2\x16\x2f":
                    client.sendall(b"N")
                    received.append(client.recv(1024))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], received


@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
def test_no_login_is_sent_to_a_server_without_the_tls_that_the_connection_requires(
    set_ledger: Callable[..., None], in_the_clear: tuple[int, list[bytes]], sslmode: str
) -> None:
    port, received = in_the_clear
    set_ledger(port, sslmode=sslmode)
    with pytest.raises(SendosoLedgerError, match="SSL"):
        assert SendosoHook().ledger
    assert received
    assert set(received) == {b""}


@pytest.fixture
def over_tls(postgres_socket_dir: str, postgres_database: Callable[[], Any]) -> Iterator[tuple[int, str, Path]]:
    """A PostgreSQL behind TLS alone: its port, its database, and the certificate that it shows."""
    program = pgbouncer.find_pooler()
    if program is None:
        pytest.skip("There is no PgBouncer; install pgbouncer.")
    with tempfile.TemporaryDirectory(prefix="tls-") as name:
        folder = Path(name)
        shown = self_signed(folder / "server.pem", "localhost")
        folder.chmod(0o755)  # the server is another user's
        settings = f"auth_type = any\nclient_tls_sslmode = require\nclient_tls_cert_file = {shown}\n"
        settings += f"client_tls_key_file = {shown}\n"
        with pgbouncer.running(program, postgres_socket_dir, settings) as pooler:
            yield pooler.port, postgres_database().name, shown


def test_the_certificate_of_the_server_is_checked_against_the_root_certificate_of_the_connection(
    set_ledger: Callable[..., None], over_tls: tuple[int, str, Path], tmp_path: Path
) -> None:
    port, schema, shown = over_tls
    set_ledger(
        port,
        schema,
        "localhost",
        sslmode="verify-full",
        sslrootcert=str(self_signed(tmp_path / "another.pem", "localhost")),
    )
    with pytest.raises(SendosoLedgerError, match="certificate verify failed"):
        assert SendosoHook().ledger
    set_ledger(port, schema, "127.0.0.1", sslmode="verify-full", sslrootcert=str(shown))
    with pytest.raises(SendosoLedgerError, match=r"certificate|does not match"):
        assert SendosoHook().ledger
    set_ledger(port, schema, "localhost", sslmode="verify-full", sslrootcert=str(shown))
    assert SendosoHook().ledger.identity.ledger_uuid


def test_a_key_of_the_extra_that_the_driver_does_not_know_is_refused_by_name(
    set_ledger: Callable[..., None], over_tls: tuple[int, str, Path]
) -> None:
    port, schema, _ = over_tls
    set_ledger(port, schema, sslmod="verify-full")
    with pytest.raises(SendosoConfigError, match=r"sslmod.*nothing was sent") as caught:
        assert SendosoHook().ledger
    assert "s3cret" not in str(caught.value)


@pytest.fixture(scope="module")
def mariadb_over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str, Path]]:
    """A MariaDB or MySQL that offers TLS: its port, a database, and the certificate that it shows."""
    program = mysql_server.find_server()
    if program is None:
        pytest.skip(f"There is no MySQL server; {mysql_server.INSTALL}.")
    shown = self_signed(tmp_path_factory.mktemp("mysql-tls") / "server.pem", "localhost")
    (port,) = free_ports()
    with mysql_server.running(program, f"--port={port}", f"--ssl-cert={shown}", f"--ssl-key={shown}") as server:
        yield port, mysql_server.make_database(server).name, shown


CLIENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "pymysql": lambda ca: {"ssl": {"ca": str(ca), "check_hostname": True}},
    "mysql-connector-python": lambda ca: {"ssl_ca": str(ca), "ssl_verify_cert": True, "ssl_verify_identity": True},
}


@pytest.mark.parametrize("client", CLIENTS)
def test_the_certificate_of_mysql_is_checked_as_each_driver_is_asked_to(
    set_connection: Callable[..., None],
    sendoso: Any,
    mariadb_over_tls: tuple[int, str, Path],
    tmp_path: Path,
    client: str,
) -> None:
    port, schema, shown = mariadb_over_tls

    def opened(host: str, ca: Path) -> str:
        fields = {"conn_type": "mysql", "host": host, "port": port, "login": "root", "schema": schema}
        set_connection("sendoso_ledger", fields | {"extra": json.dumps({"client": client, **CLIENTS[client](ca)})})
        return str(SendosoHook().ledger.identity.ledger_uuid)

    with pytest.raises(SendosoLedgerError, match="CERTIFICATE_VERIFY_FAILED"):
        opened("localhost", self_signed(tmp_path / "another.pem", "localhost"))
    with pytest.raises(SendosoLedgerError, match=r"CERTIFICATE_VERIFY_FAILED|mismatch|match"):
        opened("127.0.0.1", shown)
    assert opened("localhost", shown)


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"client": "mysqlclient", "ssl": {"ca": "/ca.pem", "check_hostname": True}}, "check_hostname"),
        ({"ssl": {"ca": "/ca.pem", "verify_mode": "required"}}, "verify_mode"),
        ({"client": "pymysql", "ssl": {"CA": "/ca.pem"}}, "CA"),
        ({"client": "pymysql", "ssl": {"ca": "/ca.pem", "checkHostname": True}}, "checkHostname"),
        ({"client": "pymysql", "ssl": json.dumps({"ssl_ca": "/ca.pem"})}, "ssl_ca"),
    ],
)
def test_a_check_that_mysqls_driver_would_leave_out_is_refused_by_name(
    set_connection: Callable[..., None], sendoso: Any, extra: dict[str, Any], name: str
) -> None:
    fields = {"conn_type": "mysql", "host": "127.0.0.1", "login": "any", "password": "s3cret", "schema": "ledger"}
    set_connection("sendoso_ledger", fields | {"extra": json.dumps(extra)})
    with pytest.raises(SendosoConfigError, match=f"'{name}' in the ssl of its extra.*Nothing was sent") as caught:
        assert SendosoHook().ledger
    assert "s3cret" not in str(caught.value)


def test_a_sqlite_ledger_in_the_root_directory_is_refused(set_connection: Callable[..., None], sendoso: Any) -> None:
    set_connection("sendoso_ledger", "sqlite:///ledger.db")
    with pytest.raises(SendosoConfigError, match="absolute path"):
        assert SendosoHook().ledger


@pytest.mark.parametrize("was", [None, 0o644, 0o664])
def test_a_sqlite_ledger_is_readable_by_its_owner_alone(
    set_connection: Callable[..., None], sendoso: Any, tmp_path: Path, was: int | None
) -> None:
    """The file holds the hash key. A group that may write to it keeps its access, for two users who share a ledger."""
    path = tmp_path / "ledger.db"
    if was is not None:
        path.touch(was)
        path.chmod(was)
    set_connection("sendoso_ledger", {"conn_type": "sqlite", "host": str(path)})
    ledger = SendosoHook().ledger
    assert ledger.sends.scopes("account") == []
    modes = {file.stat().st_mode & 0o777 for file in tmp_path.iterdir() if file.name.startswith("ledger.db")}
    assert modes == {0o660 if was == 0o664 else 0o600}
