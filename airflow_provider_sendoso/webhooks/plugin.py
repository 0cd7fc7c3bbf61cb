"""Mounts the receiver of webhooks in Airflow's API server, at ``/sendoso/webhooks/<conn_id>``.

Every process of Airflow imports this module at its start, so it imports nearly nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from airflow import __version__ as _airflow
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/sendoso/webhooks"

_MOUNTS_SINCE = (3, 1)
"""The first Airflow whose API server this is tried on; before 3.0 the UI is no ASGI application at all."""

_receivers: list[Any] = []


async def receiver(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request; the first one imports what that needs."""
    if not _receivers:
        from airflow_provider_sendoso.webhooks.app import make_app

        _receivers.append(make_app())
    await _receivers[0](scope, receive, send)


def mounts(airflow: str = _airflow) -> list[dict[str, Any]]:
    """
    Return what Airflow's API server mounts: nothing on an Airflow before 3.1, and without the extra ``webhooks``.

    So there is no route that anybody can call where nobody has asked for one.

    :param airflow: the version of Airflow.
    """
    major, minor = airflow.split(".")[:2]
    if (int(major), int(minor)) < _MOUNTS_SINCE or find_spec("standardwebhooks") is None:
        return []
    return [{"app": receiver, "url_prefix": PREFIX, "name": "Sendoso webhooks"}]


class SendosoWebhooksPlugin(AirflowPlugin):
    """The plugin; inert where :func:`mounts` returns nothing."""

    name = "sendoso_webhooks"
    fastapi_apps = mounts()
