"""OAuth as the sandbox does it: access tokens that are random, expire and can be revoked."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_sendoso.sandbox.refusal import Refusal


@dataclass(frozen=True)
class _Token:
    client_id: str
    expires_at: float


class Tokens:
    """
    Give out access tokens and recognise them again.

    :param client_id: the only client there is
    :param client_secret: its secret
    :param lifetime: of an access token, in seconds (seed, published: 7200)
    :param clock: gives the present in seconds
    """

    def __init__(self, client_id: str, client_secret: str, lifetime: float, clock: Callable[[], float]) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self._lifetime = lifetime
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._revoked: set[str] = set()
        self._grants: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "client_credentials": self._client_credentials,
        }

    def grant(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """
        Answer a token request.

        :param request: its fields; ``grant_type`` says which others there are
        :raises Refusal: in OAuth's own words (RFC 6749, 5.2), which have no ``success``
        """
        grant = self._grants.get(str(request.get("grant_type")))
        if grant is None:
            raise Refusal(
                400, {"error": "unsupported_grant_type", "error_description": "The grant type is not supported."}
            )
        return grant(request)

    def authorise(self, token: str | None) -> str:
        """
        Return the id of the client that a token belongs to.

        :param token: an access token, if the request had one
        :raises Refusal: with one of the two bodies that are published: it is invalid, or it has expired
        """
        known = self._tokens.get(token or "")
        if known is None or token in self._revoked:
            raise Refusal(401, {"success": False, "description": "The access token is invalid"})
        if self._clock() >= known.expires_at:
            raise Refusal(401, {"success": False, "description": "The access token expired", "expired": True})
        return known.client_id

    def owner(self, token: str | None) -> str | None:
        """
        Tell which client a token was given to, be it still valid or not.

        :param token: an access token
        """
        known = self._tokens.get(token or "")
        return known.client_id if known else None

    def revoke_all(self) -> None:
        """Make every token that was given out invalid."""
        self._revoked.update(self._tokens)

    def clear(self) -> None:
        """Forget every token."""
        self._tokens.clear()
        self._revoked.clear()

    def _client_credentials(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._check_client(request)
        return self._issue(str(request.get("scope") or "public write"))

    def _check_client(self, request: Mapping[str, Any]) -> None:
        if (request.get("client_id"), request.get("client_secret")) != (self.client_id, self.client_secret):
            raise Refusal(401, {"error": "invalid_client", "error_description": "Client authentication failed."})

    def _issue(self, scope: str) -> dict[str, Any]:
        token = secrets.token_urlsafe(32)
        now = self._clock()
        self._tokens[token] = _Token(self.client_id, now + self._lifetime)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(self._lifetime),
            "scope": scope,
            "created_at": int(now),
        }
