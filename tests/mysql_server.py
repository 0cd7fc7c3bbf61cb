"""A MySQL or MariaDB server for the tests: the machine's, or Debian's packages, unpacked and not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import debian
from ports import free_ports
from sqlalchemy import create_engine, text

_SYSTEM_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
INSTALL = "install MariaDB or MySQL (mariadb-server, mysql-server, brew install mariadb)"


def find_server() -> Path | None:
    """
    Find the server's program, or fetch it where there is apt; nothing is installed, and root is not needed.

    :return: ``None`` where there is neither.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    found = shutil.which("mariadbd", path=path) or shutil.which("mysqld", path=path)
    if found:
        return Path(found)
    if not debian.has_apt():
        return None
    try:
        return debian.fetch("mariadb", "mariadb-server-core") / "usr" / "sbin" / "mariadbd"
    except RuntimeError as error:
        raise RuntimeError(f"No MySQL server for the tests; {INSTALL}. {error}") from None


@contextmanager
def running(server: Path, *options: str, with_rights: bool = False) -> Iterator[str]:
    """Run the server on an empty database, without passwords; yields its socket. Everybody may do all, unless asked."""
    with tempfile.TemporaryDirectory(prefix="mysql-", ignore_cleanup_errors=True) as name:
        folder, environment = Path(name), dict(os.environ)
        for place in ("data", "tmp"):
            (folder / place).mkdir()
        # A temporary folder of its own, because a server that starts deletes all temporary tables in its folder.
        command = [str(server), "--no-defaults", f"--datadir={folder}/data", f"--tmpdir={folder}/tmp"]
        if os.geteuid() == 0:
            command.append("--user=root")
        if server.is_relative_to(debian.ENVIRONMENT):
            unpacked = server.parents[2]
            command.append(f"--basedir={unpacked}/usr")
            environment["LD_LIBRARY_PATH"] = debian.library_path(unpacked)
        # MariaDB needs no system tables where nobody's rights are looked up; MySQL cannot do without them.
        if "MariaDB" not in debian.run([*command, "--version"], environment):
            debian.run([*command, "--initialize-insecure"], environment)
        elif with_rights:
            scripts = (server.parents[1] / "share/mysql" / name for name in _SYSTEM_TABLES)
            tables = "CREATE DATABASE mysql;\nUSE mysql;\n" + "\n".join(script.read_text() for script in scripts)
            debian.run([*command, "--bootstrap"], environment, tables)
        command += [] if with_rights else ["--skip-grant-tables"]
        command += [f"--socket={folder}/socket", f"--pid-file={folder}/pid"]
        command += ["--bind-address=127.0.0.1", f"--port={free_ports()[0]}"]
        # These databases outlive nothing: the disk is not waited for.
        command += ["--skip-log-bin", "--innodb-flush-log-at-trx-commit=2", *options]
        log = folder / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            while not _answers(folder / "socket"):
                if process.poll() is not None:
                    raise RuntimeError(f"{server} did not start: {log.read_text()}")
                time.sleep(0.02)
            yield f"{folder}/socket"
            if process.poll() is not None:
                warnings.warn(f"{server} ended with {process.returncode}: {log.read_text()[-4000:]}", stacklevel=1)
        finally:
            process.kill()
            process.wait()


class Restarting:
    """A server that is started when it is first needed, and again if it has died: one death fails one test, not all."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._running = ExitStack()
        self._socket: str | None = None

    def socket(self) -> str:
        """Return the socket of a server that answers."""
        if self._socket is None or not self.answers():
            self._running.close()  # says why it has ended
            self._socket = self._running.enter_context(running(self._server))
        return self._socket

    def answers(self) -> bool:
        """Say whether the server that was last started still answers."""
        return self._socket is not None and _answers(Path(self._socket))

    def stop(self) -> None:
        """Stop the server."""
        self._running.close()


@dataclass(frozen=True)
class MysqlDatabase:
    """An empty database of the tests' server, which listens on a Unix socket."""

    socket: str
    name: str

    @property
    def connection(self) -> dict[str, Any]:
        """The database as an Airflow connection."""
        extra = {"client": "pymysql", "unix_socket": self.socket}
        return {"conn_type": "mysql", "host": "localhost", "login": "root", "schema": self.name, "extra": extra}

    @property
    def url(self) -> str:
        return f"mysql+pymysql://root@localhost/{self.name}?unix_socket={self.socket}"


def make_database(socket: str) -> MysqlDatabase:
    """Make an empty database of the server behind a socket."""
    database = MysqlDatabase(socket, f"test_{uuid.uuid4().hex}")
    admin = create_engine(MysqlDatabase(socket, "").url)
    with admin.begin() as connection:
        connection.execute(text(f"CREATE DATABASE {database.name}"))
    admin.dispose()
    return database


def _answers(path: Path) -> bool:
    """Say whether somebody listens on a socket, which is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
