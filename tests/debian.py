"""Programs of Debian's packages for the tests: fetched into the virtual environment, unpacked, and not installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ENVIRONMENT = Path(sys.prefix)
"""The virtual environment: what is fetched is fetched once, and gone with it."""


def has_apt() -> bool:
    """Say whether this machine knows Debian's packages."""
    return shutil.which("apt-get") is not None


def fetch(name: str, *packages: str) -> Path:
    """
    Fetch packages and what they depend on and this machine does not have; root is not needed.

    :param name: of the folder in the virtual environment.
    :return: the folder, with ``usr`` in it.
    :raises RuntimeError: if apt cannot do it.
    """
    fetched = ENVIRONMENT / name
    if fetched.exists():
        return fetched
    with (ENVIRONMENT / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the tests may be fetching them
        return fetched if fetched.exists() else _fetch(fetched, *packages)


def _fetch(fetched: Path, *packages: str) -> Path:
    with tempfile.TemporaryDirectory(dir=ENVIRONMENT, ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        for place in ("lists/partial", "cache/archives/partial"):
            (folder / place).mkdir(parents=True)
        # With lists and a cache of its own, apt needs neither root nor an `apt-get update` of the machine's.
        apt = ["apt-get", "--yes", "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root"]
        apt += ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        run([*apt, "update"])
        run([*apt, "install", "--download-only", "--no-install-recommends", *packages])
        for package in (folder / "cache" / "archives").glob("*.deb"):
            run(["dpkg", "-x", str(package), str(folder / "unpacked")])
        (folder / "unpacked").rename(fetched)
    return fetched


def library_path(folder: Path) -> str:
    """
    Return the ``LD_LIBRARY_PATH`` that finds the libraries which were fetched.

    :param folder: as :func:`fetch` has returned it.
    """
    return os.pathsep.join(sorted({str(library.parent) for library in folder.rglob("*.so*")}))


def run(command: list[str], environment: dict[str, str] | None = None, given: str | None = None) -> str:
    """
    Run a command and return what it prints.

    :param command: with its arguments.
    :param environment: instead of this process's.
    :param given: what it reads.
    :raises RuntimeError: if it fails.
    """
    done = subprocess.run(
        command, env=environment, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
    return done.stdout
