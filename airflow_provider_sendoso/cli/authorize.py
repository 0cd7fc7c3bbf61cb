"""Authorises the provider by a person who agrees in the browser (published grant), and revokes the stored tokens."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
    :param scope: space-separated scopes; ``None`` takes the connection's.
    :param redirect_uri: the redirect URI as registered with Sendoso; if it is on loopback, the callback is received
        there.
    :param paste: ask the person to paste the code instead.
    :param store: store the tokens in the ledger; otherwise print the connection as JSON, secrets included.
    :param timeout: seconds to wait for the callback.
    :param say: prints a line.
    :param ask: asks for a line.
    :raises SendosoConfigError: if the connection would not use the tokens, or if no answer came in time.
    :raises SendosoAuthError: if the person or Sendoso refused.
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
            pasted = ask("The address, or the code: ")
        except EOFError:
            pasted = ""
        code = _pasted(pasted, state)
    else:
        code = _received(redirect_uri, state, timeout, lambda: say(f"Open this address and authorise:\n{url}"))
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


def revoke(conn_id: str, *, say: Callable[[str], None] = print) -> None:
    """
    Revoke a connection's stored tokens, and name the tokens in the ledger that are not the connection's.

    :param conn_id: the Sendoso connection.
    :param say: prints a line.
    :raises SendosoConfigError: if there was nothing to revoke, but tokens from before a change of the connection may
        still be valid.
    """
    hook = SendosoHook(conn_id)
    revoked = hook.revoke_tokens()
    others = hook.session.tokens.others()
    if revoked:
        say(f"{revoked} tokens revoked and forgotten.")
    elif not others:
        say("There was no token to revoke.")
    for other in others:
        say(f"Another stored token: {other}.")
    if others and not revoked:
        raise SendosoConfigError(
            "This connection has no stored token, and nothing was revoked. The ledger holds the tokens above, of other "
            "connections, or of this one before its host, client ID, account, grant_type or scope was changed. If one "
            "of them has to be revoked, set these back for a moment, and run this again, or revoke it at Sendoso."
        )


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
    # The whole connection is printed, because with another account, for example, no recipient would count as sent.
    kept = config.model_dump(exclude={"base_url", "client_id", "client_secret"}, exclude_none=True)
    extra = kept | {"grant_type": "refresh_token", "refresh_token": grant.refresh_token, "scope": scope}
    return {
        "conn_type": "sendoso",
        "host": config.base_url,
        "login": config.client_id,
        "password": config.client_secret.get_secret_value(),
        "extra": extra,
    }


@dataclass(frozen=True)
class _Callback:
    """
    The query of a request to the redirect URI, which may come from any web page.

    :param state: the state, to be compared with that of our authorisation; ``None`` if it is missing or given twice.
    :param code: the authorisation code; ``None`` as for ``state``.
    :param error: Sendoso's code for a refusal; ``None`` as for ``state``.
    """

    state: str | None
    code: str | None = field(repr=False)
    error: str | None

    @classmethod
    def read(cls, address: str) -> _Callback:
        given = {name: values for name, values in parse_qs(urlsplit(address).query).items() if len(values) == 1}
        return cls(*(given[name][0] if name in given else None for name in ("state", "code", "error")))

    @property
    def is_answer(self) -> bool:
        """Whether the request has a code or an error, and so answers an authorisation."""
        return (self.code or self.error) is not None

    def belongs_to(self, state: str) -> bool:
        """Return whether the request has the state of our authorisation."""
        return secrets.compare_digest((self.state or "").encode(), state.encode())

    def granted(self) -> str:
        """
        Return the code.

        :raises SendosoAuthError: if the person or Sendoso refused.
        """
        if self.error is not None:
            # RFC 6749 allows printable ASCII here; anything else could control the terminal.
            word = re.sub(r"[^ -~]", "?", self.error)[:100]
            raise SendosoAuthError(400, f"Sendoso said no: {word}; nothing was stored.")
        return self.code or ""


def _pasted(text: str, state: str) -> str:
    """Return the code that a person has pasted: alone, or in the redirect URI that the browser was sent to."""
    text = text.strip()
    callback = _Callback.read(text)
    if "://" in text and not callback.belongs_to(state):
        raise SendosoAuthError(400, "The answer belongs to another authorisation (state differs); nothing was stored.")
    code = callback.granted() if "://" in text else text
    if not code:
        raise SendosoConfigError("There is no code in what was pasted; nothing was stored.")
    return code


def _received(redirect_uri: str, state: str, timeout: float, ready: Callable[[], None]) -> str:
    """Listen at the redirect URI until a request has our state and a code; ignore requests with another state."""
    parts = urlsplit(redirect_uri)
    answers: list[_Callback] = []
    ignored: list[_Callback] = []
    own_hosts = {parts.netloc.lower(), parts.netloc.lower().removesuffix(":80")}

    class Callback(BaseHTTPRequestHandler):
        timeout = 5.0  # browsers open spare connections without using them

        def do_GET(self) -> None:
            callback = _Callback.read(self.path)
            # A request for another host name comes from a foreign page (DNS rebinding).
            own = self.headers.get("Host", "").lower() in own_hosts
            here = own and urlsplit(self.path).path == (parts.path or "/") and callback.is_answer
            expected = here and callback.belongs_to(state)
            if here:
                (answers if expected else ignored).append(callback)
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
        strangers = f" Ignored {len(ignored)} answers of other authorisations (state differs)." if ignored else ""
        raise SendosoConfigError(
            f"Nobody authorised within {timeout:g} s; nothing was stored.{strangers} Run it again."
        )
    return answers[0].granted()
