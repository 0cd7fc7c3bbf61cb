"""The hook of the author's own database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook
from airflow.providers.common.sql.hooks.sql import DbApiHook

from airflow_provider_sendoso.connection_ids import has_to_exist
from airflow_provider_sendoso.exceptions import SendosoConfigError


def warehouse_hook(conn_id: str, hook_params: Mapping[str, Any] | None = None) -> DbApiHook:
    """
    Return the hook of a connection that runs SQL.

    :param conn_id: the connection's id.
    :param hook_params: keyword arguments of the hook's constructor.
    :raises SendosoConfigError: if the connection does not exist or does not run SQL.
    """
    with has_to_exist(conn_id):
        connection = BaseHook.get_connection(conn_id)
    hook = connection.get_hook(hook_params=dict(hook_params or {}))  # type: ignore[no-untyped-call]
    if not isinstance(hook, DbApiHook):
        raise SendosoConfigError(
            f"The connection {conn_id!r} has a {type(hook).__name__}, which does not run SQL; "
            "use one of a database. Nothing was sent."
        )
    # The hook's own log line would show the parameters, which may be personal.
    hook.log_sql = False
    return hook
