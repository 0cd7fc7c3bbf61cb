"""The sandbox's authorise page, its codes and refresh tokens, and the end of a token."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.tokens import CODE_LIFETIME, Tokens

CALLBACK = "http://127.0.0.1:9/callback"
INVALID_GRANT = "invalid_grant"


@pytest.fixture
def page(sandbox):
    """Makes the address of the authorise page."""

    def make(**changes: str | None) -> str:
        query = {
            "client_id": "sandbox",
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "public write",
            "state": "state-1",
        } | changes
        return f"{sandbox.url}/oauth/authorize?{urlencode({k: v for k, v in query.items() if v is not None})}"

    return make


@pytest.fixture
def agree(page):
    """Agrees, as a browser does; returns the parameters that the callback gets."""

    def do(answer: str = "agree", **changes: str) -> dict[str, str]:
        response = requests.post(page(**changes), data={"answer": answer}, allow_redirects=False, timeout=60)
        assert response.status_code == 302
        return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}

    return do


@pytest.fixture
def ask_token(sandbox):
    """Makes a token request."""

    def do(**fields: str) -> requests.Response:
        client = {"client_id": "sandbox", "client_secret": "sandbox"}
        return requests.post(f"{sandbox.url}/oauth/token", json=client | fields, timeout=60)

    return do


@pytest.fixture
def exchange(ask_token):
    return lambda code, **changes: ask_token(
        **{"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK} | changes
    )


@pytest.fixture
def refresh(ask_token):
    return lambda token, **changes: ask_token(**{"grant_type": "refresh_token", "refresh_token": token} | changes)


@pytest.fixture
def revoke(sandbox):
    return lambda token, auth=("sandbox", "sandbox"): requests.post(
        f"{sandbox.url}/oauth/revoke", params={"token": token}, auth=auth, timeout=5
    )


def me(sandbox: Sandbox, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{sandbox.url}/api/v3/me", headers=headers, timeout=60).status_code


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str | None]] = []
        self.buttons: list[dict[str, str | None]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("form", "button"):
            {"form": self.forms, "button": self.buttons}[tag].append(dict(attrs))


# The page.


def test_the_authorise_page_has_a_form_to_agree_or_deny(page):
    response = requests.get(page(), timeout=60)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    form = _Form()
    form.feed(response.text)
    assert form.forms == [{"method": "post"}]  # to the page's own address, query included
    assert form.buttons == [{"name": "answer", "value": "agree"}, {"name": "answer", "value": "deny"}]
    assert "<li>public</li><li>write</li>" in response.text
    assert CALLBACK in response.text


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><b>&amp;"])
@pytest.mark.parametrize("where", ["scope", "redirect_uri", "state"])
def test_the_authorise_page_escapes_every_value(page, where, evil):
    value = f"http://127.0.0.1:9/{evil}" if where == "redirect_uri" else evil.replace(" ", "/")
    response = requests.get(page(**{where: value}), timeout=60)
    assert response.status_code == 200
    assert evil not in response.text
    form = _Form()
    form.feed(response.text)
    assert not form.tags & {"script", "img", "b"}


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "another"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"response_type": "token"}, 400, "unsupported_response_type"),
        ({"response_type": None}, 400, "unsupported_response_type"),
        ({"redirect_uri": None}, 400, "invalid_redirect_uri"),
        ({"redirect_uri": "javascript:alert(1)"}, 400, "invalid_redirect_uri"),
        ({"redirect_uri": "/callback"}, 400, "invalid_redirect_uri"),
    ],
)
def test_a_bad_request_is_shown_and_not_redirected(page, method, changes, status, error):
    response = requests.request(method, page(**changes), data={"answer": "agree"}, allow_redirects=False, timeout=60)
    assert response.status_code == status
    assert response.json()["error"] == error
    assert "Location" not in response.headers


def test_agreeing_brings_code_and_state(agree):
    parameters = agree()
    assert parameters.keys() == {"code", "state"}
    assert parameters["state"] == "state-1"


@pytest.mark.parametrize("answer", ["deny", "", "AGREE"])
def test_anything_but_agreeing_is_a_denial(agree, answer):
    parameters = agree(answer)
    assert parameters["error"] == "access_denied"
    assert parameters["state"] == "state-1"
    assert "code" not in parameters


def test_a_callback_that_has_a_query_keeps_it(page):
    address = page(redirect_uri=f"{CALLBACK}?a=b", state="x&y=z")
    location = requests.post(address, data={"answer": "deny"}, allow_redirects=False, timeout=60).headers["Location"]
    assert location.startswith(f"{CALLBACK}?a=b&")
    assert parse_qs(urlsplit(location).query)["state"] == ["x&y=z"]


# Codes.


def test_a_code_brings_both_tokens(sandbox, agree, exchange):
    answer = exchange(agree(scope="public update")["code"])
    assert answer.status_code == 200
    body = answer.json()
    assert body["scope"] == "public update"
    assert body["expires_in"] == 7200
    assert body["refresh_token"] != body["access_token"]
    assert me(sandbox, body["access_token"]) == 200


def test_a_code_works_once(agree, exchange):
    code = agree()["code"]
    assert exchange(code).status_code == 200
    second = exchange(code)
    assert (second.status_code, second.json()["error"]) == (400, INVALID_GRANT)


def test_a_code_belongs_to_its_redirect_uri(agree, exchange):
    refused = exchange(agree()["code"], redirect_uri="http://127.0.0.1:9/other")
    assert (refused.status_code, refused.json()["error"]) == (400, INVALID_GRANT)


def test_a_made_up_code_is_refused(exchange):
    assert exchange("made-up").json()["error"] == INVALID_GRANT


def test_a_wrong_client_does_not_use_a_code_up(agree, exchange):
    code = agree()["code"]
    refused = exchange(code, client_secret="wrong")
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert exchange(code).status_code == 200


def test_a_code_expires():
    now = [1000.0]
    tokens = Tokens("me", "secret", 7200, lambda: now[0])
    request = {"grant_type": "authorization_code", "client_id": "me", "client_secret": "secret", "redirect_uri": "x"}
    young, old = tokens.issue_code("x", "public"), tokens.issue_code("x", "public")
    now[0] += CODE_LIFETIME - 1
    assert tokens.grant(request | {"code": young})["access_token"]
    now[0] += 1
    with pytest.raises(Exception, match=INVALID_GRANT):
        tokens.grant(request | {"code": old})


# Refresh tokens.


def test_a_refresh_token_works_once_and_brings_the_next(sandbox, refresh):
    first = sandbox.issue_refresh_token()
    answer = refresh(first)
    assert answer.status_code == 200
    assert me(sandbox, answer.json()["access_token"]) == 200
    again = refresh(first)
    assert (again.status_code, again.json()["error"]) == (400, INVALID_GRANT)
    second = answer.json()["refresh_token"]
    assert second != first
    assert refresh(second).status_code == 200


def test_a_refresh_token_keeps_its_scope(agree, exchange, refresh):
    first = exchange(agree(scope="public smartsend")["code"]).json()
    second = refresh(first["refresh_token"]).json()
    assert second["scope"] == "public smartsend"
    assert refresh(second["refresh_token"]).json()["scope"] == "public smartsend"


def test_a_wrong_client_does_not_use_a_refresh_token_up(sandbox, refresh):
    token = sandbox.issue_refresh_token()
    for wrong in ({"client_id": "another"}, {"client_secret": "wrong"}):
        refused = refresh(token, **wrong)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refresh(token).status_code == 200


def test_an_access_token_outlives_the_renewal(sandbox, refresh):
    first = refresh(sandbox.issue_refresh_token()).json()
    refresh(first["refresh_token"])
    assert me(sandbox, first["access_token"]) == 200


@pytest.mark.parametrize("fields", [{}, {"refresh_token": None}, {"refresh_token": []}])
def test_a_request_without_a_refresh_token_is_refused(sandbox, ask_token, fields):
    sandbox.issue_refresh_token()
    assert ask_token(grant_type="refresh_token", **fields).json()["error"] == INVALID_GRANT


# Revoking.


def test_revoking_an_access_token(sandbox, refresh, revoke):
    first = refresh(sandbox.issue_refresh_token()).json()
    other = refresh(first["refresh_token"]).json()
    assert revoke(first["access_token"]).status_code == 200
    assert me(sandbox, first["access_token"]) == 401
    assert me(sandbox, other["access_token"]) == 200
    assert refresh(other["refresh_token"]).status_code == 200


def test_revoking_a_refresh_token(sandbox, refresh, revoke):
    token, other = sandbox.issue_refresh_token(), sandbox.issue_refresh_token()
    assert revoke(token).status_code == 200
    assert refresh(token).json()["error"] == INVALID_GRANT
    assert refresh(other).status_code == 200


def test_revoking_an_unknown_token_is_no_error(revoke):
    assert revoke("made-up").status_code == 200


@pytest.mark.parametrize("auth", [("sandbox", "wrong"), ("another", "sandbox"), ("", "")])
def test_revoking_needs_the_client_credentials(sandbox, refresh, revoke, auth):
    token = sandbox.issue_refresh_token()
    refused = revoke(token, auth=auth)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refresh(token).status_code == 200


def test_a_reset_forgets_codes_and_refresh_tokens(sandbox, agree, exchange, refresh):
    code, token = agree()["code"], sandbox.issue_refresh_token()
    sandbox.reset()
    assert exchange(code).json()["error"] == INVALID_GRANT
    assert refresh(token).json()["error"] == INVALID_GRANT
