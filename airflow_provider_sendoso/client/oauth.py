"""The OAuth steps as pure functions: token requests, their answers, and the choice of the next refresh token."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlencode

from airflow_provider_sendoso.client.answers import Exchange, answer_or_raise
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import Auth, Request
from airflow_provider_sendoso.exceptions import SendosoAuthError, SendosoServerError

DEFAULT_LIFETIME = 7200.0
"""Default lifetime of an access token in seconds (seed and published); an answer's ``expires_in`` overrides it."""

SCOPES = ("public", "write", "update", "marketplace", "smartsend")
"""Published."""

SENDING_SCOPE = "write"
"""The scope that sending needs (published)."""

_SCOPE = re.compile(r"[\x21-\x7e]+( [\x21-\x7e]+)*")
"""As RFC 6749 (3.3) has it."""
_LONGEST_SCOPE = 500

_LONGEST_LIFETIME = 30 * 86_400.0

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""The characters that a header can hold."""

_RENEW_BEFORE = 300.0
_RENEW_BEFORE_SHARE = 0.1


@dataclass(frozen=True)
class Grant:
    """
    The tokens in the answer to a token request.

    :param access_token: the Bearer token.
    :param lifetime: seconds from the grant.
    :param refresh_token: the next refresh token; the one that was used no longer works (published).
    :param scope: the scopes of the access token, space-separated; ``None`` if the answer does not say.
    """

    access_token: str = field(repr=False)
    lifetime: float
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None

    @property
    def renew_after(self) -> float:
        """Seconds from the grant after which to renew: some minutes before expiry, or a tenth of a short life."""
        return self.lifetime - min(_RENEW_BEFORE, self.lifetime * _RENEW_BEFORE_SHARE)


@dataclass(frozen=True)
class Tokens:
    """
    The stored tokens of one client.

    :param access_token: the Bearer token; ``None`` before the first grant.
    :param refresh_token: the newest refresh token; ``None`` for client credentials, or once it no longer works.
    :param spent: hashes of refresh tokens that were used or refused, so that none is tried twice.
    :param scope: the scopes of the access token; ``None`` if they are not known.
    """

    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    spent: tuple[str, ...] = ()
    scope: str | None = None

    @classmethod
    def load(cls, text: str | None) -> Self:
        """
        Parse stored tokens.

        :param text: the result of :meth:`dump`; ``None`` if nothing is stored.
        """
        if text is None:
            return cls()
        fields = json.loads(text)
        return cls(fields["access_token"], fields["refresh_token"], tuple(fields["spent"]), fields.get("scope"))

    def dump(self) -> str:
        """Return the tokens as text, for the store to encrypt."""
        fields = {"access_token": self.access_token, "refresh_token": self.refresh_token, "spent": self.spent}
        return json.dumps(fields | ({} if self.scope is None else {"scope": self.scope}))

    def spend(self, refresh_token: str) -> Tokens:
        """
        Record that a refresh token no longer works.

        :param refresh_token: a refresh token that was used or refused.
        """
        left = None if self.refresh_token == refresh_token else self.refresh_token
        return replace(self, refresh_token=left, spent=(*self.spent, _hash(refresh_token))[-_REMEMBERED:])

    def granted(self, grant: Grant) -> Tokens:
        """
        Return the tokens with those of a grant.

        :param grant: a grant for client credentials, for a code, or for a refresh token that is now spent.
        """
        refresh_token = grant.refresh_token or self.refresh_token
        return replace(self, access_token=grant.access_token, refresh_token=refresh_token, scope=grant.scope)

    def is_spent(self, refresh_token: str) -> bool:
        """
        Return whether a refresh token was used or refused.

        :param refresh_token: any refresh token.
        """
        return _hash(refresh_token) in self.spent

    def next_refresh_token(self, seed: str | None) -> str | None:
        """
        Choose the refresh token to try: the stored one, which is newer, otherwise the connection's, once.

        :param seed: the connection's refresh token.
        """
        if self.refresh_token is not None:
            return self.refresh_token
        return None if seed is None or self.is_spent(seed) else seed


_REMEMBERED = 20
"""Number of spent refresh tokens whose hashes are kept: only the connection's can come back, one at a time."""


def renewal(config: ClientConfig, tokens: Tokens) -> Generator[Request | Tokens, Exchange, tuple[Tokens, Grant]]:
    """
    Renew the tokens; a generator that yields requests, whose exchanges are sent to it, and ``Tokens`` without a refused
    refresh token, which the caller stores.

    An error of the token endpoint does not invalidate a refresh token; only ``invalid_grant`` does.

    :param config: the connection.
    :param tokens: the stored tokens.
    :return: the tokens to store before the grant is used, and the grant.
    :raises SendosoAuthError: if Sendoso does not accept the client, or if no refresh token is left to try.
    :raises SendosoError: if the request failed.
    """
    if config.grant_type == "client_credentials":
        request = client_credentials_request(config)
        grant = read_grant(request, (yield request))
        return tokens.granted(grant), grant
    seed = config.refresh_token.get_secret_value() if config.refresh_token else None
    while (refresh_token := tokens.next_refresh_token(seed)) is not None:
        request = refresh_request(config, refresh_token)
        exchange = yield request
        if _error_code(exchange) != "invalid_grant":
            grant = read_grant(request, exchange)
            return tokens.spend(refresh_token).granted(grant), grant
        tokens = tokens.spend(refresh_token)
        yield tokens
    raise SendosoAuthError(401, _AUTHORISE_AGAIN)


_AUTHORISE_AGAIN = (
    "Sendoso accepts none of the refresh tokens at hand: a refresh token dies when it is used, and the newest one is "
    "lost or revoked. A person has to authorise again: airflow sendoso authorize --conn-id <the connection> (or "
    "python -m airflow_provider_sendoso authorize)."
)


def client_credentials_request(config: ClientConfig) -> Request:
    """
    Build the token request of the client-credentials grant (seed).

    :param config: the connection.
    """
    scope = {"scope": config.scope} if config.scope else {}
    return _token_request(config, grant_type="client_credentials", **scope)


def refresh_request(config: ClientConfig, refresh_token: str) -> Request:
    """
    Build the token request of the refresh-token grant (published).

    :param config: the connection.
    :param refresh_token: the refresh token, which no longer works once this request is answered.
    """
    return _token_request(config, grant_type="refresh_token", refresh_token=refresh_token)


def code_request(config: ClientConfig, code: str, redirect_uri: str) -> Request:
    """
    Build the token request that exchanges an authorisation code (published).

    :param config: the connection.
    :param code: from the callback; short-lived and single-use.
    :param redirect_uri: the same redirect URI as in the authorise URL.
    """
    return _token_request(config, grant_type="authorization_code", code=code, redirect_uri=redirect_uri)


def revoke_request(token: str) -> Request:
    """
    Build the request that revokes a token: Basic auth, the token as a query parameter (published).

    :param token: an access or a refresh token.
    """
    return Request("POST", "/oauth/revoke", params={"token": token}, auth=Auth.BASIC)


def authorize_url(config: ClientConfig, redirect_uri: str, scope: str, state: str) -> str:
    """
    Build the address at which a person authorises (published).

    :param config: the connection.
    :param redirect_uri: the address to which the code is sent, as registered with Sendoso.
    :param scope: space-separated scopes.
    :param state: a value that is returned with the code.
    """
    query = {
        "client_id": config.client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": scope,
        "state": state,
    }
    return f"{config.base_url}/oauth/authorize?{urlencode(query)}"


def read_grant(request: Request, exchange: Exchange) -> Grant:
    """
    Read the answer to a token request.

    :param request: the token request.
    :param exchange: the request's result.
    :raises SendosoAuthError: if Sendoso does not accept the client.
    :raises SendosoError: for any other answer without a token.
    """
    if exchange.answer and exchange.status in (400, 401, 403):
        code = _error_code(exchange) or exchange.status
        raise SendosoAuthError(
            exchange.answer.status,
            f"Sendoso did not grant a token ({code}). Check the connection's login (client ID), password (client "
            "secret), host and grant_type.",
            exchange.answer.request_id,
        )
    answer = answer_or_raise(request, exchange)
    body = answer.json
    token = body.get("access_token") if isinstance(body, Mapping) else None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise SendosoServerError(answer.status, f"{request} answered without an access_token.", answer.request_id)
    refresh_token = body.get("refresh_token")
    next_one = refresh_token if isinstance(refresh_token, str) else None
    return Grant(token, _lifetime(body.get("expires_in")), next_one, _scope(body.get("scope")))


def _token_request(config: ClientConfig, **fields: str) -> Request:
    client = {"client_id": config.client_id, "client_secret": config.client_secret.get_secret_value()}
    return Request("POST", "/oauth/token", json=client | fields, auth=Auth.NONE)


def _error_code(exchange: Exchange) -> str | None:
    body = exchange.answer.json if exchange.answer and exchange.status in (400, 401, 403) else None
    code = body.get("error") if isinstance(body, Mapping) else None
    # Only an error in the form of OAuth's codes is quoted, because any other text may hold the secret.
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else None


def _lifetime(value: Any) -> float:
    try:
        lifetime = float(value)
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFETIME
    return min(lifetime, _LONGEST_LIFETIME) if lifetime > 0 else DEFAULT_LIFETIME


def _scope(value: Any) -> str | None:
    """Read the scopes of an answer; ``None`` for what cannot be any."""
    return value if isinstance(value, str) and len(value) <= _LONGEST_SCOPE and _SCOPE.fullmatch(value) else None


def _hash(refresh_token: str) -> str:
    return hashlib.sha256(refresh_token.encode()).hexdigest()[:16]
