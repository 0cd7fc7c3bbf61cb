"""Reads the network settings of the environment: the proxy, and the trusted certificate authorities.

They are read here for both sessions, because ``requests`` and ``aiohttp`` by themselves read different variables.
"""

from __future__ import annotations

import os
import re
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models.hosts import is_host, is_loopback

_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
"""The names under which OpenSSL finds the files of a directory: a hash of the subject, and a number."""


@dataclass(frozen=True)
class Proxy:
    """
    A proxy, through which every connection is tunnelled (CONNECT).

    :param url: scheme, host and port; without credentials.
    :param headers: the credentials, if there are any.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Network:
    """
    How to connect to a host.

    :param proxy: ``None`` to connect directly.
    :param authorities: files and directories of trusted certificates, each with the variable that names it; ``None``
        for a host without TLS.
    """

    proxy: Proxy | None
    authorities: tuple[tuple[str, str], ...] | None

    @property
    def tls(self) -> ssl.SSLContext | None:
        """
        The TLS context that verifies certificates; it is made anew when a file has changed.

        :raises SendosoConfigError: if the certificates cannot be read.
        """
        if self.authorities is None:
            return None
        return _context(self.authorities, tuple(_changed_at(path) for _, path in self.authorities))


def read_network(base_url: str) -> Network:
    """
    Read the environment.

    :param base_url: of the connection.
    :raises SendosoConfigError: if a variable is set to what cannot be used; the message names the variable.
    """
    parts = urlsplit(base_url)
    if parts.scheme != "https":
        # ``http`` is for loopback only (see ``ClientConfig``). A proxy would see the secret, the token and the
        # recipients.
        return Network(None, None)
    network = Network(None if is_loopback(parts.hostname or "") else _proxy(base_url), tuple(_authorities()))
    _ = network.tls  # checked here, before rows are read and a send is claimed
    return network


def _proxy(base_url: str) -> Proxy | None:
    given = (select_proxy(base_url, get_environ_proxies(base_url)) or "").strip()
    if not given:
        return None
    names = (name for name in os.environ if os.environ[name].strip() == given and name.lower().endswith("_proxy"))
    name = min(names, key=lambda name: name.lower() != "https_proxy", default="The machine's proxy setting")
    try:
        parts = urlsplit(given if "://" in given else f"http://{given}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not is_host(host) or parts.path.strip("/") or parts.query or parts.fragment:
        raise SendosoConfigError(
            f"{name} is not the address of a proxy, like http://proxy.example.com:3128. Special characters in its user "
            "name and password are written as %40 for @, %2F for / and %23 for #. Nothing was sent."
        )
    if parts.scheme not in ("http", "https"):
        raise SendosoConfigError(
            f"{name} names a proxy of the kind {parts.scheme!r}, which triggers cannot use. Name an http:// or "
            f"https:// proxy, or list {urlsplit(base_url).hostname} in NO_PROXY. Nothing was sent."
        )
    literal = f"[{host}]" if ":" in host else host
    headers = {}
    if parts.username is not None:
        # Encoded in UTF-8 here, because one of the HTTP clients would use Latin-1 and the other refuse the letters.
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
    return Proxy(f"{parts.scheme}://{literal}" + (f":{port}" if port else ""), headers)


def _authorities() -> Iterator[tuple[str, str]]:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            yield name, path
            return
    named = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if named[0]:
        yield "SSL_CERT_FILE", named[0]
    if named[1]:
        yield from (("SSL_CERT_DIR", path) for path in named[1].split(os.pathsep) if path)
    if not any(named):
        yield "The package certifi", DEFAULT_CA_BUNDLE_PATH


def _changed_at(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return -1.0


@lru_cache(maxsize=8)
def _context(authorities: tuple[tuple[str, str], ...], changed_at: tuple[float, ...]) -> ssl.SSLContext:
    """Make a TLS context; cached, because reading the certificates takes 20 ms and each POST opens a connection."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    for name, path in authorities:
        problem = _load(context, Path(path))
        if problem is not None:
            raise SendosoConfigError(
                f"{name} names the certificates {path!r}, {problem}. No host can be trusted without them; "
                "nothing was sent."
            )
    return context


def _load(context: ssl.SSLContext, path: Path) -> str | None:
    """Trust the certificates of a file or a directory, or say why not."""
    try:
        if not path.is_dir():
            context.load_verify_locations(cafile=path)
        elif any(_HASHED.fullmatch(entry.name) for entry in path.iterdir()):
            context.load_verify_locations(capath=path)
        else:
            return "a directory without a certificate that OpenSSL finds: run openssl rehash on it"
    except FileNotFoundError:
        return "which does not exist"
    except ssl.SSLError:
        return "which is not a certificate in PEM format"
    except OSError as error:
        return f"which cannot be read ({error.strerror})"
    return None
