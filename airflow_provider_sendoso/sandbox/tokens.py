"""
The sandbox's OAuth: access tokens are random, expire, and can be revoked.

A refresh token and a code can be used once (published for the refresh token: "only expire after they are used").
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_sendoso.sandbox.refusal import Refusal

CODE_LIFETIME = 600.0
"""Seconds for which a code may be exchanged (inferred; OAuth recommends ten minutes at the most)."""


@dataclass(frozen=True)
class _Token:
    client_id: str
    expires_at: float
    scope: str = ""


@dataclass(frozen=True)
class _Code:
    redirect_uri: str
    scope: str
    expires_at: float


class Tokens:
    """
    Issues access tokens, and verifies them.

    :param client_id: the id of the only client
    :param client_secret: the secret of that client
    :param lifetime: seconds for which an access token is valid (seed, published: 7200)
    :param clock: returns the time in seconds
    """

    def __init__(self, client_id: str, client_secret: str, lifetime: float, clock: Callable[[], float]) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self._lifetime = lifetime
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._revoked: set[str] = set()
        self._refresh_tokens: dict[str, str] = {}
        self._codes: dict[str, _Code] = {}
        self._grants: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "client_credentials": self._client_credentials,
            "authorization_code": self._authorization_code,
            "refresh_token": self._refresh_token,
        }

    def grant(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """
        Answer a token request.

        :param request: the fields of the request; ``grant_type`` decides which others are needed
        :raises Refusal: with OAuth's error fields (RFC 6749, 5.2), which do not include ``success``
        """
        grant = self._grants.get(str(request.get("grant_type")))
        if grant is None:
            raise Refusal(
                400, {"error": "unsupported_grant_type", "error_description": "The grant type is not supported."}
            )
        return grant(request)

    def issue_code(self, redirect_uri: str, scope: str) -> str:
        """
        Make a code, as when a person agrees.

        :param redirect_uri: the address to which the code is sent; the exchange has to name the same address
        :param scope: the scope that the person has agreed to
        """
        code = secrets.token_urlsafe(24)
        self._codes[code] = _Code(redirect_uri, scope, self._clock() + CODE_LIFETIME)
        return code

    def issue_refresh_token(self, scope: str = "public write") -> str:
        """
        Make a refresh token, as if a person had just authorised the client.

        :param scope: the scope that the person has agreed to
        """
        token = secrets.token_urlsafe(32)
        self._refresh_tokens[token] = scope
        return token

    def revoke(self, token: str) -> None:
        """
        Make one access or refresh token invalid; an unknown token is no error (RFC 7009).

        :param token: an access or a refresh token
        """
        self._refresh_tokens.pop(token, None)
        if token in self._tokens:
            self._revoked.add(token)

    def is_client(self, client_id: object, client_secret: object) -> bool:
        """
        Return whether this is the client.

        :param client_id: the id in the request
        :param client_secret: the secret in the request
        """
        return (client_id, client_secret) == (self.client_id, self.client_secret)

    def authorise(self, token: str | None, scope: str | None = None) -> str:
        """
        Return the id of the client that a token belongs to.

        :param token: an access token, if the request had one
        :param scope: the scope that the request needs
        :raises Refusal: with one of the two published answers: the token is invalid, or it has expired; 403 if it lacks
            the scope (inferred)
        """
        known = self._tokens.get(token or "")
        if known is None or token in self._revoked:
            raise Refusal(401, {"success": False, "description": "The access token is invalid"})
        if self._clock() >= known.expires_at:
            raise Refusal(401, {"success": False, "description": "The access token expired", "expired": True})
        if scope is not None and scope not in known.scope.split():
            raise Refusal(403, f"The access token lacks the scope {scope}")
        return known.client_id

    def owner(self, token: str | None) -> str | None:
        """
        Return the client that a token was issued to, whether it is still valid or not.

        :param token: an access token
        """
        known = self._tokens.get(token or "")
        return known.client_id if known else None

    def revoke_all(self) -> None:
        """Make every token invalid."""
        self._revoked.update(self._tokens)

    def clear(self) -> None:
        """Delete every token and every code."""
        for known in (self._tokens, self._revoked, self._refresh_tokens, self._codes):
            known.clear()

    def _client_credentials(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._check_client(request)
        return self._issue(str(request.get("scope") or "public write"))

    def _authorization_code(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._check_client(request)
        code = self._codes.pop(str(request.get("code")), None)
        if code is None or code.redirect_uri != request.get("redirect_uri") or self._clock() >= code.expires_at:
            raise _invalid_grant()
        return self._issue(code.scope) | {"refresh_token": self.issue_refresh_token(code.scope)}

    def _refresh_token(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._check_client(request)
        scope = self._refresh_tokens.pop(str(request.get("refresh_token")), None)
        if scope is None:
            raise _invalid_grant()
        return self._issue(scope) | {"refresh_token": self.issue_refresh_token(scope)}

    def _check_client(self, request: Mapping[str, Any]) -> None:
        if not self.is_client(request.get("client_id"), request.get("client_secret")):
            raise Refusal(401, {"error": "invalid_client", "error_description": "Client authentication failed."})

    def _issue(self, scope: str) -> dict[str, Any]:
        token = secrets.token_urlsafe(32)
        now = self._clock()
        self._tokens[token] = _Token(self.client_id, now + self._lifetime, scope)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(self._lifetime),
            "scope": scope,
            "created_at": int(now),
        }


def _invalid_grant() -> Refusal:
    return Refusal(
        400, {"error": "invalid_grant", "error_description": "The authorization grant is invalid, expired or used."}
    )
