"""The OAuth steps as pure functions: what a token answer says, and when a token is due for renewal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sendoso.client.answers import Exchange, answer_or_raise
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.exceptions import SendosoAuthError, SendosoServerError

DEFAULT_LIFETIME = 7200.0
"""Seconds that an access token lives (seed and published); ``expires_in`` of an answer wins."""

_RENEW_BEFORE = 300.0
_RENEW_BEFORE_SHARE = 0.1


@dataclass(frozen=True)
class Grant:
    """
    An access token as it was granted.

    :param access_token: the Bearer token.
    :param lifetime: seconds from the grant.
    """

    access_token: str = field(repr=False)
    lifetime: float

    @property
    def renew_after(self) -> float:
        """Seconds from the grant after which to renew: five minutes before expiry, or a tenth of a short life."""
        return self.lifetime - min(_RENEW_BEFORE, self.lifetime * _RENEW_BEFORE_SHARE)


def read_grant(request: Request, exchange: Exchange) -> Grant:
    """
    Read the answer to a token request.

    :param request: the token request.
    :param exchange: what became of it.
    :raises SendosoAuthError: for client credentials that Sendoso does not accept.
    :raises SendosoError: for any other answer that holds no token.
    """
    if exchange.answer and exchange.status in (400, 401, 403):
        body = exchange.answer.json
        code = body.get("error") if isinstance(body, Mapping) else None
        raise SendosoAuthError(
            exchange.answer.status,
            f"Sendoso did not grant a token ({code or exchange.answer.status}). Check the connection's login "
            "(client ID), password (client secret), host and grant_type; nothing was sent.",
            exchange.answer.request_id,
        )
    answer = answer_or_raise(request, exchange)
    body = answer.json
    token = body.get("access_token") if isinstance(body, Mapping) else None
    if not isinstance(token, str) or not token:
        raise SendosoServerError(answer.status, f"{request} answered without an access_token.", answer.request_id)
    return Grant(token, _lifetime(body.get("expires_in")))


def _lifetime(value: Any) -> float:
    try:
        lifetime = float(value)
    except (TypeError, ValueError):
        return DEFAULT_LIFETIME
    return lifetime if lifetime > 0 else DEFAULT_LIFETIME
