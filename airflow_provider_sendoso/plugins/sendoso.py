"""The plugin that Airflow loads: where the pages are, and what it takes to make them once somebody opens one.

Every process of Airflow imports this module, so it imports nothing: not FastAPI, not SQLAlchemy, nothing of the ledger.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_sendoso.mounting import Lazy, takes_plugins

PREFIX = "/sendoso"
"""Where the API server mounts the pages."""


def pages() -> Lazy:
    """Return the pages, as an ASGI application."""
    return Lazy(_make_app)


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
    fastapi_apps = [{"app": pages(), "url_prefix": PREFIX, "name": "Sendoso"}] if takes_plugins() else []
    external_views = _views() if takes_plugins() else []
