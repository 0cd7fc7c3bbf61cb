"""Proxies and certificates: both sessions use the same ones, however they are configured."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import self_signed
from proxy import LoggingProxy, TlsFront

from airflow_provider_sendoso.client.async_session import shared_session
from airflow_provider_sendoso.client.endpoints import Request, me_request
from airflow_provider_sendoso.client.network import read_network
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoConnectionError, SendosoError
from airflow_provider_sendoso.sandbox import Sandbox

HOST = "gifts.example"
URL = f"https://{HOST}"
SECRET = "zqx-client-secret"
CONNECT = f"CONNECT {HOST}:443"
GIFT = {"gift_id": "gift-egift-coffee", "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
POST = Request("POST", "/api/v3/sends", json={"send": GIFT | {"message": "Thanks"}})
HASHED = "a directory without a certificate that OpenSSL finds"

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the proxy and certificate settings of the machine's environment."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name)
        if name.startswith("SSL_CERT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return self_signed(tmp_path / "gifts.pem", HOST)


@pytest.fixture
def sendoso(certificate: Path) -> Iterator[Sandbox]:
    """A Sendoso at ``https://gifts.example`` with a certificate that the machine does not know."""
    with Sandbox(step=0, rate=0, client_secret=SECRET) as sandbox:
        front = TlsFront(certificate, HOST, sandbox.port)
        sandbox.front = front.port  # type: ignore[attr-defined]
        yield sandbox
        front.close()


@pytest.fixture
def proxy(sendoso: Any) -> Iterator[LoggingProxy]:
    proxy = LoggingProxy({HOST: sendoso.front})
    yield proxy
    proxy.close()


@pytest.fixture
def new_session(session_on: Callable[..., SendosoSession]) -> Callable[..., SendosoSession]:
    return lambda url=URL: session_on(url, client_secret=SECRET)


def read_in_a_trigger(session: SendosoSession) -> int:
    async def read() -> int:
        async with shared_session(session) as reader:
            return (await reader.read(me_request())).status

    return asyncio.run(read())


def test_every_request_goes_through_the_proxy_and_the_proxy_sees_no_content(
    new_session: Any, proxy: LoggingProxy, sendoso: Sandbox, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send, a read in a worker and in a trigger, and each kind of request for a token."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    session = new_session()
    token = session.token()
    assert session.paced(POST, token).status == 201
    assert session.read(me_request()).status == read_in_a_trigger(session) == 200
    sendoso.revoke_tokens()
    assert read_in_a_trigger(session) == 200
    assert session.tokens.revoke() == 1
    paths = [request.path for request in sendoso.requests]
    assert (paths.count("/oauth/token"), paths.count("/oauth/revoke"), len(sendoso.sends)) == (2, 1, 1)
    assert set(proxy.lines) == {CONNECT}
    assert not [entry for entry in proxy.log if SECRET in entry or token[:20] in entry or "ada" in entry]


SPELLINGS = [
    ("HTTPS_PROXY", "{address}"),
    ("https_proxy", "{address}"),
    ("https_proxy", "http://{address}/"),
    ("HTTPS_PROXY", " http://{address}\n"),
    ("ALL_PROXY", "{address}"),
    ("all_proxy", "HTTP://{address}"),
    ("HTTPS_PROXY", "ada:l%40ve%2Fl%C3%A4ce@{address}"),
    ("HTTPS_PROXY", "http://ada:l%40ve%2Fl%C3%A4ce@{address}"),
]


@pytest.mark.parametrize(("name", "value"), SPELLINGS)
def test_a_proxy_is_used_in_every_spelling_of_its_variable(
    new_session: Any,
    proxy: LoggingProxy,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value.format(address=proxy.address))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    session = new_session()
    assert session.read(me_request()).status == 200
    worker = len(proxy.log)
    assert worker >= 1
    assert read_in_a_trigger(session) == 200
    assert len(proxy.log) > worker
    assert set(proxy.lines) == {CONNECT}
    expected = base64.b64encode("ada:l@ve/läce".encode()).decode()
    if "@" in value:
        assert all(f"Proxy-Authorization: Basic {expected}\r\n" in entry for entry in proxy.log)
        assert expected not in repr(session.network)
    else:
        assert not [entry for entry in proxy.log if "Authorization" in entry]


def test_a_proxy_may_itself_use_tls(
    new_session: Any, sendoso: Any, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = self_signed(tmp_path / "proxy.pem", "127.0.0.1")
    proxy = LoggingProxy({HOST: sendoso.front}, certificate=own)
    bundle = tmp_path / "both.pem"
    bundle.write_bytes(certificate.read_bytes() + own.read_bytes())
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    session = new_session()
    assert session.paced(POST, session.token()).status == 201
    assert read_in_a_trigger(session) == 200
    assert set(proxy.lines) == {CONNECT}
    asked = len(proxy.log)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    for read in (lambda session: session.read(me_request()), read_in_a_trigger):
        with pytest.raises(SendosoConnectionError, match="SSLCertVerificationError"):
            read(new_session())
    assert len(proxy.log) == asked
    proxy.close()


@pytest.mark.parametrize("no_proxy", ["gifts.example", ".example", "other.test, gifts.example:443", "*"])
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy_exempts_a_host(monkeypatch: pytest.MonkeyPatch, name: str, no_proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    assert read_network(f"{URL}:443").proxy is not None
    monkeypatch.setenv(name, no_proxy)
    assert read_network(f"{URL}:443").proxy is None


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "[::1]"])
def test_loopback_has_no_proxy(monkeypatch: pytest.MonkeyPatch, scheme: str, host: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "proxy.example:3128")
    assert read_network(f"{scheme}://{host}:8765").proxy is None
    assert read_network("https://localhost.example").proxy is not None


def test_requests_to_loopback_go_to_no_proxy(
    new_session: Any, sendoso: Sandbox, proxy: LoggingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    session = new_session(sendoso.url)
    assert session.paced(POST, session.token()).status == 201
    assert read_in_a_trigger(session) == 200
    assert proxy.log == []


WRONG_PROXIES = [
    ("HTTPS_PROXY", "socks5://s3cret:s3cret@proxy.example:1080", "HTTPS_PROXY names a proxy of the kind 'socks5'"),
    ("all_proxy", "socks5h://proxy.example", "all_proxy names a proxy of the kind 'socks5h'"),
    ("HTTPS_PROXY", "ftp://proxy.example", "'ftp'"),
    ("https_proxy", "http://", "https_proxy is not the address of a proxy"),
    ("HTTPS_PROXY", "proxy.example:port", "is not the address"),
    ("HTTPS_PROXY", "proxy.example:99999", "is not the address"),
    ("HTTPS_PROXY", "http://ada:s3cret/x@proxy.example:3128", "is not the address"),
    ("HTTPS_PROXY", "http://ada:12#s3cret@proxy.example:3128", "is not the address"),
    ("HTTPS_PROXY", "pro xy.example", "is not the address"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG_PROXIES)
def test_an_unusable_proxy_is_refused_without_its_password(
    new_session: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SendosoConfigError, match="Nothing was sent") as caught:
        new_session()
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_refusal_of_the_proxy_is_reported_with_its_status_alone(
    new_session: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    proxy = LoggingProxy({}, answer=f"HTTP/1.1 {status} who is zqx?\r\nContent-Length: 0\r\n\r\n".encode())
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    session = new_session()
    session.tokens.cached = lambda: "token"  # type: ignore[method-assign]
    for read in (lambda session: session.read(me_request()), read_in_a_trigger):
        with pytest.raises(SendosoError, match=f"the proxy answered {status} to CONNECT") as caught:
            read(session)
        assert "zqx" not in str(caught.value)
    proxy.close()


def directory_with(certificate: Path) -> Path:
    directory = certificate.parent / "authorities"
    directory.mkdir()
    (directory / "ours.pem").write_bytes(certificate.read_bytes())
    subprocess.run(["openssl", "rehash", str(directory)], check=True)
    return directory


TRUSTED = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("name", TRUSTED)
def test_a_private_certificate_is_trusted_by_both_sessions_and_for_its_own_name_only(
    new_session: Any, proxy: LoggingProxy, certificate: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    readers = (lambda session: session.read(me_request()).status, read_in_a_trigger)
    untrusting = new_session()
    untrusting.tokens.cached = lambda: "token"
    for read in readers:
        with pytest.raises(SendosoConnectionError, match="SSLCertVerificationError"):
            read(untrusting)
    monkeypatch.setenv(name, str(directory_with(certificate) if kind == "directory" else certificate))
    assert [read(new_session()) for read in readers] == [200, 200]
    proxy._routes["elsewhere.example"] = proxy._routes[HOST]
    elsewhere = new_session("https://elsewhere.example")
    elsewhere.tokens.cached = lambda: "token"
    for read in readers:
        with pytest.raises(SendosoConnectionError, match="SSLCertVerificationError"):
            read(elsewhere)


def test_the_variables_for_certificates_have_an_order_of_precedence(
    new_session: Any, proxy: LoggingProxy, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = self_signed(tmp_path / "other.pem", "other.example")
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    for less, more in zip(TRUSTED[1:3], TRUSTED[:2], strict=True):
        monkeypatch.setenv(less, str(other))
        monkeypatch.setenv(more, str(certificate))
        assert read_in_a_trigger(new_session()) == 200
        monkeypatch.delenv(more)
    monkeypatch.setenv("SSL_CERT_DIR", f"{directory_with(certificate)}{os.pathsep}")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    assert read_in_a_trigger(new_session()) == 200  # beside SSL_CERT_FILE, as in OpenSSL


@pytest.mark.parametrize("name", TRUSTED)
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "which does not exist"),
        ("text", "which is not a certificate in PEM format"),
        ("empty", "which is not a certificate in PEM format"),
        ("directory", HASHED),
    ],
)
def test_unreadable_certificates_are_refused_with_the_reason(
    new_session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str, words: str
) -> None:
    path = tmp_path / "bundle.pem"
    if what == "directory":
        path.mkdir()
    elif what != "missing":
        path.write_text("hello" if what == "text" else "")
    monkeypatch.setenv(name, str(path))
    with pytest.raises(SendosoConfigError, match="nothing was sent") as caught:
        new_session()
    assert f"{name} names the certificates '{path}', {words}" in str(caught.value)
    new_session("http://127.0.0.1:8765")  # the sandbox needs none


def test_changed_certificates_are_read_again(
    new_session: Any, proxy: LoggingProxy, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = self_signed(tmp_path / "bundle.pem", HOST)
    os.utime(bundle, (1, 1))
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    session = new_session()
    with pytest.raises(SendosoConnectionError):
        session.read(me_request())
    bundle.write_bytes(certificate.read_bytes())
    assert session.read(me_request()).status == read_in_a_trigger(session) == 200
