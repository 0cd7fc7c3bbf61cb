"""
What a person sees in Airflow's UI, walked through in a browser.

With ``SCREENSHOTS`` set to a folder, the walk leaves the pictures of the docs there: ``make screenshots``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from playwright.sync_api import Locator, Page, expect

from airflow_provider_sendoso.connection_form import FIELDS
from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="The pages are those of Airflow 3.3's UI"),
]

SECRET = "sandbox-s3cret"


@pytest.fixture
def sandbox(sandbox_port: int) -> Iterator[Sandbox]:
    with Sandbox(step=1000, rate=0, port=sandbox_port, client_secret=SECRET) as server:
        yield server


@pytest.fixture
def ledger(live_airflow: Any, postgres_database: Callable[[], Any]) -> Iterator[None]:
    live_airflow.wait_for_dags(set())
    live_airflow.api("POST", "connections", connection_id="sendoso_ledger", **postgres_database().connection)
    yield
    live_airflow.delete("connections/sendoso_ledger")


@pytest.fixture
def connection(live_airflow: Any, ledger: None) -> Iterator[str]:
    """The connection that the walk makes; gone afterwards."""
    yield "sendoso_default"
    live_airflow.delete("connections/sendoso_default")


class Connections:
    """The page of the connections, and the one connection on it that the walk is about."""

    def __init__(self, page: Page, url: str, conn_id: str) -> None:
        self.page = page
        self.conn_id = conn_id
        page.goto(f"{url}/connections")
        page.get_by_placeholder("Search Connections").fill(conn_id)
        self.dialog = page.get_by_role("dialog")
        self.row = page.get_by_role("row").filter(has_text=conn_id)

    def add(self) -> None:
        self.page.get_by_role("button", name="Add Connection").click()
        self.dialog.get_by_label("Connection ID").fill(self.conn_id)
        self.dialog.get_by_role("combobox", name="Connection Type").fill("Sendoso")
        self.page.get_by_role("option", name="Sendoso", exact=True).click()

    def edit(self) -> None:
        self.row.get_by_role("button", name="Edit Connection").click()
        expect(self.dialog.get_by_label("Connection ID")).to_have_value(self.conn_id)

    def open_extras(self) -> None:
        self.dialog.get_by_role("button", name="Extra Fields", exact=True).click()

    def extra(self, name: str) -> Locator:
        """The box of one of our own fields: label, field and description."""
        box = self.dialog.get_by_role("group")
        return box.filter(has=self.page.get_by_text(FIELDS[name]["label"], exact=True)).last

    def save(self) -> None:
        self.dialog.get_by_role("button", name="Save").click()
        expect(self.dialog).to_have_count(0)
        self.reload()

    def test(self) -> Locator:
        """Test the connection and return Airflow's answer."""
        self.row.get_by_role("button", name="Test Connection").click()
        return self.page.get_by_role("status").filter(has_text=re.compile("Test Connection (Successful|Failed)")).last

    def reload(self) -> None:
        """Rid the page of what Airflow has said so far."""
        self.page.reload()
        expect(self.row).to_be_visible()


def test_connection_is_added_tested_and_edited(
    page: Page, live_airflow: Any, connection: str, sandbox: Sandbox, shoot: Callable[..., None]
) -> None:
    port = sandbox.url.rpartition(":")[2]
    connections = Connections(page, live_airflow.url, connection)
    dialog = connections.dialog

    connections.add()
    expect(dialog.get_by_label("Base URL")).to_have_attribute("placeholder", "https://app.sendoso.com")
    expect(dialog.get_by_label("Client Secret")).to_have_attribute("type", "password")
    expect(dialog.get_by_text("Port (443 for https)")).to_be_visible()
    expect(dialog.get_by_text("Schema", exact=True)).to_have_count(0)
    dialog.get_by_label("Base URL").fill("http://127.0.0.1")
    dialog.get_by_label("Client ID").fill("sandbox")
    dialog.get_by_label("Client Secret").fill(SECRET)
    dialog.get_by_label("Port").fill(port)
    shoot("connection-add", dialog)

    connections.open_extras()
    for name, field in FIELDS.items():
        expect(connections.extra(name)).to_contain_text(field["description"])
    expect(connections.extra("refresh_token").get_by_role("textbox")).to_have_attribute("type", "password")
    grant_type = connections.extra("grant_type").get_by_role("combobox")
    grant_type.click()
    expect(page.get_by_role("option")).to_have_text(["client_credentials", "refresh_token"])
    page.get_by_role("option", name="client_credentials").click()
    page.set_viewport_size({"width": 1100, "height": 2400})
    shoot("connection-extras", dialog)
    page.set_viewport_size({"width": 1100, "height": 480})
    connections.save()

    answer = connections.test()
    expect(answer).to_contain_text("Test Connection Successful")
    expect(answer).to_contain_text(
        f"Connected to {sandbox.url} as user 1, balance 1000.0, team balance 25000.0, account"
    )
    expect(answer).to_contain_text("account '127.0.0.1', 10 requests a second.")
    expect(answer).to_contain_text(re.compile(r"The ledger 'sendoso_ledger' \([-0-9a-f]{36}\) answers\."))
    shoot("connection-test")
    connections.reload()

    # A secret that is wrong.
    connections.edit()
    expect(dialog.get_by_label("Client Secret")).to_have_value("***")
    dialog.get_by_label("Client Secret").fill("wr0ng-s3cret")
    connections.save()
    answer = connections.test()
    expect(answer).to_contain_text("Test Connection Failed")
    expect(answer).to_contain_text("did not grant a token (invalid_client)")
    expect(page.locator("body")).not_to_contain_text("wr0ng-s3cret")
    shoot("connection-test-failed")
    connections.reload()

    # The right one, and another grant; then an edit of something else: both secrets stay what they were.
    connections.edit()
    dialog.get_by_label("Client Secret").fill(SECRET)
    connections.open_extras()
    connections.extra("grant_type").get_by_role("combobox").click()
    page.get_by_role("option", name="refresh_token").click()
    connections.extra("refresh_token").get_by_role("textbox").fill(sandbox.issue_refresh_token())
    connections.save()
    connections.edit()
    connections.open_extras()
    expect(connections.extra("refresh_token").get_by_role("textbox")).to_have_value("***")
    connections.extra("requests_per_second").get_by_role("spinbutton").fill("2.5")
    connections.save()
    answer = connections.test()
    expect(answer).to_contain_text("Test Connection Successful")
    expect(answer).to_contain_text("2.5 requests a second.")
    connections.reload()

    # As docs/connection.md says, until Airflow can do it.
    connections.edit()
    dialog.get_by_label("Port").fill("")
    connections.save()
    expect(connections.test()).to_contain_text("Bad Request")


@pytest.fixture
def run(live_airflow: Any, ledger: None, sandbox: Sandbox) -> Iterator[str]:
    """A run of the DAG of the links, whose first task is still sending."""
    live_airflow.wait_for_dags({"links"})
    connection = {"conn_type": "sendoso", "host": sandbox.url, "login": "sandbox", "password": SECRET}
    rates = {"sendoso_default": 100, "sendoso_slow": 0.1}
    for conn_id, rate in rates.items():
        extra = json.dumps({"requests_per_second": rate, "account": conn_id})
        live_airflow.api("POST", "connections", connection_id=conn_id, extra=extra, **connection)
    run_id = live_airflow.api("POST", "dags/links/dagRuns", logical_date=None)["dag_run_id"]
    yield run_id
    live_airflow.api("PATCH", f"dags/links/dagRuns/{run_id}", state="failed")
    for conn_id in rates:
        live_airflow.delete(f"connections/{conn_id}")


def test_links_are_shown_while_a_task_runs_and_when_it_has_failed(
    page: Page, live_airflow: Any, sandbox: Sandbox, run: str, shoot: Callable[..., None]
) -> None:
    def state(task: str) -> str | None:
        task_id, _, map_index = task.partition("/mapped/")
        tasks = live_airflow.api("GET", f"dags/links/dagRuns/{run}/taskInstances?map_index={map_index or -1}")
        states = {found["task_id"]: found["state"] for found in tasks["task_instances"]}
        return states.get(task_id)

    def links(task: str) -> dict[str, str]:
        """Open a task's page, wait for a link, and return all that lead to Sendoso; the plugin's tab does not."""
        page.goto(f"{live_airflow.url}/dags/links/runs/{run}/tasks/{task}/details")
        outside = page.locator(f'a[href^="{sandbox.url}"]')
        expect(outside.and_(page.get_by_role("link", name="Sendoso", exact=True))).to_be_visible()
        found = outside.and_(page.get_by_role("link", name=re.compile("^(Sendoso|Gift tracking)$"))).all()
        return {link.inner_text(): str(link.get_attribute("href")) for link in found}

    page.set_viewport_size({"width": 1280, "height": 480})

    # While it sends.
    live_airflow.wait_until(lambda: state("long") == "running", "the batch is being sent")
    assert links("long") == {"Sendoso": sandbox.url}
    assert state("long") == "running"
    shoot("link-while-it-runs")

    # One of the mapped tasks has sent its gift, and its link leads to it.
    ended = ("success", "failed")
    live_airflow.wait_until(lambda: state("mapped/mapped/0") in ended and state("mapped/mapped/1") in ended, "they end")
    assert (state("mapped/mapped/0"), state("mapped/mapped/1")) == ("success", "failed")
    (send,) = [send for send in sandbox.sends if send.body["email"] == "ada@example.com"]
    tracking = f"{sandbox.url}/?send={send.id}"
    assert links("mapped/mapped/0") == {"Sendoso": sandbox.url, "Gift tracking": tracking}
    shoot("link-tracking")
    page.goto(tracking)
    expect(page.get_by_role("cell", name="Ada Lovelace")).to_be_visible()

    # The other one was refused.
    assert links("mapped/mapped/1") == {"Sendoso": sandbox.url}

    # The sensor has given its process back, and waits.
    live_airflow.wait_until(lambda: state("deferred") == "deferred", "the sensor waits")
    assert links("deferred") == {"Sendoso": sandbox.url}
    assert (state("deferred"), state("long")) == ("deferred", "running")
