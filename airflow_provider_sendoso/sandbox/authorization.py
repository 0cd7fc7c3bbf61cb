"""The page on which a person allows an application to act for them: the authorization-code grant (published)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode, urlsplit

from airflow_provider_sendoso.sandbox.refusal import Refusal

DENIED = {"error": "access_denied", "error_description": "The resource owner denied the request."}


@dataclass(frozen=True)
class Authorization:
    """
    The permission that an application asks a person for.

    :param redirect_uri: the address to which the answer is sent
    :param scope: the scopes, separated by spaces
    :param state: a text that the answer repeats
    """

    redirect_uri: str
    scope: str
    state: str

    def callback(self, answer: Mapping[str, str]) -> str:
        """
        Return the address to which the person's browser is redirected.

        :param answer: a code, or an error
        """
        separator = "&" if urlsplit(self.redirect_uri).query else "?"
        return f"{self.redirect_uri}{separator}{urlencode({**answer, 'state': self.state})}"


def read_authorization(query: Mapping[str, str], client_id: str) -> Authorization:
    """
    Read the request of an application.

    :param query: the query of the request
    :param client_id: the id of the only client
    :raises Refusal: which the person sees, because the browser must not be redirected to an untrusted address
    """
    if query.get("client_id") != client_id:
        raise Refusal(401, {"error": "invalid_client", "error_description": "Unknown client."})
    if query.get("response_type") != "code":
        raise Refusal(400, {"error": "unsupported_response_type", "error_description": "Only code is supported."})
    redirect_uri = query.get("redirect_uri", "")
    if not re.match(r"https?://[^\[\]/?#\s]+", redirect_uri):
        raise Refusal(400, {"error": "invalid_redirect_uri", "error_description": "The redirect URI is invalid."})
    return Authorization(redirect_uri, query.get("scope") or "public", query.get("state", ""))


def render_consent(asked: Authorization) -> str:
    """
    Return the page as HTML.

    :param asked: the request of the application
    """
    scopes = "".join(f"<li>{escape(scope)}</li>" for scope in asked.scope.split())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Authorise Airflow?</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem }}
button {{ font: inherit; padding: .5rem 1.25rem; margin-right: .5rem }}</style></head>
<body><h1>Authorise Airflow?</h1>
<p>This is the sandbox: nothing is sent to anyone, and no account is touched.</p>
<p>The application asks for:</p><ul>{scopes}</ul>
<p>Your answer goes to <code>{escape(asked.redirect_uri)}</code>.</p>
<form method="post"><button name="answer" value="agree">Authorise</button>
<button name="answer" value="deny">Deny</button></form></body></html>"""
