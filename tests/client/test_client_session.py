"""The session with made-up answers: what it sends, what it repeats, and what it never does."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest
import requests

from airflow_provider_sendoso.client.answers import Phase
from airflow_provider_sendoso.client.endpoints import Auth, Request, me_request
from airflow_provider_sendoso.client.oauth import Tokens
from airflow_provider_sendoso.client.pages import Listing
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.client.tokens import MemoryTokenStore
from airflow_provider_sendoso.exceptions import (
    SendosoAuthError,
    SendosoBadRequestError,
    SendosoConnectionError,
    SendosoNotFoundError,
    SendosoRateLimitError,
    SendosoServerError,
)

URL = "https://app.sendoso.com"
ME = f"{URL}/api/v3/me"
SENDS = f"{URL}/api/v3/sends"
POST = Request("POST", "/api/v3/sends", json={"send": {"email": "ada@example.com"}})

CONNECT = {"exc": requests.exceptions.ConnectTimeout}
READ = {"exc": requests.exceptions.ReadTimeout}


def status(code: int, **headers: str) -> dict:
    return {
        "status_code": code,
        "json": {"message": "No."},
        "headers": {k.replace("_", "-"): v for k, v in headers.items()},
    }


@pytest.fixture
def tokens(requests_mock):
    """Grants token-1, token-2, …"""
    granted = []

    def grant(request, context):
        granted.append(request)
        return {"access_token": f"token-{len(granted)}", "expires_in": 7200}

    requests_mock.post(f"{URL}/oauth/token", json=grant)
    return granted


@pytest.fixture
def session(session_on, tokens) -> SendosoSession:
    return session_on(URL)


class TestWhatIsSent:
    def test_the_token_request_has_the_credentials_in_its_body(self, session, tokens):
        assert session.token() == "token-1"
        (request,) = tokens
        assert request.json() == {
            "grant_type": "client_credentials",
            "client_id": "sandbox",
            "client_secret": "sandbox",
        }
        assert "Authorization" not in request.headers
        assert request.headers["Content-Type"] == "application/json"

    def test_the_token_request_has_the_configured_scope(self, session_on, tokens):
        session_on(URL, scope="public write").token()
        assert tokens[0].json()["scope"] == "public write"

    def test_a_call_has_the_bearer_token_and_a_user_agent(self, session, requests_mock):
        requests_mock.get(ME, json={"id": 1})
        session.read(me_request())
        headers = requests_mock.last_request.headers
        assert headers["Authorization"] == "Bearer token-1"
        assert headers["Accept"] == "application/json"
        assert headers["User-Agent"].startswith("airflow-provider-sendoso/")

    def test_a_post_has_its_json_body(self, session, requests_mock):
        requests_mock.post(SENDS, json={"id": 1}, status_code=201)
        exchange = session.paced(POST, "t")
        assert (exchange.phase, exchange.status) == (Phase.ANSWERED, 201)
        assert requests_mock.last_request.json() == POST.json

    def test_a_read_has_its_query(self, session, requests_mock):
        requests_mock.get(f"{URL}/x", json={})
        session.read(Request("GET", "/x", params={"text_search": "a&b", "ids[]": [1, 2]}))
        assert requests_mock.last_request.qs == {"text_search": ["a&b"], "ids[]": ["1", "2"]}

    def test_a_netrc_file_does_not_replace_the_token(self, session, requests_mock, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine app.sendoso.com login somebody password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        requests_mock.get(ME, json={})
        session.read(me_request())
        assert requests_mock.last_request.headers["Authorization"] == "Bearer token-1"
        assert "Authorization" not in requests_mock.request_history[0].headers

    @pytest.mark.parametrize(
        ("auth", "header"),
        [(Auth.BEARER, "Bearer token-1"), (Auth.BASIC, "Basic c2FuZGJveDpzYW5kYm94"), (Auth.NONE, None)],
    )
    def test_the_request_decides_between_bearer_basic_and_no_authorization(self, session, requests_mock, auth, header):
        requests_mock.post(f"{URL}/x", json={})
        session.paced(Request("POST", "/x", auth=auth), "token-1")
        assert requests_mock.last_request.headers.get("Authorization") == header

    def test_basic_credentials_outside_latin_1_are_encoded_in_utf_8(self, session_on, requests_mock):
        requests_mock.post(f"{URL}/x", json={})
        session_on(URL, client_secret="ü-🔑").paced(Request("POST", "/x", auth=Auth.BASIC))
        scheme, text = requests_mock.last_request.headers["Authorization"].split()
        assert (scheme, base64.b64decode(text).decode()) == ("Basic", "sandbox:ü-🔑")

    def test_each_request_takes_one_slot(self, session, requests_mock, pace):
        requests_mock.get(ME, [status(503), {"json": {}}])
        session.read(me_request())
        assert pace.slots == len(requests_mock.request_history) == 3

    def test_reads_enter_the_poll_queue_and_sends_do_not(self, session, requests_mock, pace):
        requests_mock.get(ME, json={})
        requests_mock.post(SENDS, json={})
        session.read(me_request())
        session.paced(POST, "t")
        assert pace.asked == ["send", "queue", "poll", "send"]  # a token, the read, the POST

    def test_many_calls_use_one_token(self, session, requests_mock, tokens):
        requests_mock.get(ME, json={})
        for _ in range(5):
            session.read(me_request())
        assert len(tokens) == 1


class TestReadsAreRepeated:
    @pytest.mark.parametrize(
        "failure",
        [CONNECT, READ, *[status(code) for code in (429, 500, 502, 503, 504)], {"text": "<html>"}, {"text": ""}],
    )
    def test_a_read_is_repeated_until_it_succeeds(self, session, requests_mock, naps, failure):
        call = requests_mock.get(ME, [failure, failure, {"json": {"id": 1}}])
        assert session.read(me_request()).json == {"id": 1}
        assert call.call_count == 3
        assert len(naps) == 2

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            (CONNECT, SendosoConnectionError),
            (READ, SendosoConnectionError),
            (status(429), SendosoRateLimitError),
            (status(500), SendosoServerError),
            ({"text": "<html>"}, SendosoServerError),
        ],
    )
    def test_a_read_is_given_up_after_five_attempts(self, session, requests_mock, failure, kind):
        call = requests_mock.get(ME, [failure])
        with pytest.raises(kind):
            session.read(me_request())
        assert call.call_count == 5

    @pytest.mark.parametrize(
        ("code", "kind"), [(400, SendosoBadRequestError), (403, SendosoAuthError), (404, SendosoNotFoundError)]
    )
    def test_a_read_is_not_repeated_after_an_error_that_stays(self, session, requests_mock, naps, code, kind):
        call = requests_mock.get(ME, [status(code)])
        with pytest.raises(kind):
            session.read(me_request())
        assert call.call_count == 1
        assert naps == []

    @pytest.mark.parametrize(("retry_after", "calls"), [("120", 5), ("121", 1)])
    def test_a_long_throttle_is_not_waited_out(self, session, requests_mock, retry_after, calls):
        call = requests_mock.get(ME, [status(429, retry_after=retry_after)])
        with pytest.raises(SendosoRateLimitError):
            session.read(me_request())
        assert call.call_count == calls

    def test_a_long_throttle_delays_the_next_call_by_two_minutes_at_most(self, session, requests_mock, pace):
        requests_mock.get(ME, [status(429, retry_after="3600")])
        with pytest.raises(SendosoRateLimitError) as caught:
            session.read(me_request())
        assert caught.value.retry_after == 3600
        assert set(pace.pushed_back) == {120}

    @pytest.mark.parametrize("failure", [CONNECT, READ, status(429), status(500), {"text": "<html>"}])
    def test_read_once_is_not_repeated(self, session, requests_mock, naps, failure):
        call = requests_mock.get(ME, [failure])
        with pytest.raises((SendosoConnectionError, SendosoRateLimitError, SendosoServerError)):
            session.read_once(me_request())
        assert (call.call_count, naps) == (1, [])

    def test_pauses_between_attempts_grow_and_stay_below_ten_seconds(self, session, requests_mock, naps):
        requests_mock.get(ME, [status(500)])
        with pytest.raises(SendosoServerError):
            session.read(me_request())
        assert len(naps) == 4
        assert 0 < naps[0] < naps[-1] < 10

    @pytest.mark.parametrize("failure", [CONNECT, status(500), status(429), {"text": "<html>"}])
    def test_a_token_request_is_repeated(self, session_on, requests_mock, failure):
        call = requests_mock.post(f"{URL}/oauth/token", [failure, {"json": {"access_token": "t"}}])
        assert session_on(URL).token() == "t"
        assert call.call_count == 2

    @pytest.mark.parametrize("token", ["a\ns3cret", "a b", "tökén"])
    def test_a_token_that_fits_into_no_header_is_refused_without_being_shown(self, session_on, requests_mock, token):
        requests_mock.post(f"{URL}/oauth/token", json={"access_token": token})
        with pytest.raises(SendosoServerError, match="without an access_token") as caught:
            session_on(URL).read_once(me_request())
        assert "s3cret" not in f"{caught.value!r}"

    def test_a_token_request_with_wrong_credentials_is_not_repeated(self, session_on, requests_mock):
        call = requests_mock.post(f"{URL}/oauth/token", [status(401)])
        with pytest.raises(SendosoAuthError, match="did not grant a token"):
            session_on(URL).token()
        assert call.call_count == 1


class TestPacedCallsAreNot:
    @pytest.mark.parametrize(
        "failure", [CONNECT, READ, *[status(code) for code in (302, 401, 408, 409, 429, 500, 502, 503, 504)]]
    )
    def test_a_paced_call_is_made_once_whatever_the_answer(self, session, requests_mock, naps, failure):
        call = requests_mock.post(SENDS, [failure, {"json": {"id": 1}}])
        session.paced(POST, "t")
        assert call.call_count == 1
        assert naps == []

    @pytest.mark.parametrize(("failure", "phase"), [(CONNECT, Phase.NOT_CONNECTED), (READ, Phase.LOST)])
    def test_a_failed_call_returns_its_phase_and_the_name_of_the_error(self, session, requests_mock, failure, phase):
        requests_mock.post(SENDS, [failure])
        exchange = session.paced(POST, "t")
        assert (exchange.phase, exchange.answer, exchange.error) == (phase, None, failure["exc"].__name__)

    def test_before_runs_between_the_slot_and_the_call(self, session, requests_mock, pace):
        call = requests_mock.post(SENDS, json={})
        seen = []
        session.await_turn(before=lambda: seen.append((pace.slots, call.call_count)))
        session.call(POST, "t")
        assert seen == [(1, 0)]
        assert call.call_count == 1

    def test_a_free_slot_and_the_commit_of_posting_share_one_transaction(self, session, monkeypatch, pace):
        free = [True, False]
        seen = []

        def take(send) -> bool:
            seen.append(f"take for {send.row}")
            if free[0]:
                send.commit_posting("transaction")
            return free.pop(0)

        def commit(transaction=None) -> None:
            seen.append(f"within {transaction}" if transaction else "before")

        def await_turn() -> list[str]:
            seen.clear()
            session.await_turn_to_send(SimpleNamespace(row="k", commit_posting=commit), sleep=session.sleep)
            return list(seen)

        monkeypatch.setattr(pace, "take", take)
        assert await_turn() == ["take for k", "within transaction"]
        monkeypatch.setattr(pace, "reserve", lambda *, poll: 0.01)
        assert await_turn() == ["take for k", "before"]
        # If a call had to wait, other calls wait as well: no slot is free, so none is asked for.
        monkeypatch.setattr(pace, "reserve", lambda *, poll: 0.0)
        assert await_turn() == ["before"]
        # No call had to wait this time.
        free.append(True)
        assert await_turn() == ["take for k", "within transaction"]

    def test_an_error_in_before_keeps_the_call_from_being_made(self, session, requests_mock):
        call = requests_mock.post(SENDS, json={})

        def refuse() -> None:
            raise KeyError("claim lost")

        with pytest.raises(KeyError):
            session.await_turn(before=refuse)
        assert call.call_count == 0

    @pytest.mark.parametrize(("headers", "seconds"), [({"retry_after": "7"}, 7), ({}, 1), ({"retry_after": "soon"}, 1)])
    def test_a_throttle_pushes_the_accounts_pace_back(self, session, requests_mock, pace, headers, seconds):
        requests_mock.post(SENDS, [status(429, **headers)])
        session.paced(POST, "t")
        assert pace.pushed_back == [seconds]

    @pytest.mark.parametrize("code", [200, 401, 422, 503])
    def test_no_other_status_pushes_the_pace_back(self, session, requests_mock, pace, code):
        requests_mock.post(SENDS, [status(code, retry_after="7")])
        session.paced(POST, "t")
        assert pace.pushed_back == []


class TestRedirects:
    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_a_redirect_of_a_post_is_not_followed(self, session, requests_mock, code):
        requests_mock.post(SENDS, [status(code, location=f"{URL}/elsewhere")])
        elsewhere = requests_mock.register_uri("POST", f"{URL}/elsewhere", json={"id": 1})
        assert session.paced(POST, "t").status == code
        assert elsewhere.call_count == 0

    def test_a_redirect_of_a_read_is_not_followed(self, session, requests_mock):
        requests_mock.get(ME, [status(302, location="https://elsewhere.example.com/login")])
        elsewhere = requests_mock.get("https://elsewhere.example.com/login", json={"id": 1})
        with pytest.raises(SendosoServerError, match="answered 302"):
            session.read(me_request())
        assert elsewhere.call_count == 0

    def test_a_redirect_of_a_token_request_is_not_followed(self, session_on, requests_mock):
        requests_mock.post(f"{URL}/oauth/token", [status(307, location="https://elsewhere.example.com/")])
        elsewhere = requests_mock.post("https://elsewhere.example.com/", json={"access_token": "t"})
        with pytest.raises(SendosoServerError):
            session_on(URL).token()
        assert elsewhere.call_count == 0


class TestUnauthorised:
    def test_a_refused_token_is_renewed_once(self, session, requests_mock, tokens):
        call = requests_mock.get(ME, [status(401), {"json": {"id": 1}}])
        assert session.read(me_request()).json == {"id": 1}
        sent = [request.headers["Authorization"] for request in call.request_history]
        assert sent == ["Bearer token-1", "Bearer token-2"]

    def test_read_once_renews_a_refused_token(self, session, requests_mock, tokens):
        call = requests_mock.get(ME, [status(401), {"json": {"id": 1}}])
        assert session.read_once(me_request()).json == {"id": 1}
        assert (call.call_count, len(tokens)) == (2, 2)

    def test_a_renewed_token_that_is_refused_is_an_error(self, session, requests_mock, tokens):
        call = requests_mock.get(ME, [status(401)])
        with pytest.raises(SendosoAuthError):
            session.read(me_request())
        assert (call.call_count, len(tokens)) == (2, 2)

    def test_a_token_that_another_process_has_renewed_is_not_renewed_again(
        self, session_on, requests_mock, tokens, pace
    ):
        store = MemoryTokenStore()
        ours = SendosoSession(session_on(URL).config, store, pace)
        ours.token()
        store.store("somebody else", Tokens("their-token").dump(), 3600)
        call = requests_mock.get(ME, [status(401), {"json": {"id": 1}}])
        ours.read(me_request())
        assert call.request_history[-1].headers["Authorization"] == "Bearer their-token"
        assert len(tokens) == 1


class TestTokensAreMasked:
    def test_a_token_is_masked_before_it_is_used(self, session_on, requests_mock, tokens, pace):
        seen: list[str] = []
        ours = SendosoSession(session_on(URL).config, MemoryTokenStore(), pace, mask=seen.append)

        def me(request, context):
            assert seen == ["token-1"]
            return {"id": 1}

        requests_mock.get(ME, json=me)
        ours.read(me_request())


class TestPages:
    def test_pages_are_read_as_their_rows_are_used(self, session, requests_mock):
        rows = [{"id": number} for number in range(102)]
        pages = [{"json": {"gifts": page, "total_count": 102}} for page in (rows[:100], rows[100:])]
        call = requests_mock.get(f"{URL}/api/v3/gifts", pages)
        walk = session.read_listing(Listing(Request("GET", "/api/v3/gifts"), "gifts"))
        next(walk)
        assert call.call_count == 1
        assert len(list(walk)) == 101
        assert [request.qs["page"] for request in call.request_history] == [["1"], ["2"]]
