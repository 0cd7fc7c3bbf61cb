"""The receiver on its own, as ``python -m airflow_provider_sendoso webhooks``."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import OTHER, SECRET, Served, Webhook

from airflow_provider_sendoso.cli.commands import main
from airflow_provider_sendoso.webhooks.app import make_app
from airflow_provider_sendoso.webhooks.server import PREFIX

COMMAND = [sys.executable, "-W", "ignore", "-m", "airflow_provider_sendoso", "webhooks", "--port"]


def test_a_process_of_its_own_receives_webhooks_until_it_is_told_to_stop(
    ledger: dict[str, Any], receiving: None, stored: Callable[[], list[Any]]
) -> None:
    server = subprocess.Popen([*COMMAND, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    try:
        found = re.fullmatch(r"Receiving webhooks on http://127.0.0.1:(\d+)/sendoso/webhooks/<connection id>\n", line)
        assert found, line
        served = Served(int(found[1]))
        assert served.url.endswith(PREFIX)
        assert served.post(Webhook()).status_code == 204
        answer = served.post(Webhook(id="msg_2", secret=OTHER))
        assert answer.status_code == 401
        assert "server" not in answer.headers
    finally:
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
    assert server.returncode in (0, -signal.SIGTERM)
    assert stored() == [("acme", "msg_1", "send-1")]
    secret = SECRET.removeprefix("whsec_")
    assert not any(text in out + err for text in (SECRET, secret, base64.b64decode(secret).decode(), "send-1"))


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SystemExit, match=r"cannot be received on 127.0.0.1:\d+: another program listens there"):
            main(["webhooks", "--port", str(other.getsockname()[1])])


@pytest.mark.parametrize("package", ["uvicorn", "standardwebhooks"])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=rf"package {package}.*pip install 'airflow-provider-sendoso\[webhooks\]'"):
        main(["webhooks", "--port", "0"])


PLUGIN = """
import json, sys
import airflow.plugins_manager
before = set(sys.modules)
from airflow_provider_sendoso.webhooks import plugin
print(json.dumps({
    "new": sorted(set(sys.modules) - before),
    "mounted": [[app["url_prefix"], app["name"]] for app in plugin.SendosoWebhooksPlugin.fastapi_apps],
}))
"""


def test_the_plugin_imports_nothing_but_itself_at_the_start_of_airflow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLUGIN],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | {"AIRFLOW_HOME": str(tmp_path)},
    )
    told = json.loads(done.stdout.splitlines()[-1])
    ours = {name.removeprefix("airflow_provider_sendoso") for name in told["new"]}
    assert ours - {""} == {".mounting", ".webhooks", ".webhooks.plugin"}


def test_the_plugin_is_inert_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_sendoso.webhooks import plugin

    monkeypatch.setattr(plugin, "takes_plugins", lambda: True)
    assert [mounted["url_prefix"] for mounted in plugin.mounts()] == ["/sendoso/webhooks"]
    monkeypatch.setattr(plugin, "find_spec", lambda name: None)
    assert plugin.mounts() == []


async def test_the_plugin_makes_the_receiver_at_the_first_request() -> None:
    from airflow_provider_sendoso.webhooks.plugin import receiver

    app = receiver()
    assert app._app is None
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/sendoso/webhooks/x", "headers": []}
    for _ in range(2):
        await app(scope, None, send)
    assert [message["status"] for message in sent if "status" in message] == [405, 405]
    assert isinstance(app._app, type(make_app()))


def test_airflow_knows_the_plugin_by_its_entry_point() -> None:
    from importlib.metadata import entry_points

    from airflow_provider_sendoso.webhooks.plugin import SendosoWebhooksPlugin

    ours = [one for one in entry_points(group="airflow.plugins") if "airflow_provider_sendoso" in one.value]
    assert ours[0].load() is SendosoWebhooksPlugin, "what is mounted at /sendoso would be asked for its webhooks"
