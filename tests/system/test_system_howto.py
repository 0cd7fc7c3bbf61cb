"""
The DAGs of docs/howto/ in a real Airflow, and what a person sees of them in its UI, walked through in a browser.

With ``SCREENSHOTS`` set to a folder, the walk leaves the pictures of the docs there: ``make screenshots``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from live_airflow import LiveAirflow
from playwright.sync_api import Locator, Page, expect

from airflow_provider_sendoso.sandbox import Sandbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="The pages are those of Airflow 3.3's UI"),
]

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
PERSON = ("customer_id", "first_name", "last_name", "email")
ADDRESS = ("address_line1", "address_city", "address_postal_code", "address_country")
HOME = ("12 St James's Square", "London", "SW1Y 4JH", "GB")
POST = {"method": "POST", "path": "/api/v3/sends"}


def person(number: int) -> tuple[str, ...]:
    return (f"C-{1000 + number}", "Ada", "Lovelace", f"ada{number}@example.com")


def at_home(number: int) -> tuple[str, ...]:
    return (*person(number), *HOME)


def shown(page: str) -> list[str]:
    """The texts that a page of the docs shows."""
    text = (HOWTO / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```text\n(.*?)^```", text, re.M | re.S)


class Desk:
    """An Airflow's UI, the connections of one page's DAG, and what they lead to: a Sendoso and a warehouse."""

    def __init__(self, airflow: LiveAirflow, page: Page, sandbox: Sandbox, warehouse: Any) -> None:
        self.airflow, self.page, self.sandbox = airflow, page, sandbox
        self._warehouse = warehouse

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Make a table of the warehouse if it is not there, and add rows."""
        self.ask(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(f'{name} text' for name in columns)})")
        with self._connected() as database:
            database.cursor().executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(columns))})", rows)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask or change the warehouse."""
        with self._connected() as database:
            cursor = database.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _connected(self) -> psycopg.Connection:
        return psycopg.connect(host=self._warehouse.socket_dir, user="postgres", dbname=self._warehouse.name)

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run: what its schedule asks for is run at once."""
        self.airflow.wait_for_dags({dag_id})
        self.airflow.api("PATCH", f"dags/{dag_id}", is_paused=False)

    def run(self, dag_id: str, **conf: Any) -> str:
        """Trigger the DAG by hand and wait for the end of all its runs; return the id of this one."""
        self.unpause(dag_id)
        run_id = self.trigger(dag_id, **conf)
        self.wait(dag_id)
        return run_id

    def trigger(self, dag_id: str, **conf: Any) -> str:
        return str(self.airflow.api("POST", f"dags/{dag_id}/dagRuns", logical_date=None, conf=conf)["dag_run_id"])

    def wait(self, dag_id: str, at_least: int = 1) -> list[str]:
        """Wait until so many runs of the DAG are over; return the ids of all, the oldest first."""

        def over() -> Any:
            runs = self.airflow.api("GET", f"dags/{dag_id}/dagRuns?order_by=run_after")["dag_runs"]
            return len(runs) >= at_least and all(run["state"] in ("success", "failed") for run in runs) and runs

        return [run["dag_run_id"] for run in self.airflow.wait_until(over, f"{dag_id} is over")]

    def open_log(self, dag_id: str, run_id: str, task_id: str, state: str = "Success", height: int = 800) -> Locator:
        """Go from the DAG's grid to the log of a task of a run, as a person does."""
        page = self.page
        page.set_viewport_size({"width": 1280, "height": height})
        page.goto(f"{self.airflow.url}/dags/{dag_id}")
        page.get_by_test_id(f"grid-{run_id}-{task_id}").click()
        page.mouse.move(640, 60)  # what the grid says of a run under the mouse is not what the picture is about
        expect(page.get_by_test_id("header-card").get_by_test_id("state-badge")).to_have_text(state)
        log = page.get_by_test_id("virtualized-list")
        expect(log).to_contain_text("Post Execute")  # it is scrolled to its end, and has in it what is seen
        return log


@pytest.fixture
def desk(
    live_airflow: LiveAirflow, page: Page, postgres_database: Callable[[], Any], tmp_path: Path, sandbox_port: int
) -> Iterator[Desk]:
    warehouse = postgres_database()
    live_airflow.wait_for_dags(set())
    # As a person has it who once chose to wrap the lines of logs.
    page.add_init_script("if (location.protocol === 'http:') localStorage.setItem('log_wrap', 'true')")
    with Sandbox(step=0, rate=0, port=sandbox_port) as sandbox:
        login = {"login": "sandbox", "password": "sandbox", "extra": json.dumps({"requests_per_second": 50})}
        connections = {
            "sendoso_default": {"conn_type": "sendoso", "host": sandbox.url, **login},
            # On a disk that keeps what it is told, unlike the tests' PostgreSQL, of which the log would warn.
            "sendoso_ledger": {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")},
            "warehouse": warehouse.connection,
        }
        for conn_id, connection in connections.items():
            live_airflow.api("POST", "connections", connection_id=conn_id, **connection)
        yield Desk(live_airflow, page, sandbox, warehouse)
        for conn_id in connections:
            live_airflow.delete(f"connections/{conn_id}")


def end_of(log: Locator) -> dict[str, float]:
    """The part of a failed task's log that is below Airflow's traceback, in which are the paths of this machine."""
    first = log.get_by_test_id("summary-Post Execute").bounding_box()
    whole = log.page.get_by_test_id("virtual-scroll-container").last.bounding_box()
    assert first is not None
    assert whole is not None
    bottom = whole["y"] + whole["height"]
    return {"x": whole["x"], "y": first["y"] - 2, "width": whole["width"], "height": bottom - first["y"] + 2}


def counted(log: Locator, **counts: int) -> None:
    """Expect the counts of a batch's report, each in a line of its own."""
    for name, count in counts.items():
        line = re.compile(rf"^\s*{count}\s+{name}(\s+(\d+ posted|a gift) .*)?$")
        expect(log.get_by_text(line)).to_have_count(1)


def test_weekly_one_gift_a_week_by_schedule_and_by_hand(desk: Desk, shoot: Callable[..., None]) -> None:
    now = datetime.now(UTC)
    monday = (now - timedelta(days=now.weekday())).replace(hour=6, minute=0, second=0, microsecond=0)
    if not monday <= now < monday + timedelta(days=6, hours=17):
        pytest.skip("this week's Monday run is not due yet, or the week is about to end")
    desk.fill("champions", PERSON, [person(number) for number in range(12)])
    desk.unpause("monday_coffee")
    desk.wait("monday_coffee")
    desk.fill("champions", PERSON, [person(12)])
    log = desk.open_log("monday_coffee", desk.run("monday_coffee"), "send_gifts")
    expect(log).to_contain_text(f"Scope '{now:monday-coffee/%G-W%V}': one gift per person and week.")
    counted(log, sent=1, already_sent=12, rows=13)
    expect(log).to_contain_text("Nothing. Clearing the task is safe")
    assert len(desk.sandbox.sends) == 13
    shoot("howto-weekly")


def test_signup_most_rows_had_their_egift_in_an_earlier_run(desk: Desk, shoot: Callable[..., None]) -> None:
    columns = ("user_id", *PERSON[1:])
    desk.ask("CREATE TABLE users (user_id text, first_name text, last_name text, email text, signed_up_at date)")
    sign_up = "INSERT INTO users SELECT *, CURRENT_DATE FROM new_users"
    desk.fill("new_users", columns, [person(number) for number in range(20)])
    desk.ask(sign_up)
    desk.run("signup_egift")
    desk.ask("TRUNCATE new_users")
    desk.fill("new_users", columns, [person(number) for number in range(20, 24)])
    desk.ask(sign_up)
    log = desk.open_log("signup_egift", desk.run("signup_egift"), "send_gifts")
    counted(log, sent=4, already_sent=20, rows=24)
    shoot("howto-signup")


def test_yearly_one_more_person_on_another_day(desk: Desk, shoot: Callable[..., None]) -> None:
    table = "customers_with_a_birthday_this_week"
    desk.fill(table, PERSON + ADDRESS, [at_home(number) for number in range(5)])
    desk.run("birthday_gift")
    desk.fill(table, PERSON + ADDRESS, [at_home(5)])
    log = desk.open_log("birthday_gift", desk.run("birthday_gift"), "send_gifts", height=840)
    expect(log).to_contain_text(f"Scope '{datetime.now(UTC):birthday/%Y}': one gift per person and year.")
    counted(log, sent=1, already_sent=5, rows=6)
    shoot("howto-yearly")


def test_staging_is_a_dry_run_until_the_variable_says_otherwise(desk: Desk, shoot: Callable[..., None]) -> None:
    people = [at_home(number) for number in range(9)]
    desk.fill("champions", PERSON + ADDRESS, [*people, ("C-1009", "Grace", "Hopper", "grace", *HOME)])
    log = desk.open_log("champions_gifts", desk.run("champions_gifts"), "send_gifts", height=900)
    expect(log).to_contain_text("Dry run of gift gift-mug")
    counted(log, would_send=9, invalid=1, rows=10)
    expect(log).to_contain_text("Nothing was sent, whatever the rows.")
    assert desk.sandbox.sends == []
    shoot("howto-staging")


def test_approve_a_person_is_asked_with_the_count_and_the_cost(desk: Desk, shoot: Callable[..., None]) -> None:
    desk.fill("champions", PERSON + ADDRESS, [at_home(number) for number in range(3)])
    desk.unpause("q4_approved")
    run_id = desk.trigger("q4_approved")
    task = f"dags/q4_approved/dagRuns/{run_id}/taskInstances/approve"
    desk.airflow.wait_until(
        lambda: desk.airflow.api("GET", task)["state"] in ("awaiting_input", "deferred"), "it waits for a person"
    )
    desk.page.set_viewport_size({"width": 1280, "height": 440})
    desk.page.goto(f"{desk.airflow.url}/required_actions")
    desk.page.get_by_role("link", name=re.compile("Send 3 gifts")).click()
    expect(desk.page.get_by_text("Estimated: 127.5 USD.")).to_be_visible()
    expect(desk.page.get_by_role("button", name="Approve")).to_be_visible()
    assert desk.sandbox.sends == []
    shoot("howto-approve")
    desk.page.get_by_role("button", name="Approve").click()
    desk.wait("q4_approved")
    assert len(desk.sandbox.sends) == 3


def test_replace_only_what_came_back_is_sent_again(desk: Desk, shoot: Callable[..., None]) -> None:
    desk.fill("champions", PERSON + ADDRESS, [at_home(number) for number in range(4)])
    desk.run("q4_results")
    desk.ask("UPDATE sendoso_results SET status = 'returned' WHERE row_ref IN ('C-1001', 'C-1002')")
    for (send_id,) in desk.ask("SELECT send_id FROM sendoso_results WHERE row_ref = 'C-1001'"):
        desk.sandbox.finish(send_id, "returned")  # of the other, Sendoso says that it has arrived
    desk.fill("new_addresses", PERSON + ADDRESS, [at_home(1), at_home(2)])
    log = desk.open_log("q4_replacements", desk.run("q4_replacements"), "send_again")
    counted(log, sent=1, invalid=1, rows=2)
    expect(log).to_contain_text("only failed and returned ones are replaced")
    assert len(desk.sandbox.sends) == 5
    shoot("howto-replace")


def test_mwaa_the_connection_is_tested_without_a_shell(desk: Desk, shoot: Callable[..., None]) -> None:
    desk.fill("champions", PERSON + ADDRESS, [at_home(number) for number in range(9)])
    log = desk.open_log("first_dry_run", desk.run("first_dry_run"), "preview")
    counted(log, would_send=9, rows=9)
    log = desk.open_log("sendoso_check", desk.run("sendoso_check"), "check", height=520)
    expect(log).to_contain_text(f"Connected to {desk.sandbox.url} as user 1, balance 1000.0")
    expect(log).to_contain_text("answers.")
    assert desk.sandbox.sends == []
    shoot("howto-mwaa")


@contextmanager
def slack() -> Iterator[tuple[str, list[str]]]:
    """An incoming webhook, and the texts that were posted to it."""
    told: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Not in the tests' output."""

    server = HTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/T1", told
    server.shutdown()
    server.server_close()


def alike(text: str) -> str:
    """A text without what differs from run to run: runs, keys, times."""
    run, key, moment = (
        r"manual__\S+?(?=: |/tasks)",
        r"\b[0-9a-f]{12}\b|\b[0-9a-f]{32}\b",
        r"\d{4}-\d\d-\d\dT[\d:]+\+00:00",
    )
    return re.sub(f"{run}|{key}|{moment}|https?://[^/]+", "…", text).strip()


def test_slack_is_told_which_send_is_held_and_how_to_decide(desk: Desk, shoot: Callable[..., None]) -> None:
    desk.fill("champions", PERSON + ADDRESS, [at_home(number) for number in range(12)])
    desk.sandbox.fault("error_before", **POST)
    with slack() as (address, told):
        desk.airflow.api("POST", "connections", connection_id="slack_webhook", conn_type="http", password=address)
        run_id = desk.run("q4_mugs")
        desk.airflow.wait_until(lambda: told, "Slack is told")
        desk.airflow.delete("connections/slack_webhook")
    (text,), (page,) = told, shown("slack")
    held = re.compile(r"row \d+ \(C-\d+\)")
    assert alike(held.sub("row …", text)) == alike(held.sub("row …", page)), text
    assert "example.com" not in text
    log = desk.open_log("q4_mugs", run_id, "send_gifts", "Failed", height=1200)
    expect(log).to_contain_text("SendHeldError: 1 sends are held")
    counted(log, sent=11, held=1, rows=12)
    expect(log.get_by_text("airflow sendoso ledger resolve").last).to_be_visible()
    shoot("howto-slack", clip=end_of(log))


def as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write rows as the docs show them."""
    cells = [columns, *(["" if value is None else str(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def test_who_got_what_is_a_query(desk: Desk, shoot: Callable[..., None]) -> None:
    ada, grace = ("C-1000", "Ada", "Lovelace", "ada@example.com", *HOME), ("C-1003", "Grace", "Hopper", "grace", *HOME)
    desk.fill("champions", PERSON + ADDRESS, [ada, at_home(1), at_home(2), grace])
    log = desk.open_log("q4_results", desk.run("q4_results"), "arrived", height=620)
    expect(log).to_contain_text("Sends by status: 3 delivered.")
    shoot("howto-who-got-what")
    desk.fill("champions", PERSON + ADDRESS, [at_home(4)])  # who was in no batch
    page = (HOWTO / "who_got_what.md").read_text(encoding="utf-8")
    queries, tables = re.findall(r"^```sql\n(.*?)^```", page, re.M | re.S), shown("who_got_what")
    columns = [table.splitlines()[0].split() for table in tables]
    made = [as_table(names, desk.ask(query)) for names, query in zip(columns, queries, strict=True)]
    moment = re.compile(r"\d{4}-\d\d-\d\d [\d:]+\.\d{6}")
    assert [moment.sub("…", text) for text in made] == [moment.sub("…", text).strip() for text in tables], made


def test_from_a_script_whom_the_script_has_sent_a_gift_is_left_out(desk: Desk, shoot: Callable[..., None]) -> None:
    names = ("customer_id", "given_name", "family_name", "email", *ADDRESS)
    desk.fill("champions", names, [at_home(number) for number in range(9)])
    desk.fill("sent_by_the_script", ("email",), [("ADA0@example.com",), ("ada1@example.com",), (None,)])
    log = desk.open_log("q4_from_a_script", desk.run("q4_from_a_script"), "send_gifts")
    counted(log, sent=7, rows=7)
    assert {f"ada{number}@example.com" for number in range(2, 9)} == {send.body["email"] for send in desk.sandbox.sends}
    shoot("howto-from-requests")


def test_the_log_of_a_batch_that_met_faults_ends_with_what_to_do(desk: Desk, shoot: Callable[..., None]) -> None:
    names = ("customer_id", "given_name", "last_name", "email", *ADDRESS, "tier")
    people = [(*at_home(number), "gold") for number in range(133)]
    people[40] = (*people[40][:3], "ada at example.com", *people[40][4:])
    people[97] = (people[97][0], None, *people[97][2:])
    desk.fill("champions", names, people)
    desk.sandbox.fault("error_before", **POST)
    desk.sandbox.fault("status", status=422, body={"message": "This gift is not sent to that country"}, **POST)
    log = desk.open_log("q4_gifts", desk.run("q4_gifts"), "gifts", "Failed", height=1200)
    counted(log, sent=129, refused=1, invalid=2, held=1, rows=133)
    expect(log).to_contain_text("What to do now:")
    shoot("log-at-3-am", clip=end_of(log))
