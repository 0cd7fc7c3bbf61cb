"""Serves the receiver on its own: beside an API server that is not to be reached, or on an Airflow before 3.1.1."""

from __future__ import annotations

import logging
from collections.abc import Callable

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.webhooks.app import make_app
from airflow_provider_sendoso.webhooks.signatures import make_checks

log = logging.getLogger(__name__)

PREFIX = "/sendoso/webhooks"
"""The path above the connections' ids, the same as in the API server."""

_MOST_AT_ONCE = 500
"""Requests at once; uvicorn answers 503 to others, and Sendoso sends its webhook again."""


def serve(host: str, port: int, say: Callable[[str], object] = print) -> None:
    """
    Receive webhooks until SIGINT or SIGTERM.

    :param host: the interface to listen on.
    :param port: the port.
    :param say: prints a line.
    :raises SendosoConfigError: if a package is missing, or the port is not free.
    """
    make_checks(())  # the package that checks signatures is missing now, or not at all
    try:
        import uvicorn
    except ImportError:
        raise SendosoConfigError(
            "Serving webhooks needs the package uvicorn, which Airflow 3 brings and Airflow 2 does not: "
            "pip install 'airflow-provider-sendoso[webhooks]'."
        ) from None
    config = uvicorn.Config(
        make_app(),
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        limit_concurrency=_MOST_AT_ONCE,
    )
    try:
        listening = config.bind_socket()
    except SystemExit:
        # uvicorn has logged why, and would end the process.
        raise SendosoConfigError(
            f"Webhooks cannot be received on {host}:{port}: another program listens there, or the address is not this "
            "machine's. Use another --host or --port."
        ) from None
    with listening:
        listening.listen(config.backlog)  # so that what the line says is true, whatever uvicorn does first
        shown, bound = listening.getsockname()[:2]
        say(f"Receiving webhooks on http://{shown}:{bound}{PREFIX}/<connection id>")
        uvicorn.Server(config).run([listening])
