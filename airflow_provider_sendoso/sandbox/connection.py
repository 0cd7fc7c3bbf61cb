"""How to connect Airflow to the sandbox."""

from __future__ import annotations

import json
import shlex


def export_line(url: str, login: str, password: str) -> str:
    """
    Return the shell line that sets the Airflow connection.

    :param url: the address of the sandbox
    :param login: the client id
    :param password: the client secret
    """
    connection = {"conn_type": "sendoso", "host": url, "login": login, "password": password}
    return f"export AIRFLOW_CONN_SENDOSO_DEFAULT={shlex.quote(json.dumps(connection))}"
