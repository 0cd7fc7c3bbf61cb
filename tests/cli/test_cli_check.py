"""``check``: a line for each thing that a send needs, and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_sendoso
from airflow_provider_sendoso.cli.commands import main
from airflow_provider_sendoso.client.oauth import Grant, Tokens
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.sandbox import Sandbox

NAMES = ("connection", "ledger", "token", "scopes", "account", "rate")


@pytest.fixture
def ledger_connection(tmp_path: Path) -> dict[str, Any]:
    return {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")}


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[dict[str, str], str]]:
    """Runs ``check``; returns what each line begins with, and all that was said."""

    def do(*arguments: str) -> tuple[dict[str, str], str]:
        stopped: list[SystemExit] = []
        try:
            main(["check", *arguments])
        except SystemExit as exit_:
            stopped.append(exit_)
        assert [type(exit_.code) for exit_ in stopped] in ([], [str])  # with a text, Python exits with 1
        said, error = capsys.readouterr().out, "".join(str(exit_.code) for exit_ in stopped)
        lines = [line.split() for line in said.splitlines() if line[:4].strip() in ("ok", "FAIL", "--")]
        return {name: mark for mark, name, *_ in lines}, said + error

    return do


def test_all_is_well(sendoso: Sandbox, ledger: Any, check: Any) -> None:
    marks, said = check()
    assert marks == dict.fromkeys(NAMES, "ok")
    assert said.endswith("Sends can be made through 'sendoso_default'.\n")
    assert f"leads to {sendoso.url}" in said
    assert "public write" in said
    assert "500 requests a second" in said
    assert "sandbox" not in said.replace("sendoso_default", "").lower()  # neither client ID nor secret
    assert sendoso.sends == []


def test_without_a_ledger_nothing_can_be_sent_and_the_rest_is_still_checked(sendoso: Sandbox, check: Any) -> None:
    marks, said = check()
    assert marks == dict.fromkeys(NAMES, "ok") | {"ledger": "FAIL"}
    assert "AIRFLOW_CONN_SENDOSO_LEDGER=" in said
    assert "Nothing can be sent through 'sendoso_default': see ledger above." in said


def test_a_connection_that_does_not_exist_leaves_the_rest_unchecked(sendoso: Sandbox, ledger: Any, check: Any) -> None:
    marks, said = check("--conn-id", "sendoso_defalt")
    assert marks == dict.fromkeys(NAMES, "--") | {"connection": "FAIL"}
    assert "did you mean 'sendoso_default' or 'sendoso_ledger'?" in said


def test_a_secret_that_sendoso_does_not_accept(
    sendoso: Sandbox, ledger: Any, check: Any, set_connection: Callable[..., None]
) -> None:
    wrong = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "s3cret"}
    set_connection("sendoso_default", wrong)
    marks, said = check()
    assert marks == dict.fromkeys(NAMES, "ok") | {"token": "FAIL", "scopes": "--", "account": "--"}
    assert "s3cret" not in said


def test_a_ledger_that_does_not_answer(
    sendoso: Sandbox, check: Any, set_connection: Callable[..., None], tmp_path: Path
) -> None:
    set_connection("sendoso_ledger", {"conn_type": "sqlite", "host": str(tmp_path)})
    marks, _ = check()
    assert marks["ledger"] == "FAIL"


def test_a_token_without_the_scope_that_sending_needs(
    sendoso: Sandbox, ledger: Any, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    SendosoHook().session.tokens.adopt(Grant("token", 3600.0, scope="public update"))
    monkeypatch.setattr(SendosoHook, "whose_token", lambda self: "")
    marks, said = check()
    assert marks["scopes"] == "FAIL"
    assert "'public update', without 'write'" in said


def test_scopes_that_sendoso_does_not_say(sendoso: Sandbox, ledger: Any, check: Any) -> None:
    sendoso.fault("status", path="/oauth/token", status=200, body={"access_token": "t0ken", "expires_in": 3600})
    _, said = check()
    assert "Sendoso does not say which ones the token has" in said
    assert "t0ken" not in said


@pytest.mark.parametrize("scope", [None, "", " ", 7, ["write"], "x" * 501, "wri\nte", "public  write"])
def test_scopes_that_cannot_be_any_are_not_known(scope: Any) -> None:
    from airflow_provider_sendoso.client.oauth import _scope

    assert _scope(scope) is None


def test_scopes_outlive_the_store_and_tokens_of_an_older_release_have_none() -> None:
    tokens = Tokens().granted(Grant("t", 60.0, scope="public write"))
    assert Tokens.load(tokens.dump()) == tokens
    assert Tokens.load('{"access_token": "t", "refresh_token": null, "spent": []}').scope is None
    assert tokens.granted(Grant("t-2", 60.0)).scope is None


@pytest.mark.slow
def test_as_a_process_it_exits_with_an_error(sendoso: Sandbox) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(airflow_provider_sendoso.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-m", "airflow_provider_sendoso", "check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "FAIL  ledger" in done.stdout
