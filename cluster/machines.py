"""A machine of the cluster: its processes, and a home, ``AIRFLOW_HOME`` and temporary folder that no other one sees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from live_airflow import environment, processes_of

_IN_A_NAMESPACE = (
    'for other in "$@"; do [ "$other" = -- ] && break; mount -t tmpfs none "$other" || exit 99; shift; done'
)
"""Hides the folders of the other machines; the command follows after ``--``."""

_PATIENCE = 60.0


def have_namespaces() -> bool:
    """Say whether this user may make mount namespaces."""
    command = ["unshare", "--mount", "true"]
    with suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


class Machine:
    """
    A machine.

    :param name: its name.
    :param folder: of all machines; each has its own in it.
    :param settings: of its Airflow, by ``SECTION__KEY``.
    :param variables: more environment variables.
    """

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], variables: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder / name
        self.log = self.folder / "log"
        self.sessions: list[subprocess.Popen[bytes]] = []
        for part in ("airflow", "home", "tmp"):
            (self.folder / part).mkdir(parents=True)
        own = {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp"), "CLUSTER_MACHINE": name}
        self._environment = environment(self.folder / "airflow", settings) | own | dict(variables)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """
        Start one of Airflow's processes.

        :param arguments: of ``airflow``.
        """
        return self.launch([sys.executable, "-W", "ignore", "-m", "airflow", *arguments])

    def launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        """
        Start a process in a session of its own.

        :param command: with its arguments.
        """
        others = sorted(str(other) for other in self.folder.parent.iterdir() if other != self.folder)
        if others and have_namespaces():
            script = f'{_IN_A_NAMESPACE}; shift; exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "machine", *others, "--", *command]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.sessions.append(process)
        return process

    def run(self, *arguments: str) -> None:
        """
        Run one of Airflow's commands to its end.

        :param arguments: of ``airflow``.
        :raises RuntimeError: if it fails.
        """
        process = self.start(*arguments)
        self.sessions.remove(process)
        if process.wait():
            raise RuntimeError(f"airflow {' '.join(arguments)}: {self.log.read_text(errors='replace')[-5000:]}")

    def processes(self) -> list[psutil.Process]:
        """Find all that runs on it, orphans included."""
        return [process for session in self.sessions for process in processes_of(session.pid)]

    def signal(self, number: signal.Signals, processes: Iterable[psutil.Process] | None = None) -> int:
        """
        Send a signal.

        :param number: the signal.
        :param processes: to these; to all, where it is not given.
        :return: how many got it.
        """
        got = 0
        for process in self.processes() if processes is None else processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                got += 1
        return got

    def kill(self) -> int:
        """Send SIGKILL until nothing is left, and return to how many processes it went."""
        got, give_up = set[int](), time.monotonic() + _PATIENCE
        while left := self.processes():
            if time.monotonic() > give_up:
                raise RuntimeError(f"{self.name} does not end: {left}")
            self.signal(signal.SIGKILL, left)
            got |= {process.pid for process in left}
            for session in self.sessions:
                session.poll()
            time.sleep(0.05)
        self.sessions.clear()
        return len(got)

    def sees(self, other: Machine) -> bool:
        """
        Say whether its processes see another machine's files.

        :param other: the other machine.
        """
        return any(os.listdir(f"/proc/{self.sessions[0].pid}/root{other.folder}"))
