"""OAuth's requests and answers, and the order in which refresh tokens are tried."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import SecretStr

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import Auth
from airflow_provider_sendoso.client.oauth import (
    Grant,
    Tokens,
    authorize_url,
    client_credentials_request,
    code_request,
    read_grant,
    refresh_request,
    renewal,
    revoke_request,
)
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoConnectionError,
    SendosoError,
    SendosoServerError,
)

CONFIG = ClientConfig(base_url="https://app.sendoso.com", client_id="cid", client_secret="s3cret", account="a")
REQUEST = client_credentials_request(CONFIG)


def answered(status: int, body: object) -> Exchange:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Exchange(Phase.ANSWERED, Answer(status, {}, raw))


class TestRequest:
    def test_a_client_credentials_request_has_grant_type_and_credentials(self):
        assert (REQUEST.method, REQUEST.path, REQUEST.params) == ("POST", "/oauth/token", {})
        assert REQUEST.json == {"grant_type": "client_credentials", "client_id": "cid", "client_secret": "s3cret"}

    def test_a_configured_scope_is_in_the_request(self):
        scoped = client_credentials_request(CONFIG.model_copy(update={"scope": "public write"}))
        assert scoped.json == REQUEST.json | {"scope": "public write"}

    @pytest.mark.parametrize(
        ("request_", "fields"),
        [
            (refresh_request(CONFIG, "r3fresh"), {"grant_type": "refresh_token", "refresh_token": "r3fresh"}),
            (
                code_request(CONFIG, "c0de", "http://127.0.0.1/"),
                {"grant_type": "authorization_code", "code": "c0de", "redirect_uri": "http://127.0.0.1/"},
            ),
        ],
    )
    def test_a_refresh_or_code_request_has_its_grant_type(self, request_, fields):
        assert (request_.method, request_.path, request_.auth) == ("POST", "/oauth/token", Auth.NONE)
        assert request_.json == {"client_id": "cid", "client_secret": "s3cret"} | fields

    def test_a_revocation_names_its_token_in_the_query(self):
        request = revoke_request("t0ken")
        assert (request.method, request.path, request.auth) == ("POST", "/oauth/revoke", Auth.BASIC)
        assert (request.params, request.json) == ({"token": "t0ken"}, None)

    def test_the_authorise_url_has_every_parameter_quoted(self):
        url = urlsplit(authorize_url(CONFIG, "http://127.0.0.1:1/?a=b", "public write", "st&te"))
        assert (url.scheme, url.netloc, url.path) == ("https", "app.sendoso.com", "/oauth/authorize")
        assert dict(parse_qsl(url.query, strict_parsing=True)) == {
            "client_id": "cid",
            "redirect_uri": "http://127.0.0.1:1/?a=b",
            "response_type": "code",
            "scope": "public write",
            "state": "st&te",
        }

    @pytest.mark.parametrize(
        "request_",
        [REQUEST, refresh_request(CONFIG, "s3cret"), code_request(CONFIG, "s3cret", "u"), revoke_request("s3cret")],
    )
    def test_the_repr_of_a_request_has_no_secret(self, request_):
        assert "s3cret" not in f"{request_!r} {request_}"


class TestGrant:
    @pytest.mark.parametrize(
        ("expires_in", "lifetime"),
        [(7200, 7200), (60, 60), ("3600", 3600), (None, 7200), ("soon", 7200), (0, 7200), (-5, 7200), ([], 7200)],
    )
    def test_the_lifetime_of_a_grant_is_read_and_has_a_default(self, expires_in, lifetime):
        grant = read_grant(REQUEST, answered(200, {"access_token": "t", "expires_in": expires_in}))
        assert (grant.access_token, grant.lifetime) == ("t", lifetime)

    @pytest.mark.parametrize(("lifetime", "renew_after"), [(7200, 6900), (3000, 2700), (600, 540), (10, 9)])
    def test_a_grant_is_renewed_some_time_before_it_expires(self, lifetime, renew_after):
        grant = read_grant(REQUEST, answered(200, {"access_token": "t", "expires_in": lifetime}))
        assert grant.renew_after == pytest.approx(renew_after)

    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_refused_credentials_are_an_auth_error_with_the_oauth_code(self, status):
        with pytest.raises(SendosoAuthError, match=r"did not grant a token \(invalid_client\)") as caught:
            read_grant(REQUEST, answered(status, {"error": "invalid_client"}))
        assert caught.value.status_code == status

    @pytest.mark.parametrize("body", [b"", b"<html>", [], {"message": "no"}])
    def test_refused_credentials_without_an_oauth_code_are_an_auth_error_with_the_status(self, body):
        with pytest.raises(SendosoAuthError, match=r"did not grant a token \(401\)"):
            read_grant(REQUEST, answered(401, body))

    @pytest.mark.parametrize("code", ["my s3cret", "s3cret!", "S3CRET", ["s3cret"], "x" * 41])
    def test_only_text_that_looks_like_an_oauth_code_is_repeated(self, code):
        with pytest.raises(SendosoAuthError, match=r"did not grant a token \(401\)") as caught:
            read_grant(REQUEST, answered(401, {"error": code}))
        assert "s3cret" not in str(caught.value).lower()

    @pytest.mark.parametrize(
        "body",
        [{}, [], "t"] + [{"access_token": token} for token in ("", None, 5, ["t"], "a\ns3cret", "s3cret ", "s3crét")],
    )
    def test_a_grant_without_a_usable_access_token_is_a_server_error(self, body):
        with pytest.raises(SendosoServerError, match="without an access_token") as caught:
            read_grant(REQUEST, answered(200, body))
        assert "s3cr" not in str(caught.value)

    @pytest.mark.parametrize(("given", "read"), [("r", "r"), (None, None), (5, None)])
    def test_the_refresh_token_of_a_grant_is_read(self, given, read):
        assert read_grant(REQUEST, answered(200, {"access_token": "t", "refresh_token": given})).refresh_token == read

    @pytest.mark.parametrize(
        ("exchange", "kind"),
        [
            (Exchange(Phase.NOT_CONNECTED, error="gaierror"), SendosoConnectionError),
            (Exchange(Phase.LOST, error="ReadTimeout"), SendosoConnectionError),
            (answered(200, b"<html>"), SendosoServerError),
            (answered(503, {"message": "s3cret for cid"}), SendosoServerError),
        ],
    )
    def test_other_failures_are_errors_without_the_secret(self, exchange, kind):
        with pytest.raises(kind) as caught:
            read_grant(REQUEST, exchange)
        assert "s3cret" not in str(caught.value)


class TestTokens:
    def test_tokens_survive_the_store(self):
        tokens = Tokens("t", "r").spend("old")
        assert Tokens.load(tokens.dump()) == tokens
        assert Tokens.load(None) == Tokens()

    def test_a_spent_token_is_remembered_and_not_readable(self):
        tokens = Tokens("t", "r3fresh").spend("r3fresh")
        assert (tokens.refresh_token, tokens.is_spent("r3fresh"), tokens.is_spent("another")) == (None, True, False)
        assert "r3fresh" not in tokens.dump()

    def test_spending_another_refresh_token_keeps_the_current_one(self):
        assert Tokens("t", "ours").spend("another").refresh_token == "ours"

    def test_only_the_latest_spent_tokens_are_remembered(self):
        tokens = Tokens()
        for number in range(1000):
            tokens = tokens.spend(str(number))
        assert len(tokens.dump()) < 1000
        assert tokens.is_spent("999")

    @pytest.mark.parametrize(("given", "kept"), [("new", "new"), (None, "old")])
    def test_a_grant_replaces_the_tokens_and_keeps_the_refresh_token_that_it_lacks(self, given, kept):
        assert Tokens("t", "old").granted(Grant("t-2", 60, given)) == Tokens("t-2", kept)

    @pytest.mark.parametrize(
        ("tokens", "seed", "next_one"),
        [
            (Tokens(), None, None),
            (Tokens(), "seed", "seed"),
            (Tokens(refresh_token="stored"), "seed", "stored"),
            (Tokens(refresh_token="stored").spend("stored"), "seed", "seed"),
            (Tokens().spend("seed"), "seed", None),
        ],
    )
    def test_the_stored_refresh_token_comes_before_the_connections(self, tokens, seed, next_one):
        assert tokens.next_refresh_token(seed) == next_one


class TestRenewal:
    """The generator of a renewal, without a server: the requests that it makes, and the tokens that it stores."""

    SEEDED = CONFIG.model_copy(update={"grant_type": "refresh_token", "refresh_token": SecretStr("seed")})
    DEAD = answered(400, {"error": "invalid_grant"})

    def end(self, steps, exchange: Exchange) -> tuple[Tokens, Grant]:
        with pytest.raises(StopIteration) as end:
            steps.send(exchange)
        return end.value.value

    def test_a_renewal_by_client_credentials_stores_the_new_token(self):
        steps = renewal(CONFIG, Tokens("old"))
        assert next(steps) == REQUEST
        assert self.end(steps, answered(200, {"access_token": "t"})) == (Tokens("t"), Grant("t", 7200))

    def test_a_renewal_by_refresh_token_marks_the_token_as_spent(self):
        steps = renewal(self.SEEDED, Tokens())
        assert next(steps) == refresh_request(CONFIG, "seed")
        tokens, grant = self.end(steps, answered(200, {"access_token": "t", "refresh_token": "r"}))
        assert (tokens, grant.refresh_token) == (Tokens("t", "r", Tokens().spend("seed").spent), "r")

    def test_a_dead_refresh_token_is_stored_as_spent_before_the_next_is_tried(self):
        steps = renewal(self.SEEDED, Tokens("old", "stored"))
        assert next(steps) == refresh_request(CONFIG, "stored")
        poorer = steps.send(self.DEAD)
        assert poorer == Tokens("old", "stored").spend("stored")
        assert next(steps) == refresh_request(CONFIG, "seed")
        assert steps.send(self.DEAD) == poorer.spend("seed")
        with pytest.raises(SendosoAuthError, match="A person has to authorise again"):
            next(steps)

    @pytest.mark.parametrize(
        "exchange",
        [
            Exchange(Phase.LOST, error="ReadTimeout"),
            answered(401, {"error": "invalid_client"}),
            answered(500, {"error": "invalid_grant"}),
            answered(400, b"<html>"),
        ],
    )
    def test_only_an_invalid_grant_with_400_marks_a_refresh_token_as_dead(self, exchange):
        steps = renewal(self.SEEDED, Tokens("old", "stored"))
        next(steps)
        with pytest.raises(SendosoError):
            steps.send(exchange)
