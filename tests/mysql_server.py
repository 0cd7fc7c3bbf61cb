"""A MySQL or MariaDB server of the tests' own: the machine's, or Debian's packages, unpacked and not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

INSTALL = "install MariaDB or MySQL (mariadb-server, mysql-server, brew install mariadb)"

_FETCHED = Path(sys.prefix) / "mariadb"
"""In the virtual environment: fetched once, and gone with it."""


def find_server() -> Path | None:
    """
    Find the server's program, or fetch it where there is apt; nothing is installed, and root is not needed.

    :return: ``None`` where there is neither.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    found = shutil.which("mariadbd", path=path) or shutil.which("mysqld", path=path)
    if found:
        return Path(found)
    if not shutil.which("apt-get"):
        return None
    if not _FETCHED.exists():
        _fetch()
    return _FETCHED / "usr" / "sbin" / "mariadbd"


@contextmanager
def running(server: Path) -> Iterator[str]:
    """Run the server on an empty database, without users and passwords; yields its socket."""
    with tempfile.TemporaryDirectory(prefix="mysql-", ignore_cleanup_errors=True) as name:
        folder, environment = Path(name), dict(os.environ)
        (folder / "data").mkdir()
        command = [str(server), "--no-defaults", f"--datadir={folder}/data"]
        if os.geteuid() == 0:
            command.append("--user=root")
        if server.is_relative_to(_FETCHED):
            command.append(f"--basedir={_FETCHED}/usr")
            libraries = {str(library.parent) for library in _FETCHED.rglob("*.so.*")}
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(sorted(libraries))
        # MariaDB needs no system tables where nobody's rights are looked up; MySQL cannot do without them.
        if "MariaDB" not in _run([*command, "--version"], environment):
            _run([*command, "--initialize-insecure"], environment)
        command += ["--skip-grant-tables", f"--socket={folder}/socket", f"--pid-file={folder}/pid"]
        command += ["--bind-address=127.0.0.1", f"--port={_free_port()}"]
        # These databases outlive nothing: the disk is not waited for.
        command += ["--skip-log-bin", "--innodb-flush-log-at-trx-commit=0"]
        log = folder / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            while not (folder / "socket").exists():
                if process.poll() is not None:
                    raise RuntimeError(f"{server} did not start: {log.read_text()}")
                time.sleep(0.02)
            yield f"{folder}/socket"
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port: int = listening.getsockname()[1]
        return port


def _fetch() -> None:
    with tempfile.TemporaryDirectory(dir=_FETCHED.parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for place in ("lists/partial", "cache/archives/partial"):
            (folder / place).mkdir(parents=True)
        # With lists and a cache of its own, apt needs neither root nor an `apt-get update` of the machine's.
        apt = ["apt-get", "--yes", "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root"]
        apt += ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        _run([*apt, "update"])
        _run([*apt, "install", "--download-only", "--no-install-recommends", "mariadb-server-core"])
        for package in (folder / "cache" / "archives").glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(folder / "unpacked")])
        try:
            (folder / "unpacked").rename(_FETCHED)
        except OSError:
            if not _FETCHED.exists():  # if it does, another session was faster
                raise


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"No MySQL server for the tests; {INSTALL}. {' '.join(command)}: {done.stdout}")
    return done.stdout
