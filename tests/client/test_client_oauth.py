"""The token request, and what its answer says."""

from __future__ import annotations

import json

import pytest

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import token_request
from airflow_provider_sendoso.client.oauth import read_grant
from airflow_provider_sendoso.exceptions import SendosoAuthError, SendosoConnectionError, SendosoServerError

CONFIG = ClientConfig(base_url="https://app.sendoso.com", client_id="cid", client_secret="s3cret", account="a")
REQUEST = token_request(CONFIG)


def answered(status: int, body: object) -> Exchange:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Exchange(Phase.ANSWERED, Answer(status, {}, raw))


class TestRequest:
    def test_client_credentials(self):
        assert (REQUEST.method, REQUEST.path, REQUEST.params) == ("POST", "/oauth/token", {})
        assert REQUEST.json == {"grant_type": "client_credentials", "client_id": "cid", "client_secret": "s3cret"}

    def test_scope_where_there_is_one(self):
        scoped = token_request(CONFIG.model_copy(update={"scope": "public write"}))
        assert scoped.json == REQUEST.json | {"scope": "public write"}

    def test_the_secret_is_in_no_repr(self):
        assert "s3cret" not in f"{REQUEST!r} {REQUEST}"


class TestGrant:
    @pytest.mark.parametrize(
        ("expires_in", "lifetime"),
        [(7200, 7200), (60, 60), ("3600", 3600), (None, 7200), ("soon", 7200), (0, 7200), (-5, 7200), ([], 7200)],
    )
    def test_its_lifetime(self, expires_in, lifetime):
        grant = read_grant(REQUEST, answered(200, {"access_token": "t", "expires_in": expires_in}))
        assert (grant.access_token, grant.lifetime) == ("t", lifetime)

    @pytest.mark.parametrize(("lifetime", "renew_after"), [(7200, 6900), (3000, 2700), (600, 540), (10, 9)])
    def test_when_it_is_renewed(self, lifetime, renew_after):
        grant = read_grant(REQUEST, answered(200, {"access_token": "t", "expires_in": lifetime}))
        assert grant.renew_after == pytest.approx(renew_after)

    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_wrong_credentials(self, status):
        with pytest.raises(SendosoAuthError, match=r"did not grant a token \(invalid_client\)") as caught:
            read_grant(REQUEST, answered(status, {"error": "invalid_client"}))
        assert caught.value.status_code == status

    @pytest.mark.parametrize("body", [b"", b"<html>", [], {"message": "no"}])
    def test_wrong_credentials_in_other_words(self, body):
        with pytest.raises(SendosoAuthError, match=r"did not grant a token \(401\)"):
            read_grant(REQUEST, answered(401, body))

    @pytest.mark.parametrize("body", [{}, [], "t", {"access_token": ""}, {"access_token": None}, {"access_token": 5}])
    def test_no_token(self, body):
        with pytest.raises(SendosoServerError, match="without an access_token"):
            read_grant(REQUEST, answered(200, body))

    @pytest.mark.parametrize(
        ("exchange", "kind"),
        [
            (Exchange(Phase.NOT_CONNECTED, error="gaierror"), SendosoConnectionError),
            (Exchange(Phase.LOST, error="ReadTimeout"), SendosoConnectionError),
            (answered(200, b"<html>"), SendosoServerError),
            (answered(503, {"message": "s3cret for cid"}), SendosoServerError),
        ],
    )
    def test_other_failures(self, exchange, kind):
        with pytest.raises(kind) as caught:
            read_grant(REQUEST, exchange)
        assert "s3cret" not in str(caught.value)
