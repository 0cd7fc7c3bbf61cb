"""Both command lines with every library at DEBUG: no secret, token or person in any line of any logger."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

sys.path.insert(0, str(Path(__file__).parent))
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from conftest import MARK, SECRET, Marked, cells
from test_marks import SENDS, batch

from airflow_provider_sendoso.client.async_session import shared_session
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.oauth import revoke_request
from airflow_provider_sendoso.hooks.sendoso import SendosoHook

COMMAND_LINES = {
    "airflow": [sys.executable, "-m", "airflow", "sendoso"],
    "python": [sys.executable, "-m", "airflow_provider_sendoso"],
}


@pytest.fixture(
    params=[
        pytest.param(
            "airflow",
            marks=pytest.mark.skipif(
                not AIRFLOW_V_3_0_PLUS, reason="Airflow 2's CLI does not load commands of providers"
            ),
        ),
        "python",
    ]
)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Runs a command at DEBUG; returns all that it printed, and that was logged till then."""
    log = tmp_path / "debug.log"

    def do(*arguments: str, answer: Callable[[str], str] | None = None) -> str:
        process = subprocess.Popen(
            [*COMMAND_LINES[request.param], *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent / "debug"), "DEBUG_LOG": str(log)},
        )
        assert process.stdout is not None
        said = ""
        if answer is not None:
            for line in process.stdout:
                said += line
                if "/oauth/authorize?" in line:
                    break
        said += process.communicate(answer(said.split()[-1]) if answer else None, timeout=300)[0]
        # The process that held the send is this one, and may be posting it yet for all the command knows.
        assert process.returncode == 0 or "resolve" in arguments, said
        return said + log.read_text(encoding="utf-8")

    return do


def pasted(url: str) -> str:
    """Agree, and copy the address to which the browser was sent."""
    landed = requests.post(url, data={"answer": "agree"}, allow_redirects=False, timeout=60)
    return f"{landed.headers['Location']}\n"


@pytest.mark.slow
def test_no_line_of_a_command_shows_a_secret_or_a_person(
    marked: Marked, set_connection: Any, run: Callable[..., str]
) -> None:
    fields = {"conn_type": "sendoso", "host": marked.sandbox.url, "login": "sandbox", "password": SECRET}
    set_connection("sendoso_default", fields | {"extra": {"requests_per_second": 500, "timeout": 60}})
    marked.sandbox.fault("status", times=99, method="GET", path="/api/v3/sends", status=404)
    marked.fill(1)
    marked.sandbox.fault("error_before", **SENDS)
    marked.run(batch())
    key = SendosoHook().ledger.identity.hash_key.hex()
    extra = {"requests_per_second": 500, "timeout": 60, "grant_type": "refresh_token"}
    set_connection("sendoso_default", fields | {"extra": extra})
    email = cells(1)[3]
    held = ("--recipient", email, "--scope", "q4")
    seen = run("authorize", "--paste", answer=pasted)
    assert "Authorised as user 1" in seen
    seen += run("ledger", "list", "--json") + run("ledger", "show", *held)
    seen += run("ledger", "resolve", *held, "--not-sent", "--why", "not in the list")
    tokens = marked.tokens()
    seen += run("revoke")
    assert "2 tokens revoked" in seen
    # What this test is about has been logged at all.
    assert re.search(r"DEBUG urllib3\.connectionpool \S+ \"POST /oauth/revoke HTTP", seen)
    assert "INFO sqlalchemy.engine.Engine.sendoso_ledger SELECT" in seen
    assert [token for token in tokens if token in seen] == []
    assert key not in seen
    assert sorted(set(re.findall(rf".{{60}}{MARK}\w+", seen, re.I | re.S))) == []


@pytest.mark.parametrize("read", ["sync", "async"])
def test_a_query_string_is_in_no_log_line_and_no_error_of_the_http_clients(
    marked: Marked, caplog: pytest.LogCaptureFixture, read: str
) -> None:
    """The token of ``revoke``, and whatever a list is asked for by."""
    caplog.set_level(logging.DEBUG)
    session = SendosoHook().session
    listed = Request("GET", "/api/v3/gifts", params={"text_search": f"{MARK}ada@example.com"})
    if read == "sync":
        session.read(listed)
        token = session.token()
        assert session.call(revoke_request(token)).status == 200
        assert token not in caplog.text
        assert "POST /oauth/revoke HTTP" in caplog.text
    else:

        async def ask() -> int:
            async with shared_session(session) as reader:
                return (await reader.read(listed)).status

        assert asyncio.run(ask()) == 200
    assert MARK not in caplog.text
