"""Free ports for servers that cannot choose a free port themselves."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_ports(count: int = 1) -> list[int]:
    """
    Find ports on which nobody listens.

    They are below those that systems give to whoever asks for any, so that they are still free in a moment.

    :param count: how many, all different.
    """
    ports = set[int]()
    while len(ports) < count:
        port = random.randint(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return list(ports)
