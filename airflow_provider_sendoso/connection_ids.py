"""The ids of Airflow connections: what to say of one that does not exist."""

from __future__ import annotations

import os
from difflib import get_close_matches

from airflow_provider_sendoso import DEFAULT_CONN_ID

IN_ENVIRONMENT = "AIRFLOW_CONN_"
"""Begins the names of the environment variables that are connections."""


def no_connection(conn_id: str) -> str:
    """
    Say that there is no such connection, and name those with similar ids.

    :param conn_id: of the connection that is missing.
    """
    # Those of the environment only: a task of Airflow 3 cannot list the ones in Airflow's database.
    known = [name.removeprefix(IN_ENVIRONMENT).lower() for name in os.environ if name.startswith(IN_ENVIRONMENT)]
    alike = get_close_matches(conn_id, sorted({*known, DEFAULT_CONN_ID}))
    meant = f" Did you mean {' or '.join(map(repr, alike))}?" if alike else ""
    return (
        f"The connection {conn_id!r} does not exist.{meant} Make it in Airflow's UI (Admin, Connections) or set "
        f"{IN_ENVIRONMENT}{conn_id.upper()}; nothing was sent."
    )
