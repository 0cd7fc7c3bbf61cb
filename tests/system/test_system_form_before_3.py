"""The connection form of Airflow 2, filled in, tested and saved in a browser; the metadata is SQLite's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from live_airflow import processes_of
from playwright.sync_api import Page, expect
from ports import free_ports

from airflow_provider_sendoso.connection_form import FIELDS
from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="The page is that of Airflow 2; test_system_ui.py has Airflow 3's"),
]


class Webserver:
    """The webserver of an Airflow without anything else, and its command line."""

    def __init__(self, home: Path) -> None:
        (port,) = free_ports()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")} | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where it looks for gunicorn
        }
        self._log = home / "webserver.log"
        self.cli("db", "migrate")
        user = ("--username=admin", "--password=admin", "--firstname=A", "--lastname=L", "--email=ada@example.com")
        self.cli("users", "create", "--role=Admin", *user)
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "airflow", "webserver", "--port", str(port)]
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        give_up = time.monotonic() + 180
        while not self._answers():
            assert time.monotonic() < give_up, self._log.read_text()[-5000:]
            time.sleep(0.5)

    def cli(self, *arguments: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "airflow", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        while left := processes_of(self._process.pid):
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.poll()

    def _answers(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/health", timeout=10).ok
        return False


@pytest.fixture
def webserver(tmp_path: Path) -> Iterator[Webserver]:
    server = Webserver(tmp_path)
    yield server
    server.close()


def test_limits_are_filled_in_tested_and_saved(page: Page, webserver: Webserver, sandbox: Sandbox) -> None:
    def add(conn_id: str, **fields: str) -> None:
        page.goto(f"{webserver.url}/connection/add")
        page.locator("#conn_id").fill(conn_id)
        # The drop-down is drawn over the field that it fills.
        page.evaluate("() => $('#conn_type').val('sendoso').trigger('change')")
        for name, text in {"host": sandbox.url, "login": "sandbox", "password": "sandbox"}.items():
            page.locator(f"#{name}").fill(text)
        for name, text in fields.items():
            page.locator(f"#extra__sendoso__{name}").fill(text)

    def said(words: str) -> None:
        """Test what is filled in, and wait for the answer."""
        page.get_by_role("button", name="Test").click()
        expect(page.locator("body")).to_contain_text(words, timeout=60_000)

    page.set_default_timeout(60_000)
    page.goto(f"{webserver.url}/login/")
    page.locator("#username").fill("admin")
    page.locator("#password").fill("admin")
    page.locator("input[type=submit]").click()

    add("limited", max_sends_per_day="300", max_cost_per_month="5000.50", min_days_between_gifts="90")
    for name, field in FIELDS.items():
        row = page.locator("tr").filter(has=page.locator(f"#extra__sendoso__{name}"))
        expect(row).to_contain_text(field["label"])
        expect(row).to_contain_text(field["description"])
    said(f"Connected to {sandbox.url} as user 1")
    page.get_by_role("button", name="Save").click()
    add("nothing", max_sends_per_day="0", max_cost_per_month="0")
    said(f"Connected to {sandbox.url} as user 1")
    page.get_by_role("button", name="Save").click()
    for name, text, words in (
        ("max_sends_per_day", "-1", "extra 'max_sends_per_day': Input should be greater than or equal to 0"),
        ("max_sends_per_day", "many", "extra 'max_sends_per_day': Input should be a valid integer"),
        ("max_cost_per_month", "-5", "extra 'max_cost_per_month': Input should be greater than or equal to 0"),
        ("max_cost_per_month", "nan", "extra 'max_cost_per_month': Input should be a finite number"),
    ):
        add("wrong", **{name: text})
        said(words)

    stored = {one["conn_id"]: one["extra_dejson"] for one in json.loads(webserver.cli("connections", "list", "-ojson"))}
    limits = ("max_sends_per_day", "max_cost_per_month", "min_days_between_gifts")
    assert {conn_id: [extra.get(name) for name in limits] for conn_id, extra in stored.items()} == {
        "limited": ["300", "5000.50", "90"],
        "nothing": ["0", "0", None],
    }
