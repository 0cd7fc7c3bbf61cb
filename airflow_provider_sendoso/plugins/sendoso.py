"""The plugin that Airflow loads: where the pages are, and what it takes to make them once somebody opens one.

Every process of Airflow imports this module, so it imports nothing: not FastAPI, not SQLAlchemy, nothing of the ledger.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from airflow import __version__ as airflow_version
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/sendoso"
"""Where the API server mounts the pages."""

_HAS_PAGES = [int(part) for part in re.findall(r"\d+", airflow_version)[:3]] >= [3, 1, 1]
"""Airflow 2 cannot mount the pages, 3.0 cannot show them, and 3.1.0 does not recognise a login by its cookie."""


class Pages:
    """The pages, as an ASGI application that is made at the first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if self._app is None:
            # In a thread, because importing what the pages need takes a while; twice is no harm.
            self._app = await asyncio.to_thread(_make_app)
        await self._app(scope, receive, send)


def _make_app() -> Any:
    from airflow_provider_sendoso.plugins.app import make_app

    return make_app()


def _views() -> list[dict[str, str]]:
    # Relative, so that they are right where [api] base_url has a path.
    pages = PREFIX.removeprefix("/")
    run = f"{pages}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}"
    icons = {
        "icon": f"{pages}/static/icon.svg",
        "icon_dark_mode": f"{pages}/static/icon-dark.svg",
    }
    return [
        {"name": "Sendoso", "destination": "nav", "category": "browse", "url_route": "sendoso", **icons}
        | {"href": f"{pages}/campaigns"},
        {"name": "Sendoso", "destination": "dag_run", "url_route": "sendoso-run", "href": run, **icons},
        {"name": "Sendoso", "destination": "task_instance", "url_route": "sendoso-task", **icons}
        | {"href": f"{run}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}"},
    ]


class SendosoPlugin(AirflowPlugin):
    """*Browse › Sendoso*, and a tab on each DAG run and task instance; nothing before Airflow 3.1.1."""

    name = "sendoso"
    fastapi_apps = [{"app": Pages(), "url_prefix": PREFIX, "name": "Sendoso"}] if _HAS_PAGES else []
    external_views = _views() if _HAS_PAGES else []
