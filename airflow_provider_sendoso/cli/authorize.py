"""Authorise the provider once: a person agrees in the browser, and the refresh token is stored (published grant)."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_sendoso.client.answers import answer_or_raise
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import me_request
from airflow_provider_sendoso.client.oauth import Grant, authorize_url, code_request, read_grant
from airflow_provider_sendoso.client.pace import SPACING, LocalPace
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tokens import MemoryTokenStore
from airflow_provider_sendoso.exceptions import SendosoAuthError, SendosoConfigError, SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.models.hosts import is_loopback

DEFAULT_SCOPE = "public write"

_BARE = "bare"
"""Marks a code that was pasted without its address, and so without a state."""


def authorize(
    conn_id: str,
    *,
    scope: str | None,
    redirect_uri: str,
    paste: bool,
    store: bool,
    timeout: float,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
    ask: Callable[[str], str] = input,
) -> None:
    """
    Walk a person through the authorisation.

    :param conn_id: the Sendoso connection; client ID and secret come from it.
    :param scope: space-separated; ``None`` takes the connection's.
    :param redirect_uri: as registered with Sendoso; on loopback the callback is received there.
    :param paste: take the code from the person instead.
    :param store: store the tokens in the ledger; else print the connection as JSON, secrets included.
    :param timeout: seconds to wait for the callback.
    :param say: shows a line.
    :param ask: asks for one.
    :raises SendosoConfigError: for a connection that would not use the tokens, or nothing that came back in time.
    :raises SendosoAuthError: if the person, or Sendoso, said no.
    """
    hook = SendosoHook(conn_id)
    config = hook.config
    if store and config.grant_type != "refresh_token":
        raise SendosoConfigError(
            f"The connection {conn_id!r} has grant_type={config.grant_type!r} and would not use the tokens. Set its "
            'extra grant_type to "refresh_token" first, or use --no-store.'
        )
    if store:
        hook.ledger  # noqa: B018  (better to find out now than after the code has been used)
    wanted = scope or config.scope or DEFAULT_SCOPE
    state = secrets.token_urlsafe(16)
    url = authorize_url(config, redirect_uri, wanted, state)
    if paste or not is_loopback(urlsplit(redirect_uri).hostname or ""):
        say(f"Open this address, authorise, and copy the address you are sent to:\n{url}")
        try:
            answer = _pasted(ask("The address, or the code: "))
        except EOFError:
            answer = {}
    else:
        answer = _received(redirect_uri, timeout, lambda: say(f"Open this address and authorise:\n{url}"))
    code = _checked(answer, state)
    pace = hook.session.pace if store else LocalPace(SPACING / config.requests_per_second)
    session = SendosoSession(config, MemoryTokenStore(), pace)
    grant = _exchange(session, config, code, redirect_uri)
    # The tokens are stored or printed first, because they cannot be requested again.
    if store:
        hook.session.tokens.adopt(grant)
    say(f"Authorised{_who(session, grant)}.")
    if store:
        say(f"The tokens are in the ledger {hook.ledger.identity.ledger_uuid}, encrypted. Nothing else is to be done.")
    else:
        say(json.dumps(_connection(config, wanted, grant)))


def _exchange(session: SendosoSession, config: ClientConfig, code: str, redirect_uri: str) -> Grant:
    request = code_request(config, code, redirect_uri)
    try:
        grant = read_grant(request, session.paced(request))
    except SendosoAuthError as error:
        raise SendosoAuthError(
            error.status_code,
            f"Sendoso did not accept the code: it is short-lived and works once. Run the command again. ({error})",
        ) from None
    if grant.refresh_token is None:
        raise SendosoAuthError(200, "Sendoso gave an access token but no refresh token; nothing was stored.")
    return grant


def _who(session: SendosoSession, grant: Grant) -> str:
    request = me_request()
    try:
        me = answer_or_raise(request, session.paced(request, grant.access_token)).json
    except SendosoError:
        return ""
    return f" as user {me['id']}" if isinstance(me, dict) and me.get("id") else ""


def _connection(config: ClientConfig, scope: str, grant: Grant) -> dict[str, Any]:
    # The whole connection, because with another account, for example, nobody would count as having been sent a gift.
    kept = config.model_dump(exclude={"base_url", "client_id", "client_secret"}, exclude_none=True)
    extra = kept | {"grant_type": "refresh_token", "refresh_token": grant.refresh_token, "scope": scope}
    return {
        "conn_type": "sendoso",
        "host": config.base_url,
        "login": config.client_id,
        "password": config.client_secret.get_secret_value(),
        "extra": extra,
    }


def _pasted(text: str) -> dict[str, str]:
    text = text.strip()
    if "://" in text:
        return _parameters(text)
    return {"code": text, _BARE: ""} if text else {}


def _received(redirect_uri: str, timeout: float, ready: Callable[[], None]) -> dict[str, str]:
    """Listen at the redirect URI until the browser brings an answer."""
    parts = urlsplit(redirect_uri)
    answers: list[dict[str, str]] = []
    own_hosts = {parts.netloc.lower(), parts.netloc.lower().removesuffix(":80")}

    class Callback(BaseHTTPRequestHandler):
        timeout = 5.0  # browsers open spare connections without using them

        def do_GET(self) -> None:
            parameters = _parameters(self.path)
            # Another name that leads here belongs to somebody else's page (DNS rebinding).
            own = self.headers.get("Host", "").lower() in own_hosts
            expected = own and urlsplit(self.path).path == (parts.path or "/") and parameters.keys() & {"code", "error"}
            if expected:
                answers.append(parameters)
            self.send_response(200 if expected else 404)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"Airflow has its answer; you can close this window." if expected else b"Not here.")

        def log_message(self, *_: Any) -> None:
            """Log nothing, because the request line holds the code."""

    try:
        server = ThreadingHTTPServer((parts.hostname or "127.0.0.1", parts.port or 80), Callback)
    except OSError as error:
        raise SendosoConfigError(f"Cannot listen on {redirect_uri}: {error}. Use --paste.") from None
    with server:
        ready()
        deadline = time.monotonic() + timeout
        while not answers and (left := deadline - time.monotonic()) > 0:
            server.timeout = min(left, 0.2)
            server.handle_request()
    if not answers:
        raise SendosoConfigError(f"Nobody authorised within {timeout:g} s; nothing was stored. Run it again.")
    return answers[0]


def _checked(answer: dict[str, str], state: str) -> str:
    # A person may paste a bare code, but an address without our state may come from anywhere.
    if answer and answer.get("state", state if _BARE in answer else None) != state:
        raise SendosoAuthError(400, "The answer belongs to another authorisation (state differs); nothing was stored.")
    if "error" in answer:
        raise SendosoAuthError(400, f"Sendoso said no: {answer['error']}; nothing was stored.")
    if not answer.get("code"):
        raise SendosoConfigError("There is no code in what was pasted; nothing was stored.")
    return answer["code"]


def _parameters(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
