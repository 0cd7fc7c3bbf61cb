"""What both plugins need: whether this Airflow's API server takes them, and an application made at its first request.

Every process of Airflow imports this at its start, so it imports nearly nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from airflow import __version__ as _airflow

FIRST = (3, 1, 1)
"""The first Airflow that takes them: 2 cannot mount an ASGI application, 3.0 cannot show its pages, and 3.1.0 does not
recognise a login by its cookie."""


def takes_plugins(airflow: str = _airflow) -> bool:
    """
    Return whether an Airflow mounts what the plugins bring, and shows it.

    :param airflow: its version.
    """
    return tuple(int(part) for part in re.findall(r"\d+", airflow)[:3]) >= FIRST


class Lazy:
    """
    An ASGI application that is made at its first request.

    :param make: imports what it needs, and makes it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if self._app is None:
            # In a thread, because what it imports takes a while; twice is no harm.
            self._app = await asyncio.to_thread(self._make)
        await self._app(scope, receive, send)
