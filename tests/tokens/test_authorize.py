"""``authorize`` and ``revoke``: the commands, and the person's browser."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from ports import free_ports

from airflow_provider_sendoso.cli.authorize import authorize
from airflow_provider_sendoso.cli.commands import main
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.exceptions import SendosoAuthError, SendosoConfigError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox

COMMAND = [sys.executable, "-m", "airflow_provider_sendoso"]

# What does not depend on the database is tried on one.
on_sqlite = pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)


@pytest.fixture
def redirect_uri() -> str:
    return f"http://127.0.0.1:{free_ports()[0]}/callback"


@pytest.fixture
def connect(sandbox: Sandbox, set_connection) -> Callable[..., dict[str, Any]]:
    """Sets ``sendoso_default``; keywords go into the extra."""

    def do(**extra: Any) -> dict[str, Any]:
        fields = {
            "conn_type": "sendoso",
            "host": sandbox.url,
            "login": "sandbox",
            "password": "sandbox",
            "extra": {"requests_per_second": 500, "timeout": 60, **extra},
        }
        set_connection("sendoso_default", fields)
        return fields

    return do


@pytest.fixture
def refreshing(connect) -> dict[str, Any]:
    """A connection of the refresh-token grant that has no refresh token."""
    return connect(grant_type="refresh_token")


class Run:
    """The command, in a thread, as a person sees it."""

    def __init__(self, **changes: Any) -> None:
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(changes,), daemon=True)
        self._thread.start()

    def _work(self, changes: dict[str, Any]) -> None:
        settings = {"scope": None, "paste": False, "store": True, "timeout": 300.0} | changes
        try:
            authorize("sendoso_default", say=self._lines.put, **settings)
        except BaseException as error:
            self._error = error
        self._lines.put(None)

    def url(self) -> str:
        """The address that it asks the person to open."""
        line = self._lines.get(timeout=120)
        if line is None:
            raise AssertionError("it ended without an address") from self._error
        self.said.append(line)
        return line.split()[-1]

    def end(self) -> list[str]:
        """What it said till its end; raises what it raised."""
        while (line := self._lines.get(timeout=120)) is not None:
            self.said.append(line)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.said


def browse(url: str, answer: str = "agree") -> requests.Response:
    """Open the page, submit its form, and follow the redirect to the callback."""
    page = requests.get(url, timeout=60)
    assert page.status_code == 200
    assert f'value="{answer}"' in page.text
    return requests.post(url, data={"answer": answer}, timeout=60)


def code_for(url: str) -> str:
    """Agree, and copy the address to which the browser was sent."""
    return requests.post(url, data={"answer": "agree"}, allow_redirects=False, timeout=60).headers["Location"]


@pytest.fixture
def spawn(environment) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs the command as a process."""
    started: list[subprocess.Popen[str]] = []

    def do(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        started.append(process)
        return process

    yield do
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("ledger_connection", ["postgresql"], indirect=True)
def test_a_person_authorises_in_the_browser_and_the_hook_has_a_token(
    sandbox, ledger, refreshing, redirect_uri, spawn, token_requests
):
    """The command as a process, a browser, and then a hook that has its token from the ledger alone."""
    process = spawn("authorize", "--conn-id", "sendoso_default", "--redirect-uri", redirect_uri)
    assert process.stdout is not None
    url = next(line.strip() for line in process.stdout if line.startswith(sandbox.url))
    query = parse_qs(urlsplit(url).query)
    assert query["client_id"] == ["sandbox"]
    assert query["scope"] == ["public write"]
    assert len(query["state"][0]) >= 20

    landed = browse(url)
    assert landed.status_code == 200
    assert "you can close this window" in landed.text
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    hook = SendosoHook()
    assert f"Authorised as user 1.\nThe tokens are in the ledger {hook.ledger.identity.ledger_uuid}, encrypted." in out
    assert token_requests() == [200]

    token = hook.get_conn().token()
    assert token_requests() == [200]  # it is the code's own, from the ledger
    assert hook.test_connection()[0]
    stored = hook.get_conn().tokens.stored()
    for secret in (token, stored.refresh_token, parse_qs(urlsplit(landed.url).query)["code"][0]):
        assert secret not in out + errors
    sandbox.revoke_tokens()
    assert hook.get_conn().renew(token)  # and the refresh token is there, and works
    assert token_requests() == [200, 200]


def test_a_denial_ends_with_an_error_and_an_exit_code(sandbox, refreshing, redirect_uri, token_requests, capsys):
    codes: list[object] = []

    def command() -> None:
        try:
            main(["authorize", "--no-store", "--redirect-uri", redirect_uri, "--timeout", "300"])
        except SystemExit as end:
            codes.append(end.code)

    thread = threading.Thread(target=command, daemon=True)
    thread.start()
    shown = ""
    while not (address := re.search(rf"{sandbox.url}\S+\n", shown)):
        assert thread.is_alive(), codes
        time.sleep(0.02)
        shown += capsys.readouterr().out
    browse(address[0].strip(), "deny")
    thread.join(120)
    assert codes == ["SendosoAuthError: Sendoso said no: access_denied; nothing was stored."]  # Python exits with 1
    assert token_requests() == []


@on_sqlite
@pytest.mark.parametrize(
    "query",
    [
        "code=of-a-stranger&bare=1",
        "code=of-a-stranger",
        "code=of-a-stranger&state=",
        "code=of-a-stranger&state=of-somebody-else",
        "code=of-a-stranger&state={state}&state=of-somebody-else",
        "code=of-a-stranger&code={state}&st%61te=%20{state}",
        "error=access_denied",
        "error=access_denied&state=of-somebody-else",
    ],
)
def test_an_answer_without_the_right_state_is_ignored_and_the_wait_goes_on(
    sandbox, ledger, refreshing, redirect_uri, token_requests, query
):
    run = Run(redirect_uri=redirect_uri)
    location = code_for(run.url())
    state = re.search("state=([^&]+)", location)[1]
    strange = requests.get(f"{redirect_uri}?{query.format(state=state)}", timeout=60)
    assert (strange.status_code, strange.text) == (404, "Not here.")
    assert token_requests() == []
    assert requests.get(location, timeout=60).status_code == 200
    assert "Authorised" in run.end()[1]
    assert token_requests() == [200]


@on_sqlite
def test_ignored_answers_are_counted_at_the_end(ledger, refreshing, redirect_uri, token_requests):
    run = Run(redirect_uri=redirect_uri, timeout=5.0)
    run.url()
    for state in ("one", "two"):
        requests.get(f"{redirect_uri}?code=x&state={state}", timeout=60)
    with pytest.raises(SendosoConfigError, match=r"Ignored 2 answers of other authorisations \(state differs\)"):
        run.end()
    assert token_requests() == []


@on_sqlite
def test_an_error_text_of_sendoso_cannot_control_the_terminal(ledger, refreshing, redirect_uri):
    run = Run(redirect_uri=redirect_uri)
    state = re.search("state=([^&]+)", run.url())[1]
    requests.get(redirect_uri, params={"error": "no\x1b[2J\r\n\u202eX" + "y" * 500, "state": state}, timeout=60)
    with pytest.raises(SendosoAuthError) as raised:
        run.end()
    assert str(raised.value) == f"Sendoso said no: no?[2J???X{'y' * 90}; nothing was stored."


@on_sqlite
def test_a_request_to_another_path_is_not_an_answer(sandbox, ledger, refreshing, redirect_uri):
    """A browser asks for its icon, somebody for another page, and the callback may come without anything."""
    run = Run(redirect_uri=redirect_uri)
    location = code_for(run.url())
    base = redirect_uri.removesuffix("/callback")
    for stray in (f"{base}/favicon.ico", f"{base}/", f"{base}/other?code=x&state=y", redirect_uri):
        assert requests.get(stray, timeout=60).status_code == 404
    assert requests.get(location, timeout=60).status_code == 200
    assert "Authorised" in run.end()[1]


@on_sqlite
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1", ""]
)
def test_a_callback_to_another_host_is_not_an_answer(sandbox, ledger, refreshing, redirect_uri, host):
    """Anybody can point a name to this machine, and let a browser ask for it."""
    run = Run(redirect_uri=redirect_uri)
    location = code_for(run.url())
    foreign = {"Host": host.format(port=urlsplit(redirect_uri).port)}
    for stray in (location, f"{redirect_uri}?error=zqx"):
        assert requests.get(stray, headers=foreign, timeout=60).status_code == 404
    assert requests.get(location, timeout=60).status_code == 200
    assert "Authorised" in run.end()[1]


@on_sqlite
def test_a_wait_without_an_answer_ends_with_its_timeout(ledger, refreshing, redirect_uri):
    with pytest.raises(SendosoConfigError, match=r"Nobody authorised within 0\.3 s; nothing was stored"):
        Run(redirect_uri=redirect_uri, timeout=0.3).end()


@on_sqlite
def test_a_port_in_use_is_refused_with_the_alternative(ledger, refreshing):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SendosoConfigError, match=r"Cannot listen.*Use --paste"):
            Run(redirect_uri=f"http://127.0.0.1:{port}/callback").end()


@on_sqlite
def test_a_code_that_cannot_be_exchanged_is_an_error_without_the_code(
    sandbox, ledger, refreshing, redirect_uri, token_requests
):
    run = Run(redirect_uri=redirect_uri)
    location = code_for(run.url())
    requests.get(re.sub("code=[^&]+", "code=stale", location), timeout=60)
    with pytest.raises(SendosoAuthError, match=r"did not accept the code.*Run the command again") as raised:
        run.end()
    assert "stale" not in str(raised.value)
    assert token_requests() == [400]


@on_sqlite
def test_the_argument_scope_overrides_the_connections(sandbox, ledger, connect, redirect_uri):
    connect(grant_type="refresh_token", scope="public update")
    assert parse_qs(urlsplit(_pasting(redirect_uri)[0]).query)["scope"] == ["public update"]
    assert parse_qs(urlsplit(_pasting(redirect_uri, scope="write")[0]).query)["scope"] == ["write"]


@on_sqlite
def test_the_command_that_an_error_names_gives_the_token_the_scopes_that_it_lacks(
    sandbox, ledger, connect, redirect_uri, capsys
):
    connect(grant_type="refresh_token")
    _pasting(redirect_uri)
    send = {"smart_send": True, "recipient": {"first_name": "Ada", "last_name": "L", "email": "ada@example.com"}}
    with pytest.raises(SendosoConfigError) as raised:
        SendosoHook().send_gift(**send)
    scope, command = re.findall(r"'(public write smartsend)'|`airflow sendoso ([^`]+)`", str(raised.value))
    connect(grant_type="refresh_token", scope=scope[0])
    thread = threading.Thread(
        target=main, args=([*shlex.split(command[1]), "--redirect-uri", redirect_uri],), daemon=True
    )
    thread.start()
    shown = ""
    while not (address := re.search(rf"{sandbox.url}\S+\n", shown)):
        assert thread.is_alive(), shown
        time.sleep(0.02)
        shown += capsys.readouterr().out
    browse(address[0].strip())
    thread.join(120)
    assert SendosoHook().send_gift(**send).id == str(sandbox.campaign_sends()[0].id)
    sandbox.revoke_tokens()  # a renewed token has them, too
    SendosoHook().send_gift(**send)
    assert len(sandbox.campaign_sends()) == 2


def _pasting(redirect_uri: str, change: Callable[[str], str] = lambda address: address, **changes: Any):
    """Run with ``--paste``; return the address, and what was said."""
    said: list[str] = []

    def ask(question: str) -> str:
        return change(code_for(said[-1].split()[-1]))

    settings = {"scope": None, "paste": True, "store": True, "timeout": 1.0} | changes
    authorize("sendoso_default", redirect_uri=redirect_uri, say=said.append, ask=ask, **settings)
    return said[0].split()[-1], said


@pytest.mark.parametrize(
    "change",
    [
        lambda address: address,
        lambda address: f"  {address}\n",
        lambda address: parse_qs(urlsplit(address).query)["code"][0],
    ],
    ids=["the address", "the address with blanks", "the bare code"],
)
@pytest.mark.parametrize("redirect", ["http://127.0.0.1:9/callback", "https://example.com/oauth/callback"])
def test_the_pasted_address_or_code_is_accepted(sandbox, ledger, refreshing, change, redirect, token_requests):
    _, said = _pasting(redirect, change)
    assert said[-1].endswith("Nothing else is to be done.")
    assert SendosoHook().get_conn().token()
    assert token_requests() == [200]


@on_sqlite
def test_a_redirect_uri_that_is_not_loopback_is_pasted_without_the_flag(sandbox, ledger, refreshing):
    _, said = _pasting("https://example.com/callback", paste=False)
    assert said[-1].endswith("Nothing else is to be done.")


@on_sqlite
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda address: re.sub("state=[^&]+", "state=other", address), SendosoAuthError, "state differs"),
        (lambda address: re.sub("code=[^&]+", "error=access_denied", address), SendosoAuthError, "access_denied"),
        (lambda address: re.sub("&?state=[^&]+", "", address), SendosoAuthError, "state differs"),
        (lambda address: re.sub("code=[^&]+&?", "", address), SendosoConfigError, "no code"),
        (lambda address: " ", SendosoConfigError, "no code"),
        (lambda address: "made-up", SendosoAuthError, "did not accept the code"),
    ],
    ids=["state", "error", "no-state", "address", "blank", "made-up"],
)
def test_a_pasted_text_of_another_state_or_without_a_code_is_refused(sandbox, ledger, refreshing, change, error, words):
    with pytest.raises(error, match=words):
        _pasting("http://127.0.0.1:9/callback", change)
    assert SendosoHook().get_conn().tokens.stored().refresh_token is None


def test_authorising_again_replaces_what_was_stored(sandbox, ledger, refreshing, make_engine, token_requests):
    """The new authorisation replaces stored tokens, whether they still work or not."""
    session = SendosoHook().get_conn()
    seen = set()
    for _ in range(3):
        _pasting("http://127.0.0.1:9/callback")
        seen.add(session.tokens.stored().access_token)
        sandbox.revoke_tokens()
    assert len(seen) == 3


def test_no_store_prints_a_connection_that_works(
    sandbox, connect, set_connection, tmp_path, monkeypatch, token_requests
):
    """Without a ledger, and with a connection that has another grant type; used with a ledger, it works."""
    connect()
    monkeypatch.delenv("AIRFLOW_CONN_SENDOSO_LEDGER", raising=False)
    _, said = _pasting("http://127.0.0.1:9/callback", store=False)
    printed = json.loads(said[-1])
    assert printed["extra"]["grant_type"] == "refresh_token"

    set_connection("sendoso_default", said[-1])
    set_connection("sendoso_ledger", f"sqlite:////{tmp_path}/ledger.db")
    hook = SendosoHook()
    assert hook.get_conn().token()
    assert hook.config.refresh_token.get_secret_value() == printed["extra"]["refresh_token"]
    assert hook.test_connection()[0]
    assert token_requests() == [200, 200]


@on_sqlite
def test_client_credentials_are_told_what_to_set(ledger, connect, sandbox, token_requests):
    connect()
    with pytest.raises(SendosoConfigError, match='grant_type to "refresh_token" first, or use --no-store'):
        Run(redirect_uri="http://127.0.0.1:9/callback").end()
    assert sandbox.requests == []


def test_a_missing_ledger_is_reported_before_the_person_is_asked(refreshing, monkeypatch, sandbox):
    monkeypatch.delenv("AIRFLOW_CONN_SENDOSO_LEDGER", raising=False)
    run = Run(redirect_uri="http://127.0.0.1:9/callback")
    with pytest.raises(SendosoConfigError, match="AIRFLOW_CONN_SENDOSO_LEDGER='sqlite:"):
        run.end()
    assert run.said == []


@pytest.mark.parametrize("arguments", [["authorize", "--paste"], ["revoke"]])
def test_an_error_is_one_line_and_an_exit_code(arguments, monkeypatch, refreshing):
    monkeypatch.delenv("AIRFLOW_CONN_SENDOSO_LEDGER", raising=False)
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert str(raised.value.code).startswith("SendosoConfigError: ")
    assert "\n" not in str(raised.value.code)


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """What sessions sleep, instead of doing it."""
    naps: list[float] = []
    settings = SendosoSession.__init__.__kwdefaults__ | {"sleep": naps.append}
    monkeypatch.setattr(SendosoSession.__init__, "__kwdefaults__", settings)
    return naps


@on_sqlite
@pytest.mark.parametrize(("store", "waits"), [(True, True), (False, False)])
def test_the_token_request_waits_for_its_slot_in_the_ledgers_pace(sandbox, ledger, refreshing, slept, store, waits):
    """Sendoso has asked the account to wait, and another process was told; with --no-store nobody knows of it."""
    hook = SendosoHook()
    hook.get_conn().pace.push_back(100)
    _pasting("http://127.0.0.1:9/callback", store=store)
    assert [request.path for request in sandbox.requests].count("/oauth/token") == 1
    assert (sum(slept) > 50) is waits


@on_sqlite
def test_both_requests_of_the_command_take_a_slot(sandbox, ledger, connect, slept):
    connect(grant_type="refresh_token", requests_per_second=0.02)
    _pasting("http://127.0.0.1:9/callback")
    times = [request.received_at for request in sandbox.requests if request.path in ("/oauth/token", "/api/v3/me")]
    assert len(times) == 2
    third = SendosoHook().get_conn().pace.reserve(poll=False)
    assert third > 75  # the third slot is not now
    assert 25 < third - max(slept) < 75  # nor was the second, an interval before it, even if a busy machine missed one


# revoke.


def test_revoke_ends_the_tokens_at_sendoso_and_in_the_ledger(
    sandbox, ledger, refreshing, capsys, token_requests, make_engine
):
    _pasting("http://127.0.0.1:9/callback")
    hook = SendosoHook()
    session = hook.get_conn()
    token, stored = session.token(), session.tokens.stored()
    main(["revoke"])
    assert capsys.readouterr().out.endswith("2 tokens revoked and forgotten.\n")  # Airflow 2 logs there, too

    headers = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{sandbox.url}/api/v3/me", headers=headers, timeout=60).status_code == 401
    client = {"client_id": "sandbox", "client_secret": "sandbox", "grant_type": "refresh_token"}
    body = client | {"refresh_token": stored.refresh_token}
    assert requests.post(f"{sandbox.url}/oauth/token", json=body, timeout=60).json()["error"] == "invalid_grant"
    assert session.tokens.cached() is None
    before = token_requests()
    with pytest.raises(SendosoAuthError, match="airflow sendoso authorize"):
        session.token()
    assert token_requests() == before
    main(["revoke"])
    assert capsys.readouterr().out == "There was no token to revoke.\n"


@on_sqlite
@pytest.mark.parametrize("after", [0, 1])
def test_a_token_that_could_not_be_revoked_is_kept(sandbox, ledger, refreshing, after):
    _pasting("http://127.0.0.1:9/callback")
    hook = SendosoHook()
    stored = hook.get_conn().tokens.stored()
    if after:  # the first of the two is revoked, the second not
        sandbox.fault("slow", delay=0, path="/oauth/revoke")
    sandbox.fault("error_before", path="/oauth/revoke")
    with pytest.raises(Exception, match="answered 500"):
        hook.revoke_tokens()
    assert hook.get_conn().tokens.stored() == stored
    assert hook.revoke_tokens() == 2
    assert hook.get_conn().tokens.stored().refresh_token is None


def test_no_process_renews_while_the_tokens_are_revoked(
    sandbox, ledger, refreshing, make_session, answers_wait, token_requests
):
    """A renewal in between would leave a refresh token that is alive at Sendoso, and known to nobody."""
    _pasting("http://127.0.0.1:9/callback")
    hook = SendosoHook()
    stale = hook.get_conn().token()
    other = make_session(hook.config)
    other.sleep = time.sleep
    sandbox.fault("slow", delay=1, accept_first=False, path="/oauth/revoke")
    threading.Timer(0.5, answers_wait.set).start()
    with ThreadPoolExecutor(1) as pool:
        revoking = pool.submit(hook.revoke_tokens)
        while not any(request.path == "/oauth/revoke" for request in sandbox.requests):
            assert not revoking.done()
            time.sleep(0.01)
        with pytest.raises(SendosoAuthError, match="airflow sendoso authorize"):
            other.renew(stale)
        assert revoking.result() == 2
    assert token_requests() == [200]  # the code's
    assert sandbox._app.tokens._refresh_tokens == {}
    assert hook.get_conn().tokens.stored().access_token is None


@on_sqlite
@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_2xx_counts_as_revoked(sandbox, ledger, refreshing, status):
    """An answer without a body is one, too."""
    _pasting("http://127.0.0.1:9/callback")
    sandbox.fault("status", times=2, status=status, body="", path="/oauth/revoke")
    assert SendosoHook().revoke_tokens() == 2
    assert SendosoHook().get_conn().tokens.stored().refresh_token is None


@on_sqlite
def test_a_client_id_outside_latin_letters_is_authenticated(sandbox, ledger, connect, set_connection):
    """Basic auth speaks UTF-8 (RFC 7617)."""
    client_id, secret = "Geschenke für 山田", "schlüssel-🔑"
    sandbox._app.tokens.client_id, sandbox._app.tokens.client_secret = client_id, secret
    fields = connect(grant_type="refresh_token", refresh_token=sandbox.issue_refresh_token())
    set_connection("sendoso_default", fields | {"login": client_id, "password": secret})
    hook = SendosoHook()
    assert hook.get_conn().token()
    assert hook.revoke_tokens() == 2
    assert hook.get_conn().tokens.stored().refresh_token is None


@on_sqlite
def test_revoking_with_a_changed_secret_is_an_auth_error(sandbox, ledger, refreshing):
    _pasting("http://127.0.0.1:9/callback")
    sandbox._app.tokens.client_secret = "rotated"
    with pytest.raises(SendosoAuthError):
        SendosoHook().revoke_tokens()


@on_sqlite
def test_a_token_encrypted_under_another_secret_is_not_taken_for_no_token(
    sandbox, ledger, refreshing, set_connection, capsys
):
    _pasting("http://127.0.0.1:9/callback")
    set_connection("sendoso_default", refreshing | {"password": "rotated"})
    with pytest.raises(SystemExit, match=r"encrypted under another client secret.*Nothing was revoked"):
        main(["revoke"])
    assert [request.path for request in sandbox.requests].count("/oauth/revoke") == 0
    set_connection("sendoso_default", refreshing)
    main(["revoke"])
    assert capsys.readouterr().out.endswith("2 tokens revoked and forgotten.\n")


@on_sqlite
@pytest.mark.parametrize("change", [{"scope": "public"}, {"account": "another"}, {"grant_type": "client_credentials"}])
def test_tokens_from_before_a_change_of_the_connection_are_reported(
    sandbox, ledger, connect, refreshing, capsys, change
):
    _pasting("http://127.0.0.1:9/callback")
    stored = SendosoHook().get_conn().tokens.stored()
    capsys.readouterr()
    connect(**{"grant_type": "refresh_token"} | change)
    with pytest.raises(SystemExit, match="no stored token, and nothing was revoked"):
        main(["revoke"])
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"Another stored token: key [0-9a-f]{12}, stored 1 times, due for renewal at 20[-: \d]+ UTC\.\n",
        said,
    )
    assert stored.refresh_token not in said
    connect(grant_type="refresh_token")
    main(["revoke"])
    assert "2 tokens revoked" in capsys.readouterr().out


# Airflow's own command line.


@pytest.mark.slow
@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2's CLI does not load commands of providers")
def test_airflow_lists_the_commands(environment):
    airflow = Path(sys.executable).with_name("airflow")
    done = subprocess.run(
        [str(airflow), "sendoso", "--help"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(AIRFLOW_HOME=os.environ["AIRFLOW_HOME"]),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"authorize\s+let a person authorise", done.stdout)
    assert re.search(r"revoke\s+revoke the stored tokens", done.stdout)
