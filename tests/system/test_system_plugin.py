"""
The pages of Sendoso in Airflow's UI, in a browser: as somebody who may edit sees them, and somebody who may not.

With ``SCREENSHOTS`` set to a folder, the walk leaves the pictures of the docs there: ``make screenshots``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from live_airflow import LiveAirflow, environment, settings
from playwright.sync_api import FrameLocator, Page, expect
from ports import free_ports

from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="The pages are shown within Airflow 3.3's UI"),
]

DAG, CAMPAIGN, PEOPLE, SENDS = "watched", "q4 champions", 60, "/api/v3/sends"
ROLES = {"ada": "admin", "vic": "viewer"}

# Text against what is behind it, by WCAG 2: 4.5, or 3 for large text; colours are read off a canvas, whatever their
# notation. Together with what is wider than the window.
UNREADABLE = """
body => {
  const view = body.ownerDocument.defaultView, context = new OffscreenCanvas(1, 1).getContext("2d");
  const rgba = colour => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = colour => colour.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(view.getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [], root = body.ownerDocument.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`${root.scrollWidth - root.clientWidth} px too wide`);
  const walker = body.ownerDocument.createTreeWalker(body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, rect = element.getBoundingClientRect();
    if (!node.data.trim() || rect.width < 2 || rect.height < 2 || element.closest("svg, option")) continue;
    const style = view.getComputedStyle(element);
    const [high, low] = [light(rgba(style.color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${node.data.trim()}`);
  }
  return found;
}
"""


@dataclass
class Ui:
    """The UI of an API server in which people have roles."""

    url: str
    page: Page

    def log_in(self, name: str) -> None:
        self.page.context.clear_cookies()
        self.page.goto(f"{self.url}/auth/login")
        self.page.get_by_label("Username").fill(name)
        self.page.locator("input[type=password]").fill(name)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(lambda url: "/auth/" not in url)

    @property
    def frame(self) -> FrameLocator:
        """The pages, within Airflow's own."""
        return self.page.frame_locator("iframe[title=Sendoso]")

    def open(self, page: str) -> FrameLocator:
        """Open a page by the navigation of the pages."""
        self.frame.get_by_role("navigation", name="Sendoso").get_by_role("link", name=page).click()
        expect(self.frame.get_by_role("heading", name=page, level=1)).to_be_visible()
        return self.frame

    def unreadable(self) -> list[str]:
        return list(self.frame.locator("body").evaluate(UNREADABLE))


@pytest.fixture(scope="module")
def roles(live_airflow: LiveAirflow) -> Iterator[str]:
    """A second API server of the live Airflow, where everybody has a role; its address."""
    live_airflow.wait_for_dags({DAG})
    (port,) = free_ports(1)
    home: Path = live_airflow._home
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in ROLES}))
    given = settings(Path(__file__).with_name("dags"), live_airflow.metadata.url, port) | {
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in ROLES.items()),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    log = home / "roles.log"
    with log.open("wb") as output:
        command = [sys.executable, "-W", "ignore", "-m", "airflow", "api-server", "--port", str(port), "--workers", "1"]
        server = subprocess.Popen(command, env=environment(home, given), stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            return requests.get(f"{url}/api/v2/version", timeout=10).ok
        except requests.RequestException:
            return False

    live_airflow.wait_until(answers, "the API server with roles answers")
    yield url
    server.terminate()
    server.wait(60)


@pytest.fixture
def sandbox(sandbox_port: int) -> Iterator[Sandbox]:
    with Sandbox(step=15, rate=0, port=sandbox_port) as server:
        yield server


@pytest.fixture
def ledger(
    live_airflow: LiveAirflow, roles: str, sandbox: Sandbox, postgres_database: Callable[[], Any]
) -> Iterator[Any]:
    """The ledger, and the two connections."""
    database = postgres_database()
    extra = {
        "requests_per_second": 2,
        "account": "acme",
        "ledger_conn_id": "watched_ledger",
        "max_sends_per_day": 500,
        "timeout": 8,
        "max_cost_per_month": 1500,
    }
    login = {"host": sandbox.url, "login": "sandbox", "password": "sandbox", "extra": json.dumps(extra)}
    live_airflow.api("POST", "connections", connection_id=DAG, conn_type="sendoso", **login)
    live_airflow.api("POST", "connections", connection_id="watched_ledger", **database.connection)
    yield database
    for conn_id in (DAG, "watched_ledger"):
        live_airflow.delete(f"connections/{conn_id}")


@pytest.fixture
def ui(page: Page, roles: str) -> Ui:
    page.set_viewport_size({"width": 1280, "height": 800})
    return Ui(roles, page)


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser refuses to do for the pages, and what fails in them."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if "Content Security Policy" in message.text else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def is_settled(ui: Ui) -> bool:
    ui.page.reload()
    expect(ui.frame.get_by_role("row").filter(has_text="C-")).to_have_count(3)
    return ui.frame.get_by_text("may still be posting").count() == 0


def test_a_campaign_is_watched_and_decided(
    ui: Ui,
    live_airflow: LiveAirflow,
    sandbox: Sandbox,
    ledger: Any,
    complaints: list[str],
    shoot: Callable[..., None],
) -> None:
    page = ui.page

    # -- nothing was sent yet
    ui.log_in("ada")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Sendoso").click()
    frame = ui.frame
    expect(frame.get_by_text("Nothing was sent yet")).to_be_visible()

    # -- while it runs: nobody touches the page, and it shows what happens
    for kind, times in (("error_after", 2), ("error_before", 1)):
        sandbox.fault(kind, times=times, method="POST", path=SENDS)
    sandbox.fault("status", times=10**6, method="GET", path=SENDS, status=404)
    run_id = live_airflow.api("POST", f"dags/{DAG}/dagRuns", logical_date=None)["dag_run_id"]
    row = frame.get_by_role("row").filter(has_text=CAMPAIGN)
    expect(row.get_by_text("Sending", exact=True)).to_be_visible()
    expect(row).to_contain_text("in the last minute")
    expect(row).to_contain_text("3 to be decided")
    expect(row).to_contain_text("left")
    expect(row.get_by_role("img", name="scope_max_cost")).to_be_visible()
    expect(row).to_contain_text(re.compile(r"[12]\d sent"))
    expect(frame.get_by_role("navigation", name="Sendoso")).to_contain_text("3 to be decided")
    assert ui.unreadable() == []
    page.set_viewport_size({"width": 1280, "height": 420})
    shoot("ui-campaigns")
    page.set_viewport_size({"width": 1280, "height": 800})

    frame.get_by_role("link", name=CAMPAIGN).click()
    expect(frame.get_by_role("heading", name=CAMPAIGN)).to_be_visible()
    expect(frame.get_by_role("status").get_by_text("Sending")).to_be_visible()
    page.emulate_media(color_scheme="dark")
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
    expect(frame.get_by_role("row").filter(has_text="1: running")).to_be_visible()
    expect(frame.get_by_role("listitem").filter(has_text=re.compile(r"[2-5]\d sent"))).to_be_visible()
    assert ui.unreadable() == []
    page.set_viewport_size({"width": 1280, "height": 1250})
    shoot("ui-campaign-dark")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")
    expect(frame.locator("html")).to_have_attribute("data-theme", "light")
    # The page that was open when it began says when it is over.
    done = frame.get_by_role("status").get_by_text("3 to be decided")
    expect(done).to_be_visible(timeout=180_000)
    expect(frame.get_by_role("link", name="1: success")).to_be_visible()
    assert len(sandbox.sends) == PEOPLE - 1

    # -- from there to the task, and back by its tab
    frame.get_by_role("link", name="1: success").click()
    page.wait_for_url(f"**/dags/{DAG}/runs/{quote(run_id, safe='')}/tasks/gifts*")
    page.get_by_role("link", name="Sendoso", exact=True).click()
    expect(ui.frame.get_by_role("heading", name=CAMPAIGN)).to_be_visible()
    page.goto(f"{ui.url}/dags/{DAG}/runs/{quote(run_id, safe='')}/plugin/sendoso-run")
    expect(ui.frame.get_by_role("heading", name=CAMPAIGN)).to_be_visible()

    # -- a budget, the token, the connection check
    page.goto(f"{ui.url}/plugin/sendoso")
    frame = ui.open("Account")
    expect(frame.get_by_role("img", name=re.compile(r"max_sends_per_day: 6\d of 500 used"))).to_be_visible()
    expect(frame.get_by_role("img", name=re.compile("max_cost_per_month: 6.* USD of 1.500.00 USD"))).to_be_visible()
    expect(frame.get_by_text("then renewed")).to_be_visible()
    frame.get_by_role("button", name="Check the connection").click()
    expect(frame.get_by_text(f"Works Connected to {sandbox.url}")).to_be_visible()
    assert ui.unreadable() == []
    shoot("ui-account")

    # -- a person: in no address, whatever the case of the letters
    frame = ui.open("Person")
    frame.get_by_label("E-mail address").fill("ADA7@Example.com")
    page.keyboard.press("Enter")
    expect(frame.get_by_text("1 found.")).to_be_visible()
    expect(frame.get_by_role("row").filter(has_text=CAMPAIGN)).to_contain_text("sent")
    assert "example" not in page.url.lower()
    frame.get_by_label("E-mail address").fill("nobody@example.com")
    page.keyboard.press("Enter")
    expect(frame.get_by_text("knows of no send to that address")).to_be_visible()

    # -- who may not edit the DAG sees it all, and no button
    ui.log_in("vic")
    page.goto(f"{ui.url}/plugin/sendoso")
    frame = ui.frame
    expect(frame.get_by_role("row").filter(has_text=CAMPAIGN)).to_be_visible()
    expect(frame.get_by_role("link", name="Account")).to_have_count(0)
    frame = ui.open("Held")
    expect(frame.get_by_text("You may see these, and not decide about them")).to_be_visible()
    expect(frame.get_by_role("checkbox")).to_have_count(0)
    expect(frame.get_by_role("button")).to_have_count(0)
    seen = frame.get_by_role("row").filter(has_text="C-").first.get_attribute("data-key")
    refused = page.evaluate(
        """async body => (await fetch("/sendoso/held", {method: "POST", body: JSON.stringify(body), headers:
        {"Content-Type": "application/json", "X-Sendoso-Pages": "1"}})).status""",
        {
            "conn": DAG,
            "resolution": "not_sent",
            "why": "for fun",
            "sends": [{"key": seen, "state": "HELD", "attempt": 1}],
        },
    )
    assert refused == 403

    # -- two are decided by hand; a tab that was opened before, and a run, come too late
    ui.log_in("ada")
    page.goto(f"{ui.url}/plugin/sendoso")
    frame = ui.open("Held")
    live_airflow.wait_until(lambda: is_settled(ui), "nobody may still be posting them")
    old = page.context.new_page()
    old.goto(f"{ui.url}/sendoso/held")
    (lost,) = {f"ada{number}@example.com" for number in range(PEOPLE)} - {send.body["email"] for send in sandbox.sends}
    number = lost.removeprefix("ada").partition("@")[0]
    frame.get_by_role("checkbox", name=f"C-{number}", exact=True).check()
    frame.get_by_label("It did not").check()
    frame.get_by_label("How you know").fill("Not in Sendoso's list of sends")
    expect(frame.get_by_role("button", name="Record for 1 chosen")).to_be_enabled()
    assert ui.unreadable() == []
    shoot("ui-held")
    frame.get_by_role("button", name="Record for 1 chosen").click()
    expect(frame.get_by_role("status")).to_contain_text("1 recorded as not sent.")
    expect(frame.get_by_role("row").filter(has_text="C-")).to_have_count(2)

    old.get_by_role("checkbox", name=f"C-{number}", exact=True).check()
    old.get_by_label("It went out").check()
    old.get_by_label("How you know").fill("I think so")
    old.get_by_role("button", name="Record for 1 chosen").click()
    expect(old.get_by_role("status")).to_contain_text("had changed since this page was loaded")
    expect(old.get_by_role("status")).to_contain_text("decided by ada")

    # -- another is decided wrongly, which is taken back
    wrong = frame.get_by_role("region", name="Held sends").get_by_role("checkbox", name="C-").first
    name = wrong.get_attribute("aria-label") or ""
    wrong.check()
    frame.get_by_label("It did not").check()
    frame.get_by_label("How you know").fill("Looked in the wrong list")
    frame.get_by_role("button", name="Record for 1 chosen").click()
    frame.get_by_role("status").get_by_role("link", name="this page, loaded again").click()
    free = frame.get_by_role("region", name="Said not to have gone out", exact=True)
    expect(free.get_by_role("row").filter(has_text="C-")).to_have_count(2)
    expect(free.get_by_role("row").filter(has_text=name)).to_contain_text("by ada: Looked in the wrong list")
    free.get_by_role("checkbox", name=name, exact=True).check()
    free.get_by_label("How you know").fill("It is in the tracker")
    expect(free.get_by_role("button", name="Record as sent: 1 chosen")).to_be_enabled()
    expect(frame.get_by_role("button", name="Record for 0 chosen")).to_be_enabled()
    assert ui.unreadable() == []
    page.set_viewport_size({"width": 1280, "height": 1150})
    free.scroll_into_view_if_needed()
    shoot("ui-held-taken-back")
    page.set_viewport_size({"width": 1280, "height": 800})
    free.get_by_role("button", name="Record as sent: 1 chosen").click()
    expect(frame.get_by_role("status")).to_contain_text("1 recorded as sent.")
    expect(free.get_by_role("row").filter(has_text="C-")).to_have_count(1)

    # A run finds the last one at Sendoso, and sends the one that was decided first.
    sandbox.clear_faults()
    task = {"task_ids": ["gifts"], "dag_run_id": run_id}
    live_airflow.api("POST", f"dags/{DAG}/clearTaskInstances", dry_run=False, only_failed=False, **task)
    live_airflow.wait_until(lambda: len(sandbox.sends) == PEOPLE, "the one that was decided is sent")
    live_airflow.wait_until(
        lambda: live_airflow.api("GET", f"dags/{DAG}/dagRuns/{run_id}")["state"] == "success", "the run is over"
    )
    frame.get_by_label("All sends of this page").check()
    frame.get_by_label("It went out:").check()
    frame.locator("#why").fill("Found in the list")
    frame.get_by_role("button", name="Record for 1 chosen").click()
    expect(frame.get_by_role("status")).to_contain_text("1 had changed since this page was loaded")
    expect(frame.get_by_role("status")).to_contain_text("found at Sendoso by a run")
    with psycopg.connect(host=ledger.socket_dir, user="postgres", dbname=ledger.name) as database:
        decided = database.execute("SELECT to_state, resolved_by, why FROM sendoso_resolutions").fetchall()
    assert ("READY", "ada", "Not in Sendoso's list of sends") in decided
    assert ("SENT", "ada", "It is in the tracker") in decided
    assert sorted(by for _, by, _ in decided) == ["ada", "ada", "ada", "reconcile"]
    assert sandbox.duplicates() == {}

    # -- on a phone
    page.set_viewport_size({"width": 375, "height": 812})
    page.goto(f"{ui.url}/plugin/sendoso")
    expect(ui.frame.get_by_role("row").filter(has_text=CAMPAIGN)).to_contain_text("60 sent")
    assert ui.unreadable() == []
    shoot("ui-phone")
    for name in ("campaigns", "held", "person", "account", f"campaign?scope={quote(CAMPAIGN)}"):
        page.goto(f"{ui.url}/sendoso/{name}")
        assert page.locator("body").evaluate(UNREADABLE) == [], name

    # -- a login that ends while the page is open
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{ui.url}/sendoso/campaign?scope={quote(CAMPAIGN)}")
    page.context.clear_cookies()
    expect(page.get_by_role("alert")).to_contain_text("Your login has ended")
    expect(page.get_by_role("alert").get_by_role("link", name="Log in to Airflow")).to_be_visible()
    assert "ada7@example.com" not in live_airflow.logs().lower()
    assert "ada7@example.com" not in (live_airflow._home / "roles.log").read_text().lower()
    assert complaints == []
