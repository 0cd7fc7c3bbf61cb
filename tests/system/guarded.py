"""
Does what a DAG file processor does with this package, and refuses every connection, lookup, database and process.

Prints as JSON the modules it imported, the tasks of the DAGs in the folder it was given, and what it refused; at the
end it looks a connection up and opens a socket itself, to show that it notices.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import socket
import sys
from contextlib import suppress
from typing import Any

from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator  # noqa: F401  # what Airflow itself does when it is imported is not ours

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.1
    from airflow.models.dagbag import DagBag

FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "sqlite3.connect", "subprocess.Popen")

refused: list[str] = []


class RefusedError(Exception):
    pass


def refuse(what: str) -> Any:
    refused.append(what)
    raise RefusedError(what)


def audit(event: str, args: tuple[Any, ...]) -> None:
    if event in FORBIDDEN:
        refuse(event)


def import_all() -> list[str]:
    import airflow_provider_sendoso as package

    modules = [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in modules:
        importlib.import_module(name)
    return modules


def parse(folder: str) -> list[str]:
    bag = DagBag(folder)
    assert not bag.import_errors, bag.import_errors
    return sorted(f"{dag.dag_id}.{task_id}" for dag in bag.dags.values() for task_id in dag.task_ids)


if __name__ == "__main__":
    with suppress(ImportError):  # Airflow 2
        import airflow.sdk.execution_time.context as context

        context._get_connection = context._async_get_connection = lambda *args, **kwargs: refuse("lookup")
    Connection.get_connection_from_secrets = lambda *args, **kwargs: refuse("lookup")
    sys.addaudithook(audit)
    report = {"modules": import_all(), "tasks": parse(sys.argv[1]), "refused": list(refused)}
    with suppress(RefusedError):
        BaseHook.get_connection("sendoso_default")
    with suppress(RefusedError):
        socket.create_connection(("127.0.0.1", 9))
    print("RESULT", json.dumps(report | {"noticed": refused[len(report["refused"]) :]}))
