"""Each fault of the sandbox: what the client sees, and whether the send was accepted."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time

import pytest
import requests

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.faults import OPTIONS, Faults

SOON = (60, 0.1)
"""A client that connects with patience, and has none for the answer."""
DROPPED = requests.exceptions.ConnectionError
NO_ANSWER = (DROPPED, requests.exceptions.ChunkedEncodingError)


class TestWhatTheyDo:
    def test_drop_before_closes_the_connection_and_accepts_nothing(self, sandbox, client):
        sandbox.fault("drop_before")
        with pytest.raises(DROPPED):
            client.send()
        assert sandbox.sends == []
        assert sandbox.requests[-1].status is None

    def test_drop_after_accepts_the_send_and_closes_the_connection(self, sandbox, client):
        sandbox.fault("drop_after")
        with pytest.raises(DROPPED):
            client.send()
        assert len(sandbox.sends) == 1
        assert sandbox.requests[-1].status is None

    def test_a_dropped_connection_carries_not_one_byte(self, sandbox, client):
        sandbox.fault("drop_after")
        with socket.create_connection((sandbox.host, sandbox.port), timeout=60) as raw:
            raw.sendall(
                f"GET /api/v3/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.token}\r\n\r\n".encode()
            )
            try:
                received = raw.recv(1000)
            except ConnectionResetError:
                received = b""
        assert received == b""

    @pytest.mark.parametrize(("name", "accepted"), [("error_before", 0), ("error_after", 1)])
    @pytest.mark.parametrize(("options", "status"), [({}, 500), ({"status": 503}, 503)])
    def test_an_error_answers_its_status_before_or_after_accepting(
        self, sandbox, client, name, accepted, options, status
    ):
        sandbox.fault(name, **options)
        answer = client.send()
        assert answer.status_code == status
        assert answer.json() == {"success": False, "message": "Something went wrong"}
        assert len(sandbox.sends) == accepted

    @pytest.mark.parametrize(
        ("options", "header"),
        [
            ({}, "1"),
            ({"retry_after": 7}, "7"),
            ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, "Wed, 21 Oct 2026 07:28:00 GMT"),
            ({"retry_after": None}, None),
        ],
    )
    def test_throttle_answers_429_with_its_retry_after(self, sandbox, client, options, header):
        sandbox.fault("throttle", **options)
        answer = client.send()
        assert answer.status_code == 429
        assert answer.headers.get("Retry-After") == header
        assert sandbox.sends == []

    @pytest.mark.parametrize(("options", "accepted"), [({}, 1), ({"accept": False}, 0)])
    def test_garbage_answers_200_with_html(self, sandbox, client, options, accepted):
        sandbox.fault("garbage", **options)
        answer = client.send()
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/html")
        with pytest.raises(requests.exceptions.JSONDecodeError):
            answer.json()
        assert len(sandbox.sends) == accepted

    def test_truncate_cuts_the_body_short(self, sandbox, client):
        sandbox.fault("truncate")
        with contextlib.closing(http.client.HTTPConnection(sandbox.host, sandbox.port, timeout=60)) as connection:
            connection.request("GET", "/api/v3/me", headers={"Authorization": f"Bearer {client.token}"})
            answer = connection.getresponse()
            assert answer.status == 200
            with pytest.raises(http.client.IncompleteRead) as cut:
                answer.read()
        assert 0 < len(cut.value.partial) == int(answer.headers["Content-Length"]) // 2
        with pytest.raises(json.JSONDecodeError):
            json.loads(cut.value.partial)

    def test_truncate_accepts_the_send(self, sandbox, client):
        sandbox.fault("truncate")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            client.send()
        assert len(sandbox.sends) == 1

    def test_slow_accepts_the_send_before_it_waits(self, sandbox, client, until):
        sandbox.fault("slow", delay=1000)
        with pytest.raises(requests.exceptions.ReadTimeout):
            client.send(timeout=SOON)
        until(lambda: len(sandbox.sends) == 1)

    def test_slow_can_accept_the_send_after_the_client_has_gone(self, sandbox, client, answers_wait, until):
        sandbox.fault("slow", delay=1, accept_first=False)
        with pytest.raises(requests.exceptions.ReadTimeout):
            client.send(timeout=SOON)
        assert sandbox.sends == []
        answers_wait.set()
        until(lambda: len(sandbox.sends) == 1)

    def test_slow_answers_after_its_delay(self, sandbox, client):
        sandbox.fault("slow", delay=0.2)
        start = time.monotonic()
        assert client.send().status_code == 201
        assert time.monotonic() - start >= 0.2

    def test_status_answers_any_status_and_body(self, sandbox, client):
        sandbox.fault("status", status=409, body={"message": "what?"})
        answer = client.send()
        assert (answer.status_code, answer.json()) == (409, {"message": "what?"})
        assert sandbox.sends == []

    def test_redirect_answers_302_with_its_location(self, sandbox, client):
        sandbox.fault("redirect", location="https://login.example.com/")
        answer = client.send()
        assert answer.status_code == 302
        assert answer.headers["Location"] == "https://login.example.com/"
        assert sandbox.sends == []

    @pytest.mark.parametrize("name", ["drop_after", "error_after", "garbage", "truncate", "slow"])
    def test_a_fault_accepts_no_send_without_a_token(self, sandbox, client, name):
        sandbox.revoke_tokens()
        sandbox.fault(name, **({"delay": 0} if name == "slow" else {}))
        with contextlib.suppress(*NO_ANSWER):
            client.send()
        assert sandbox.sends == []

    @pytest.mark.parametrize("name", OPTIONS)
    def test_a_fault_that_was_met_applies_no_longer(self, sandbox, client, name):
        sandbox.fault(name, **({"delay": 0} if name == "slow" else {}))
        with contextlib.suppress(*NO_ANSWER):
            client.get("/api/v3/me")
        assert client.get("/api/v3/me").status_code == 200


class TestForWhom:
    def faults(self) -> tuple[Faults, list[float]]:
        now = [100.0]
        return Faults(lambda: now[0]), now

    def test_a_fault_applies_a_number_of_times(self):
        faults, _ = self.faults()
        faults.add("drop_after", times=2)
        assert [bool(faults.meet("GET", "/api")) for _ in range(3)] == [True, True, False]

    def test_a_fault_with_seconds_applies_until_they_are_over(self):
        faults, now = self.faults()
        faults.add("drop_after", times=1, seconds=5)
        assert [bool(faults.meet("GET", "/api")) for _ in range(3)] == [True, True, True]
        now[0] += 4.9
        assert faults.meet("GET", "/api")
        now[0] += 0.1
        assert not faults.meet("GET", "/api")

    def test_a_fault_applies_to_its_method(self):
        faults, _ = self.faults()
        faults.add("drop_after", method="post")
        assert not faults.meet("GET", "/api")
        assert faults.meet("POST", "/api")

    @pytest.mark.parametrize(
        ("path", "matches"),
        [
            ("/api/v3/send", True),
            ("/api/v3/send/1", True),
            ("/api/v3/sends", False),
            ("/api/v3", False),
            ("/oauth/token", False),
        ],
    )
    def test_a_fault_applies_to_its_path_and_the_paths_below(self, path, matches):
        faults, _ = self.faults()
        faults.add("drop_after", path="/api/v3/send")
        assert bool(faults.meet("GET", path)) is matches

    def test_a_fault_that_does_not_match_is_not_used_up(self):
        faults, _ = self.faults()
        faults.add("drop_after", method="POST")
        faults.meet("GET", "/api")
        assert len(faults.active()) == 1

    def test_faults_apply_in_the_order_in_which_they_were_added(self):
        faults, _ = self.faults()
        faults.add("drop_before")
        faults.add("drop_after")
        assert [faults.meet("GET", "/x").name for _ in range(2)] == ["drop_before", "drop_after"]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"name": "explode"},
            {"name": None},
            {"name": []},
            {"name": "drop_after", "delay": 1},
            {"name": "drop_after", "times": 0},
            {"name": "drop_after", "times": "2"},
            {"name": "drop_after", "seconds": -1},
            {"name": "drop_after", "seconds": "1"},
            {"name": "drop_after", "path": 1},
            {"name": "error_after", "status": 99},
            {"name": "slow", "delay": None},
        ],
    )
    def test_an_invalid_fault_is_refused(self, arguments):
        faults, _ = self.faults()
        with pytest.raises(ValueError):
            faults.add(**arguments)
        assert faults.active() == []

    def test_faults_apply_to_token_requests(self, sandbox, client):
        sandbox.fault("error_before", path="/oauth/token")
        assert client.get("/api/v3/me").status_code == 200
        assert client.sign_in().status_code == 500

    def test_faults_do_not_apply_to_the_sandboxs_own_routes(self, sandbox, client):
        sandbox.fault("error_before")
        assert client.get("/sandbox/state").status_code == 200
        assert client.get("/").status_code == 200


class TestOverHttp:
    def test_faults_are_added_listed_and_cleared_over_http(self, sandbox, client):
        asked = {"fault": "slow", "times": 2, "seconds": None, "method": "POST", "path": "/api/v3/sends", "delay": 0}
        answer = client.call("POST", "/sandbox/faults", json=asked)
        assert answer.status_code == 201
        assert answer.json() == asked | {"accept_first": True}
        assert client.get("/sandbox/faults").json() == {"faults": [answer.json()]}
        client.send()
        assert client.get("/sandbox/faults").json()["faults"][0]["times"] == 1
        assert client.call("DELETE", "/sandbox/faults").json() == {"faults": []}
        assert sandbox.state()["faults"] == []

    def test_a_fault_is_added_for_some_seconds_over_http(self, client):
        client.call("POST", "/sandbox/faults", json={"fault": "error_before", "seconds": 1000})
        [fault] = client.get("/sandbox/faults").json()["faults"]
        assert fault["times"] is None
        assert 900 < fault["seconds"] <= 1000
        assert {client.send().status_code for _ in range(3)} == {500}

    @pytest.mark.parametrize(
        "body", [{}, {"fault": "explode"}, {"fault": "slow", "speed": 1}, {"fault": "slow", "times": 0}]
    )
    def test_an_invalid_fault_over_http_is_refused(self, client, body):
        answer = client.call("POST", "/sandbox/faults", json=body)
        assert answer.status_code == 400
        assert answer.json()["success"] is False

    def test_faults_are_cleared_in_process(self, sandbox, client):
        sandbox.fault("error_before", seconds=1000)
        assert client.send().status_code == 500
        sandbox.clear_faults()
        assert client.send().status_code == 201


def test_a_slow_answer_does_not_keep_the_sandbox_from_stopping(client_of, until):
    with Sandbox() as sandbox:
        client = client_of(sandbox)
        sandbox.fault("slow", delay=1000)
        with pytest.raises(requests.exceptions.ReadTimeout):
            client.send(timeout=SOON)
        until(lambda: len(sandbox.sends) == 1)
        start = time.monotonic()
    assert time.monotonic() - start < 60
    assert len(sandbox.sends) == 1
