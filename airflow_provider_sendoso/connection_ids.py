"""The error for an Airflow connection that does not exist; it names connections with similar ids."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.near_names import meant

IN_ENVIRONMENT = "AIRFLOW_CONN_"
"""The prefix of environment variables that define connections."""


@contextmanager
def has_to_exist(conn_id: str) -> Iterator[None]:
    """
    Turn Airflow's error for a missing connection, which would be retried, into one that is not.

    :param conn_id: the connection that is looked up within the block.
    :raises SendosoConfigError: if the connection does not exist; names the connections with similar ids.
    """
    try:
        yield
    except AirflowNotFoundException:
        raise SendosoConfigError(_no_connection(conn_id)) from None


def _no_connection(conn_id: str) -> str:
    # Only connections of the environment are named: a task of Airflow 3 cannot list those of Airflow's database.
    known = [name.removeprefix(IN_ENVIRONMENT).lower() for name in os.environ if name.startswith(IN_ENVIRONMENT)]
    near = meant(conn_id, sorted({*known, DEFAULT_CONN_ID} - {conn_id}))
    return (
        f"The connection {conn_id!r} does not exist{near}. Make it in Airflow's UI (Admin, Connections) or set "
        f"{IN_ENVIRONMENT}{conn_id.upper()}; nothing was sent."
    )
