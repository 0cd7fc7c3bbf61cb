"""The sandbox as a whole: its state, its page, its state file, its life and its command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from html import unescape
from pathlib import Path

import pytest
import requests

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sandbox.__main__ import main
from airflow_provider_sendoso.sandbox.journal import Journal

ROOT = Path(__file__).resolve().parents[2]


class TestState:
    def test_the_state_counts_sends_refusals_and_duplicates(self, sandbox, client):
        client.send()
        client.send()
        client.send(email="bob@example.com")
        client.send(gift_id="gift-none")
        sandbox.fault("drop_after")
        with pytest.raises(requests.exceptions.ConnectionError):
            client.send(email="eve@example.com")
        sandbox.finish(sandbox.sends[0].id, "failed")
        sandbox.fault("throttle", times=4)

        state = client.get("/sandbox/state").json()
        assert state == sandbox.state()
        assert [send["recipient"]["email"].split("@")[0] for send in state["sends"]] == ["eve", "bob", "ada", "ada"]
        assert state["counts"] == {
            **{"pending": 3, "processing": 0, "shipped": 0},
            **{"delivered": 0, "failed": 1, "returned": 0},
        }
        assert state["duplicates"] == 1
        assert (state["requests"], state["refused"], state["throttled"], state["unanswered"]) == (6, 1, 0, 1)
        assert 1 <= state["peak_per_second"] <= 6
        assert [fault["fault"] for fault in state["faults"]] == ["throttle"]

    def test_requests_are_remembered_in_order(self, sandbox, client):
        client.send()
        client.get("/api/v3/sends?page=1")
        assert [(request.method, request.path, request.status) for request in sandbox.requests] == [
            ("POST", "/oauth/token", 200),
            ("POST", "/api/v3/sends", 201),
            ("GET", "/api/v3/sends", 200),
        ]
        times = [request.received_at for request in sandbox.requests]
        assert times == sorted(times)

    def test_a_snapshot_does_not_change(self, sandbox, client):
        client.send()
        sends, received = sandbox.sends, sandbox.requests
        client.send()
        assert (len(sends), len(received)) == (1, 2)

    def test_reset_forgets_everything(self, sandbox, client):
        client.send()
        sandbox.fault("throttle")
        assert client.call("POST", "/sandbox/reset").json()["sends"] == []
        assert sandbox.sends == sandbox.requests == sandbox.state()["faults"] == []
        assert client.get("/api/v3/me").status_code == 401


class TestPage:
    def page(self, client, path: str = "/") -> str:
        answer = client.get(path, token=None)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return answer.content.decode("utf-8")

    def test_the_page_without_sends_says_so(self, client):
        page = self.page(client)
        assert "Nothing yet" in page
        assert "Nothing is sent to anyone" in page
        assert "gift-egift-coffee" in page

    def test_the_page_loads_nothing_from_other_hosts(self, client):
        page = self.page(client)
        assert "<script" not in page
        assert not re.search(r'(?:src|href)="(?!/|data:)', page)

    def test_the_page_has_the_connection_to_export(self, sandbox, client):
        [line] = re.findall(r"<pre>(export .*?)</pre>", self.page(client))
        assert json.loads(shlex.split(unescape(line))[1].partition("=")[2])["host"] == sandbox.url

    def test_the_page_shows_a_send(self, client):
        client.send(first_name="Zoë", metadata={"contact_id": "42"})
        page = self.page(client)
        assert "Zoë Lovelace" in page
        assert "ada@example.com" in page
        assert re.search(r"contact_id</i> 42<", page)
        assert "× sent" not in page

    def test_the_tracking_url_of_a_send_shows_that_send_alone(self, sandbox, client):
        sends = [client.send(email=f"{name}@example.com").json()["send"] for name in ("ada", "bob")]
        for send, other in zip(sends, reversed(sends), strict=True):
            assert send["tracking_url"] == f"{sandbox.url}/?send={send['id']}"
            page = self.page(client, send["tracking_url"].removeprefix(sandbox.url))
            assert send["recipient"]["email"] in page
            assert other["recipient"]["email"] not in page
            assert f'href="/?paused=&amp;send={send["id"]}"' in page
        assert "There is no send <code>&lt;b&gt;</code>" in self.page(client, "/?send=<b>")

    def test_the_page_marks_duplicates(self, client):
        client.send()
        client.send(email="ADA@example.com")
        client.send(email="bob@example.com")
        page = self.page(client)
        assert page.count('<tr class="repeated">') == 2
        assert page.count("2× sent") == 2
        assert '<section class="alarm" role="alert">' in page

    def test_the_page_escapes_every_value(self, sandbox, client):
        attack = "<script>alert(1)</script>\"'&"
        client.send(first_name=attack, last_name=attack, email=f"{attack}@x.com", metadata={attack: {attack: attack}})
        client.send(email=f"{attack}@x.com")
        sandbox.fault("status", path=attack, body={attack: attack})
        page = self.page(client)
        assert "<script" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;" in page

    def test_half_a_surrogate_pair_does_not_break_the_page(self, client):
        assert client.send(first_name="\ud800").status_code == 201
        assert "? Lovelace" in self.page(client)

    def test_the_page_shows_faults_and_refusals(self, sandbox, client):
        client.send(gift_id="gift-none")
        sandbox.fault("slow", seconds=99, delay=2)
        page = self.page(client)
        assert re.search(r"<b>1</b><span>Refusals", page)
        assert re.search(r"<code>slow</code> for \d\d\.\d s · any method any path", page)

    def test_the_page_refreshes_unless_paused(self, client):
        assert 'http-equiv="refresh"' in self.page(client)
        assert 'http-equiv="refresh"' not in self.page(client, "/?paused")

    def test_the_page_cuts_a_long_list(self, sandbox, client):
        with requests.Session() as session:
            for n in range(201):
                session.post(
                    f"{sandbox.url}/api/v3/sends",
                    headers={"Authorization": f"Bearer {client.token}"},
                    json={
                        "send": {
                            **{"gift_id": "gift-donation-trees", "first_name": "A", "last_name": "B"},
                            **{"email": f"n{n}@example.com", "message": "m"},
                        }
                    },
                    timeout=60,
                ).raise_for_status()
        page = self.page(client)
        assert "The newest 200 of 201." in page
        assert "n200@example.com" in page
        assert "n0@example.com" not in page


class TestStateFile:
    def test_a_restart_restores_sends_and_statuses(self, tmp_path, client_of):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path, step=1000) as first:
            client = client_of(first)
            client.send(metadata={"k": "\u2028é"})
            client.send(email="bob@example.com")
            first.finish(first.sends[1].id, "returned")
        with Sandbox(state=str(path), step=1000) as second:
            assert second.sends == first.sends
            listed = client_of(second).get("/api/v3/sends").json()["sends"]
            assert [send["status"] for send in listed] == ["returned", "pending"]
            client_of(second).send()
            assert second.duplicates() == {("gift-mug", "ada@example.com"): 2}

    def test_statuses_go_on_while_the_sandbox_is_down(self, tmp_path, client_of):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path, step=1000) as first:
            client_of(first).send()
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"accepted_at": record["accepted_at"] - 2000}) + "\n")
        with Sandbox(state=path, step=1000) as second:
            assert second.state()["sends"][0]["status"] == "shipped"

    def test_the_state_file_is_written_before_the_answer(self, tmp_path, client_of):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path) as sandbox:
            send_id = client_of(sandbox).send().json()["send"]["id"]
            assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [send_id]

    def test_the_state_file_is_readable_by_its_owner_alone(self, tmp_path):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_line_that_was_cut_off_is_dropped(self, tmp_path, client_of):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path) as sandbox:
            client_of(sandbox).send()
        whole = path.read_text()
        path.write_text(whole + '{"id": "send-1", "bo')
        with Sandbox(state=path) as sandbox:
            assert len(sandbox.sends) == 1
            client_of(sandbox).send()
        assert path.read_text().startswith(whole)
        with Sandbox(state=path) as sandbox:
            assert len(sandbox.sends) == 2

    def test_a_reset_empties_the_state_file(self, tmp_path, client_of):
        path = tmp_path / "state.jsonl"
        with Sandbox(state=path) as sandbox:
            client_of(sandbox).send()
            sandbox.reset()
            assert path.read_text() == ""
            client_of(sandbox).send()
            assert len(path.read_text().splitlines()) == 1

    @pytest.mark.parametrize("text", [b"nonsense\n", b"[]\n", b'{"id": "1"}\n', b"\xff\n", b"nonsense"])
    def test_a_file_of_another_kind_is_refused_and_left_alone(self, tmp_path, text):
        path = tmp_path / "state.jsonl"
        path.write_bytes(text)
        with pytest.raises(ValueError, match="state file"):
            Sandbox(state=path)
        assert path.read_bytes() == text

    def test_a_journal_reads_back_what_was_appended(self, tmp_path):
        journal = Journal(tmp_path / "j")
        assert journal.read() == []
        journal.append({"a": 1})
        journal.append({"b": "line\nbreak"})
        assert journal.read() == [{"a": 1}, {"b": "line\nbreak"}]


class TestLife:
    def test_a_stopped_sandbox_keeps_its_state_and_does_not_answer(self, client_of):
        with Sandbox() as sandbox:
            client = client_of(sandbox)
            client.send()
        assert len(sandbox.sends) == 1
        with pytest.raises(requests.exceptions.ConnectionError):
            client.get("/api/v3/me")

    def test_a_sandbox_that_is_stopped_and_started_keeps_its_address_and_state(self, sandbox, client):
        client.send()
        url = sandbox.url
        sandbox.stop()
        sandbox.stop()
        sandbox.start()
        assert sandbox.url == url
        assert client.send().status_code == 201
        assert len(sandbox.sends) == 2

    def test_a_port_in_use_is_an_error(self, sandbox):
        with pytest.raises(OSError, match="in use"):
            Sandbox(port=sandbox.port).start()

    def test_the_sandbox_listens_on_loopback_by_default(self, sandbox):
        assert sandbox.url == f"http://127.0.0.1:{sandbox.port}"

    def test_two_sandboxes_have_their_own_state(self, sandbox, client):
        with Sandbox() as other:
            client.send()
            assert (len(sandbox.sends), len(other.sends)) == (1, 0)


@contextmanager
def command(*arguments: str):
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_sendoso.sandbox", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class TestCommandLine:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_the_command_serves_until_it_is_stopped(self, number):
        with command("--port", "0") as process:
            first = process.stdout.readline()
            url = re.fullmatch(r"Sendoso sandbox on (http://127\.0\.0\.1:\d+)\n", first)[1]
            assert process.stdout.readline() == (
                'export AIRFLOW_CONN_SENDOSO_DEFAULT=\'{"conn_type": "sendoso", '
                f'"host": "{url}", "login": "sandbox", "password": "sandbox"}}\'\n'
            )
            assert requests.get(f"{url}/sandbox/state", timeout=60).json()["sends"] == []
            os.kill(process.pid, number)
            assert process.wait(timeout=120) == 0
            assert process.stderr.read() == ""

    def test_the_options_of_the_command_reach_the_sandbox(self, tmp_path):
        path = tmp_path / "state.jsonl"
        options = ["--client-id", "me", "--client-secret", "it's", "--token-lifetime", "60", "--rate", "1"]
        with command("--port", "0", "--state", str(path), "--step", "0", *options) as process:
            url = process.stdout.readline().split()[-1]
            exported = shlex.split(process.stdout.readline())[1].partition("=")[2]
            assert json.loads(exported)["password"] == "it's"
            body = {"grant_type": "client_credentials", "client_id": "me", "client_secret": "it's"}
            # However slow the machine is, it makes two of these in one second; the usual ten are more than these.
            answers = [requests.post(f"{url}/oauth/token", json=body, timeout=60) for _ in range(8)]
            assert {answer.status_code for answer in answers} == {200, 429}
            assert answers[0].json()["expires_in"] == 60
            assert path.exists()

    def test_the_command_says_that_its_port_is_in_use(self, sandbox):
        with command("--port", str(sandbox.port)) as process:
            assert process.wait(timeout=120) == 1
            assert process.stderr.read().startswith("The sandbox cannot start: ")

    @pytest.mark.parametrize("arguments", [["--step", "-1"], ["--rate", "x"], ["--token-lifetime", "nan"]])
    def test_the_command_refuses_invalid_options(self, arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2

    def test_help_says_that_nothing_is_sent(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
        assert ended.value.code == 0
        assert "Nothing is sent to anyone" in " ".join(capsys.readouterr().out.split())
