"""Mounts the receiver of webhooks in Airflow's API server, at ``/sendoso/webhooks/<conn_id>``.

Every process of Airflow imports this module at its start, so it imports nearly nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_sendoso.mounting import Lazy, takes_plugins

PREFIX = "/sendoso/webhooks"


def receiver() -> Lazy:
    """Return the receiver, as an ASGI application."""
    return Lazy(_make_app)


def _make_app() -> Any:
    from airflow_provider_sendoso.webhooks.app import make_app

    return make_app()


def mounts() -> list[dict[str, Any]]:
    """
    Return what Airflow's API server mounts: nothing on an Airflow before 3.1.1, and without the extra ``webhooks``.

    So there is no route that anybody can call where nobody has asked for one.
    """
    if not takes_plugins() or find_spec("standardwebhooks") is None:
        return []
    return [{"app": receiver(), "url_prefix": PREFIX, "name": "Sendoso webhooks"}]


class SendosoWebhooksPlugin(AirflowPlugin):
    """The plugin; inert where :func:`mounts` returns nothing."""

    name = "sendoso_webhooks"
    fastapi_apps = mounts()
