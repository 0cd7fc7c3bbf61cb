"""Host names and IP addresses, and which of them are this machine's own."""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")


def is_ip(text: str) -> bool:
    """
    Return whether this is an IP address, without brackets.

    :param text: a host.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """
    Return whether this can be a host.

    :param text: a name or an IP address, without port and brackets.
    """
    return is_ip(text) or _NAME.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """
    Return whether what is sent to this host stays on this machine.

    :param host: a name in lower case, or an IP address without brackets.
    """
    return ipaddress.ip_address(host).is_loopback if is_ip(host) else host == "localhost"
