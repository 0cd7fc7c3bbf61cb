"""The sandbox's tokens: how a client gets one, and how requests without one are refused."""

from __future__ import annotations

import time

import pytest
import requests

from airflow_provider_sendoso.sandbox import Sandbox

INVALID = {"success": False, "description": "The access token is invalid"}
EXPIRED = {"success": False, "description": "The access token expired", "expired": True}
FORM = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}


def test_a_token_is_granted(client):
    before = int(time.time())
    answer = client.sign_in()
    assert answer.status_code == 200
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 7200
    assert body["scope"] == "public write"
    assert before <= body["created_at"] <= time.time()
    assert body["access_token"] not in (client.token, "")


def test_two_tokens_are_valid_at_once(client):
    second = client.sign_in().json()["access_token"]
    assert client.get("/api/v3/me").status_code == 200
    assert client.get("/api/v3/me", token=second).status_code == 200


def test_a_token_request_may_be_a_form(client):
    assert client.call("POST", "/oauth/token", token=None, data=FORM).status_code == 200


@pytest.mark.parametrize(
    "changes", [{"client_secret": "wrong"}, {"client_id": "wrong"}, {"client_secret": None}, {"client_id": []}]
)
def test_a_wrong_client_is_refused(client, changes):
    answer = client.sign_in(**changes)
    assert answer.status_code == 401
    assert answer.json() == {
        "error": "invalid_client",
        "error_description": "Client authentication failed.",
    }


@pytest.mark.parametrize("grant", ["password", None, ["client_credentials"]])
def test_another_grant_type_is_refused(client, grant):
    answer = client.sign_in(grant_type=grant)
    assert answer.status_code == 400
    assert answer.json()["error"] == "unsupported_grant_type"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_an_unreadable_token_request_is_refused(client, body):
    answer = client.call("POST", "/oauth/token", token=None, data=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == "unsupported_grant_type"


def test_the_sandbox_takes_configured_credentials():
    own = FORM | {"client_id": "me", "client_secret": "it's ✓"}
    with Sandbox(client_id="me", client_secret="it's ✓") as sandbox:
        for body, status in ((own, 200), (FORM, 401)):
            assert requests.post(f"{sandbox.url}/oauth/token", json=body, timeout=60).status_code == status
            assert requests.post(f"{sandbox.url}/oauth/token", data=body, timeout=60).status_code == status


@pytest.mark.parametrize("token", [None, "made-up"])
@pytest.mark.parametrize("path", ["/api/v3/me", "/api/v3/gifts", "/api/v3/sends", "/api/v3/sends/1", "/api/v3/x"])
def test_a_request_without_a_valid_token_is_refused(client, path, token):
    answer = client.get(path, token=token)
    assert answer.status_code == 401
    assert answer.json() == INVALID


def test_a_token_under_another_scheme_is_refused(client):
    answer = requests.get(f"{client.url}/api/v3/me", headers={"Authorization": f"Basic {client.token}"}, timeout=60)
    assert answer.status_code == 401


def test_an_expired_token_is_refused(client_of):
    with Sandbox(token_lifetime=0.1) as sandbox:
        client = client_of(sandbox)
        assert client.sign_in().json()["expires_in"] == 0
        time.sleep(0.11)
        answer = client.get("/api/v3/me")
        assert answer.status_code == 401
        assert answer.json() == EXPIRED
        assert sandbox.requests[-1].client_id == "sandbox"


def test_a_revoked_token_is_refused(sandbox, client):
    assert client.get("/api/v3/me").status_code == 200
    sandbox.revoke_tokens()
    answer = client.send()
    assert answer.status_code == 401
    assert answer.json() == INVALID
    assert sandbox.sends == []
    assert sandbox.requests[-1].client_id == "sandbox"
    client.token = client.sign_in().json()["access_token"]
    assert client.send().status_code == 201
