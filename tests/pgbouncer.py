"""A PgBouncer from Debian's packages in front of the tests' PostgreSQL, as a pooler or as a TLS server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import debian
from ports import free_ports


@dataclass(frozen=True)
class Pooler:
    """
    A running PgBouncer.

    :param port: on 127.0.0.1.
    :param log: what it says.
    """

    port: int
    log: Path


def find_pooler() -> Path | None:
    """Find the program, or fetch it where there is apt; ``None`` where there is neither."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = shutil.which("pgbouncer", path=path)
    if found:
        return Path(found)
    return debian.fetch("pgbouncer", "pgbouncer") / "usr" / "sbin" / "pgbouncer" if debian.has_apt() else None


@contextmanager
def running(program: Path, socket_dir: str, settings: str, users: str = "") -> Iterator[Pooler]:
    """
    Run it in front of a PostgreSQL.

    :param socket_dir: of the PostgreSQL.
    :param settings: lines of its section ``[pgbouncer]``.
    :param users: lines of its list of users.
    """
    with tempfile.TemporaryDirectory(prefix="pgbouncer-", ignore_cleanup_errors=True) as name:
        folder, environment = Path(name), dict(os.environ)
        folder.chmod(0o755)
        if program.is_relative_to(debian.ENVIRONMENT):
            environment["LD_LIBRARY_PATH"] = debian.library_path(program.parents[2])
        pooler = Pooler(free_ports()[0], folder / "log")
        (folder / "users").write_text(users)
        (folder / "ini").write_text(
            f"[databases]\n* = host={socket_dir} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {pooler.port}\nunix_socket_dir =\nauth_file = {folder}/users\n{settings}\n"
        )
        # It refuses to run as root, and must get at the socket.
        as_whom = Path(socket_dir).stat().st_uid if os.geteuid() == 0 else None
        with pooler.log.open("w") as output:
            process = subprocess.Popen(
                [program, folder / "ini"], env=environment, stdout=output, stderr=output, user=as_whom
            )
        try:
            while not _answers(pooler.port):
                if process.poll() is not None:
                    raise RuntimeError(f"PgBouncer did not start: {pooler.log.read_text()}")
                time.sleep(0.02)
            yield pooler
        finally:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True
