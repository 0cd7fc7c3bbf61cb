"""What a task's supervisor asks of Airflow's API server, answered out of a directory instead of a database."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx


class ExecutionApi:
    """
    Answers one try's supervisor, and notes what it was told.

    What has to outlive the try is in files: it, and whoever reads them, may be killed at any moment.

    :param notes: takes a line of JSON for every fact: the task's pid, its XComs, the state that it ended in.
    :param store: the task's state store, which later tries of the task see too.
    :param context: what the task is told when it starts, as ``TIRunContext`` has it.
    """

    def __init__(self, notes: Path, store: Path, context: dict[str, Any]) -> None:
        self._notes = notes
        self._store = store
        self._context = context

    def note(self, **fact: Any) -> None:
        """Write a fact into a file, for the process that started the try."""
        with self._notes.open("a") as file:
            file.write(json.dumps(fact) + "\n")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """
        Answer a request; what is not known here is acknowledged.

        :param request: of the supervisor's client.
        """
        path = request.url.path.strip("/").split("/")
        body = json.loads(request.content) if request.content else None
        match request.method, path:
            case "PATCH", ["task-instances", _, "run"]:
                self.note(pid=body["pid"])
                return httpx.Response(200, json=self._context)
            case "PATCH", ["task-instances", _, "state"]:
                self.note(state=body["state"], next_method=body.get("next_method"))
            case "POST", ["xcoms", _, _, _, key]:
                self.note(xcom=key, value=body)
            case "GET", ["store", "ti", _, key]:
                values = self._values()
                return httpx.Response(200, json={"value": values[key]}) if key in values else _not_found()
            case "PUT", ["store", "ti", _, key]:
                self._keep(self._values() | {key: body["value"]})
            case "GET", ["connections" | "variables" | "xcoms", *_]:
                return _not_found()
        return httpx.Response(200, json={})

    def _values(self) -> dict[str, Any]:
        return json.loads(self._store.read_text()) if self._store.exists() else {}

    def _keep(self, values: dict[str, Any]) -> None:
        half = self._store.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(values))
        half.replace(self._store)


def _not_found() -> httpx.Response:
    return httpx.Response(404, json={"detail": {"reason": "not_found", "message": "Not found"}})
