"""Recognises requests that another site's page makes a browser send; the sandbox refuses them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from airflow_provider_sendoso.models.hosts import is_ip, is_loopback

_UNSPECIFIED = ("0.0.0.0", "::", "")  # noqa: S104  (compared, not listened on)


def why_turned_away(method: str, headers: Mapping[str, str], listens_on: str) -> str | None:
    """
    Return why a request is refused, or ``None``.

    A host name that anybody can point to this machine (DNS rebinding) is refused like another page's origin.

    :param method: the method of the request
    :param headers: the headers of the request, by their names in lower case
    :param listens_on: the interface on which the sandbox listens
    """
    host = headers.get("host", "").lower()
    if not _is_own(host, listens_on):
        return "The sandbox does not answer to this Host; ask for it as 127.0.0.1 or localhost."
    # Another page may only link to the sandbox's page, as Airflow's UI does.
    follows_a_link = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
    from_another_site = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    other_origin = headers.get("origin", f"http://{host}").lower() not in (f"http://{host}", f"https://{host}")
    if other_origin or (from_another_site and not follows_a_link):
        return "The sandbox does nothing for the web page of another origin."
    return None


def _is_own(host: str, listens_on: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.netloc != host or "@" in host:
        return False
    return is_loopback(name) or name == listens_on.lower() or (listens_on in _UNSPECIFIED and is_ip(name))
