"""The example DAGs, run by a real Airflow against PostgreSQL and a local Sendoso."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

CHAMPIONS = [
    ("C-1", "Zoë", "Brennecke", "zoe@example.com", "12 Harbour Row", "Bristol", "BS1 4QA", "GB"),
    ("C-2", "陽菜", "高木", "hina@example.org", "銀座 4-9-2", "東京", "104-0061", "JP"),
    ("C-3", "Nobody", "Reachable", None, "1 Nowhere", "Lyon", "69003", "FR"),
    ("C-4", "Siobhán", "O’Kinnealy", "siobhan@example.net", "5 Quay Street", "Galway", "H91 X2R7", "IE"),
    ("C-5", "Without", "Address", "homeless@example.com", None, None, None, None),
    ("C-6", "Zoë", "Again", "ZOE@Example.com", "12 Harbour Row", "Bristol", "BS1 4QA", "GB"),
]
REACHED = ["hina@example.org", "siobhan@example.net", "zoe@example.com"]
COUNTS = ("rows", "sent", "already_sent", "duplicate", "refused", "invalid", "held", "not_reached")


def with_champions(world: Any) -> Any:
    columns = (
        "customer_id, given_name, family_name, email, address_line1, address_city, address_postal_code, address_country"
    )
    world.execute(f"CREATE TABLE champions ({columns.replace(',', ' text,')} text)")
    world.execute("INSERT INTO champions VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", *CHAMPIONS)
    return world


def counts(run: Any) -> tuple[int, ...]:
    return tuple(run.xcoms["send_gifts"][name] for name in COUNTS)


def references(run: Any, task: str = "not_received") -> list[str]:
    """The ``row_ref`` of each row that the query returned; XCom of Airflow 3 keeps a tuple with its type."""
    return [(row["__data__"] if isinstance(row, dict) else row)[0] for row in run.xcoms[task]]


@pytest.fixture
def champions(world: Callable[..., Any]) -> Any:
    return with_champions(world())


def test_campaign_reaches_each_recipient_once_and_waits_in_the_trigger(airflow: Any, world: Callable[..., Any]) -> None:
    here = with_champions(world(step=1000))
    looks = re.compile(r"/api/v3/sends/send-\w+")

    def arrive() -> None:
        """Once the sensor has seen that they have not arrived yet."""
        while sum(bool(looks.fullmatch(request.path)) for request in here.sendoso.requests) < 2:
            time.sleep(0.1)
        for send in here.sendoso.sends:
            here.sendoso.finish(send.id, "delivered")

    threading.Thread(target=arrive, daemon=True).start()
    run = airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", here.environment)

    assert run.state == "success", run.log[-5000:]
    assert run.tasks == {"send_gifts": "success", "gifts_arrived": "success"}
    assert here.emails() == REACHED
    assert counts(run) == (6, 3, 0, 1, 0, 2, 0, 0)
    assert run.xcoms["send_gifts"]["dedupe_scope"] == "champions-2026-q4"
    assert "running trigger in line" in run.log
    arrived = run.xcoms["gifts_arrived"]
    assert (arrived["sends"], arrived["reached"], arrived["counts"]) == (3, 3, {"delivered": 3})


@pytest.mark.slow
def test_campaign_takes_names_message_and_gift_from_where_the_dag_says(airflow: Any, champions: Any) -> None:
    airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)

    body = next(send.body for send in champions.sendoso.sends if send.body["email"] == "hina@example.org")
    assert (body["first_name"], body["last_name"], body["gift_id"]) == ("陽菜", "高木", "gift-mug")
    assert "陽菜" in body["message"]
    assert body["address"]["city"] == "東京"


def test_second_run_of_a_campaign_sends_no_gift_again(airflow: Any, champions: Any) -> None:
    airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)
    posts = champions.posts()
    run = airflow.run("champions_campaign", "2026-01-02T00:00:00+00:00", champions.environment)

    assert run.state == "success", run.log[-5000:]
    assert counts(run) == (6, 0, 3, 1, 0, 2, 0, 0)
    assert champions.posts() == posts
    assert champions.emails() == REACHED


def test_cleared_run_sends_no_gift_again_and_counts_the_gifts_as_its_own(airflow: Any, champions: Any) -> None:
    first = airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)
    posts = champions.posts()
    again = airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)

    assert again.run_id == first.run_id
    assert again.state == "success", again.log[-5000:]
    assert again.xcoms["send_gifts"] == first.xcoms["send_gifts"]
    assert champions.posts() == posts
    assert champions.emails() == REACHED


@pytest.mark.slow
def test_a_new_row_in_the_table_is_sent_by_the_next_run(airflow: Any, champions: Any) -> None:
    airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)
    champions.execute(
        "INSERT INTO champions VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        ("C-7", "Kahu", "Tepania", "kahu@example.net", "6 Cuba Street", "Wellington", "6011", "NZ"),
    )
    run = airflow.run("champions_campaign", "2026-01-02T00:00:00+00:00", champions.environment)

    assert counts(run) == (7, 1, 3, 1, 0, 2, 0, 0)
    assert champions.emails() == sorted([*REACHED, "kahu@example.net"])


@pytest.mark.slow
def test_another_campaign_is_another_gift(airflow: Any, champions: Any) -> None:
    airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)
    run = airflow.run("champions_campaign", "2026-01-02T00:00:00+00:00", champions.environment, {"campaign": "spring"})

    assert counts(run) == (6, 3, 0, 1, 0, 2, 0, 0)
    assert champions.emails() == sorted(REACHED * 2)


def test_nothing_personal_is_left_in_log_xcom_and_ledger(airflow: Any, champions: Any) -> None:
    run = airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)
    tables = ("sendoso_sends", "sendoso_batches", "sendoso_scopes", "sendoso_tokens")
    ledger = "".join(str(champions.read_ledger(f"SELECT * FROM {table}")) for table in tables)
    kept = f"{run.log} {json.dumps(run.xcoms, ensure_ascii=False)} {ledger}".casefold()

    personal = {cell for row in CHAMPIONS for cell in row[1:7] if cell and cell not in ("Again", "Address", "Without")}
    assert [cell for cell in personal if re.search(rf"\b{re.escape(cell.casefold())}\b", kept)] == []


@pytest.mark.slow
def test_results_tell_who_has_not_received_a_gift_without_naming_them(airflow: Any, champions: Any) -> None:
    champions.sendoso.fault("status", method="POST", path="/api/v3/sends", status=422)
    run = airflow.run("campaign_results", "2026-01-01T00:00:00+00:00", champions.environment)

    assert run.state == "success", run.log[-5000:]
    assert (counts(run)[:4], sum(counts(run)[4:6])) == ((6, 2, 0, 1), 3)
    rows = champions.read_warehouse("SELECT row_ref, outcome, status FROM sendoso_results ORDER BY row_number")
    assert [row_ref for row_ref, _, _ in rows] == [row[0] for row in CHAMPIONS]
    assert [status for _, outcome, status in rows if outcome == "sent"] == ["delivered"] * 2
    missing = [row_ref for row_ref, outcome, _ in rows if outcome not in ("sent", "duplicate")]
    assert references(run) == missing
    assert len(missing) == 3
    kept = str(champions.read_warehouse("SELECT * FROM sendoso_results"))
    assert [cell for row in CHAMPIONS for cell in row[3:5] if cell and cell in kept] == []

    again = airflow.run("campaign_results", "2026-01-02T00:00:00+00:00", champions.environment)
    assert counts(again)[:3] == (6, 0, 2)
    assert champions.read_warehouse("SELECT count(*) FROM sendoso_results WHERE status = 'delivered'") == [(4,)]
    assert references(again) == missing


@pytest.mark.slow
def test_sends_land_beside_the_customers_without_other_personal_data(airflow: Any, world: Callable[..., Any]) -> None:
    here = with_champions(world())
    here.execute("UPDATE champions SET email = 'OLD7@example.com' WHERE customer_id = 'C-2'")
    here.sendoso.preload(250, email="old{}@example.com")
    first = airflow.run("send_attribution", "2026-01-01T00:00:00+00:00", here.environment)

    assert first.state == "success", first.log[-5000:]
    landed = first.xcoms["land_sends"]
    assert (landed["rows"], landed["inserted"], landed["status_updates"]) == (250, 250, 1000)
    query = (
        "SELECT customer_id, touch_id, sends, delivered, cost, last_delivered_at >= last_sent_at FROM send_attribution"
    )
    assert [(*row[:4], float(row[4]), row[5]) for row in here.read_warehouse(query)] == [
        ("C-2", "101", 1, 1, 30.0, True)
    ]

    again = airflow.run("send_attribution", "2026-01-02T00:00:00+00:00", here.environment)
    landed = again.xcoms["land_sends"]
    assert (landed["rows"], landed["unchanged"], landed["whole_list"]) == (100, 100, False)
    full = airflow.run("send_attribution", "2026-01-03T00:00:00+00:00", here.environment, {"full": True})
    assert (full.xcoms["land_sends"]["unchanged"], full.xcoms["land_sends"]["whole_list"]) == (250, True)
    assert len(here.read_warehouse(query)) == 1
    assert here.read_warehouse("SELECT COUNT(*), COUNT(DISTINCT id) FROM sendoso_sends") == [(250, 250)]
    kept = f"{first.log} {again.log} {full.log} {first.xcoms}"
    assert "@example.com" not in kept
    assert "Recipient" not in str(here.read_warehouse("SELECT * FROM sendoso_sends"))


def test_thank_you_returns_the_send_and_its_status(airflow: Any, world: Callable[..., Any]) -> None:
    here = with_champions(world())
    conf = {"customer_id": "C-2"}
    run = airflow.run("thank_you", "2026-01-01T00:00:00+00:00", here.environment, conf)

    assert run.state == "success", run.log[-5000:]
    assert here.emails() == ["hina@example.org"]
    assert run.xcoms == {"thank": here.sendoso.sends[0].id, "arrived": "delivered"}
    assert here.sendoso.sends[0].body["message"] == "Thank you for your time today, 陽菜."

    airflow.run("thank_you", "2026-01-01T00:00:00+00:00", here.environment, conf)
    assert here.posts() == 1


def test_a_success_callback_sends_once_however_often_the_run_is_cleared(
    airflow: Any, world: Callable[..., Any]
) -> None:
    here = with_champions(world())
    conf = {"customer_id": "C-4"}
    for _ in range(2):
        run = airflow.run("welcome_gift", "2026-01-01T00:00:00+00:00", here.environment, conf)
        assert run.tasks == {"make_workspace": "success"}, run.log[-5000:]
    assert here.emails() == ["siobhan@example.net"]
    assert here.sendoso.sends[0].body["message"] == "Welcome, Siobhán. Your workspace is ready."
    assert (
        f"Sent earlier: {here.sendoso.sends[0].id}, in scope welcome_gift/make_workspace/{run.run_id}/callback"
        in run.log
    )

    here.execute("UPDATE champions SET email = 'nobody@example.org' WHERE customer_id = 'C-4'")
    here.sendoso.fault("status", method="POST", path="/api/v3/sends", status=422, body={"message": "no nobody@example"})
    run = airflow.run("welcome_gift", "2026-01-02T00:00:00+00:00", here.environment, conf)
    assert run.tasks == {"make_workspace": "success"}
    assert "POST /api/v3/sends answered 422" in run.log
    assert "nobody@example" not in run.log


@pytest.mark.slow
def test_the_catalogue_chooses_the_gift(airflow: Any, world: Callable[..., Any]) -> None:
    here = world()
    run = airflow.run("choose_a_gift", "2026-01-01T00:00:00+00:00", here.environment, {"max_price": 30})

    assert run.state == "success", run.log[-5000:]
    assert run.xcoms["dearest_egift"] == "gift-egift-books"
    assert [send.body["gift_id"] for send in here.sendoso.sends] == ["gift-egift-books"]

    none = airflow.run("choose_a_gift", "2026-01-02T00:00:00+00:00", here.environment, {"max_price": 1})
    assert none.tasks == {"dearest_egift": "failed", "thank": "upstream_failed"}
    assert here.posts() == 1


def test_a_gift_that_came_back_is_replaced_once(airflow: Any, world: Callable[..., Any]) -> None:
    here = with_champions(world())
    first = airflow.run("thank_you", "2026-01-01T00:00:00+00:00", here.environment).xcoms["thank"]
    conf = {"resend_of": first}  # to the customer of the examples' default, C-1
    early = airflow.run("replaced_gift", "2026-01-02T00:00:00+00:00", here.environment, conf)
    assert early.state == "failed"
    assert "only failed and returned ones are replaced" in early.log

    here.sendoso.finish(first, "returned")
    run = airflow.run("replaced_gift", "2026-01-03T00:00:00+00:00", here.environment, conf)
    assert run.state == "success", run.log[-5000:]
    again = airflow.run("replaced_gift", "2026-01-04T00:00:00+00:00", here.environment, conf)
    assert again.xcoms == run.xcoms
    assert here.posts() == 2


REQUESTS = [
    ("R-1", "102", "ada@example.com", None, None, None, None, None, None, None, None),
    ("R-2", "102", "ada@example.com", "Ada", "Lovelace", None, None, None, None, None, None),
    ("R-3", "101", "grace@example.org", "Grace", "Hopper", None, "1 Navy Way", "Reno", "NV", "89501", "US"),
    ("R-4", "101", "hina@example.org", "陽菜", "高木", None, None, None, None, None, None),
    ("R-5", "101", "kahu@example.net", "Kahu", "Tepania", None, "6 Cuba Street", "London", None, "SW1Y", "GB"),
    ("R-6", "999", "wangari@example.org", "Wangari", "M", None, None, None, None, None, None),
]


@pytest.mark.slow
def test_rewards_are_fulfilled_once_each_and_marked(airflow: Any, world: Callable[..., Any]) -> None:
    here = world()
    here.execute(
        "CREATE TABLE reward_requests (request_id text PRIMARY KEY, touch_id text, email text, first_name text, "
        "last_name text, mobile_no text, address_line1 text, city text, state text, postal_code text, country text, "
        "outcome text, reason text, send_id text)"
    )
    marks = ", ".join(["%s"] * 11)
    here.execute(f"INSERT INTO reward_requests VALUES ({marks})", *REQUESTS)
    run = airflow.run("reward_fulfilment", "2026-01-01T00:00:00+00:00", here.environment)

    assert run.state == "success", run.log[-5000:]
    codes = [f"tracking:{sent.tracking_code}" for sent in here.sendoso.campaign_sends()]
    query = "SELECT outcome, reason, send_id FROM reward_requests ORDER BY request_id"
    rows = here.read_warehouse(query)
    assert [row[0] for row in rows] == ["sent"] * 4 + ["invalid"] * 2
    assert sorted(row[2] for row in rows[:4]) == sorted(codes)
    assert [row[1].split(",")[0] for row in rows[4:]] == [
        "mobile_no is missing",
        "touch_id is no campaign that this account can send",
    ]
    asked = [sent.body.get("no_address") for sent in here.sendoso.campaign_sends()]
    assert sorted(map(bool, asked)) == [False, False, False, True]

    here.execute("UPDATE reward_requests SET mobile_no = '+44 20 7946 0000' WHERE request_id = 'R-5'")
    again = airflow.run("reward_fulfilment", "2026-01-01T00:15:00+00:00", here.environment)
    assert again.xcoms["fulfil"]["rows"] == 2
    assert [row[0] for row in here.read_warehouse(query)] == ["sent"] * 5 + ["invalid"]
    assert len(here.sendoso.campaign_sends()) == 5


@pytest.mark.slow
def test_returned_gifts_are_replaced_from_the_results(airflow: Any, champions: Any) -> None:
    airflow.run("campaign_results", "2026-01-01T00:00:00+00:00", champions.environment)
    champions.execute("UPDATE sendoso_results SET status = 'returned' WHERE row_ref IN ('C-1', 'C-2')")
    champions.execute(
        "CREATE TABLE new_addresses (customer_id text PRIMARY KEY, first_name text, last_name text, email text, "
        "address_line1 text, city text, state text, postal_code text, country text)"
    )
    people = [
        ("C-1", "Zoë", "New", "new@example.com", "1 New Street", "London", None, "SW1Y 4JH", "GB"),
        ("C-2", "Ximena", "New", "newer@example.com", "2 New Street", "London", None, "SW1Y 4JH", "GB"),
    ]
    champions.execute("INSERT INTO new_addresses VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", *people)
    first = dict(champions.read_warehouse("SELECT row_ref, send_id FROM sendoso_results"))
    sent = [ref for ref in ("C-1", "C-2") if first[ref] is not None]
    champions.sendoso.finish(first[sent[0]], "returned")  # of the other, Sendoso says that it has arrived

    run = airflow.run("replace_returned", "2026-01-02T00:00:00+00:00", champions.environment)
    assert run.state == "success", run.log[-5000:]
    assert run.xcoms["send_again"]["sent"] == 1
    again = airflow.run("replace_returned", "2026-01-03T00:00:00+00:00", champions.environment)
    assert again.xcoms["send_again"]["already_sent"] == 1
    assert [send.body["email"] for send in champions.sendoso.sends].count("new@example.com") == 1


@pytest.mark.slow
def test_links_are_made_once_and_stay_in_the_database(airflow: Any, champions: Any) -> None:
    run = airflow.run("egift_links", "2026-01-01T00:00:00+00:00", champions.environment)

    assert run.state == "success", run.log[-5000:]
    codes = {sent.tracking_code: sent.body["email"].casefold() for sent in champions.sendoso.campaign_sends()}
    mails = champions.read_warehouse("SELECT customer_id, given_name, email, egift_link FROM coffee_mails ORDER BY 1")
    assert [mail[0] for mail in mails] == ["C-1", "C-2", "C-4", "C-5"]
    assert {link.rpartition("=")[2]: email.casefold() for *_, email, link in mails} == codes
    ledger = str(champions.read_ledger("SELECT * FROM sendoso_sends"))
    assert [code for code in codes if code in f"{run.log} {run.xcoms} {ledger}"] == []

    again = airflow.run("egift_links", "2026-01-02T00:00:00+00:00", champions.environment)
    assert again.xcoms["make_links"]["already_sent"] == 4
    assert (
        champions.read_warehouse("SELECT customer_id, given_name, email, egift_link FROM coffee_mails ORDER BY 1")
        == mails
    )
    assert len(champions.sendoso.campaign_sends()) == 4


def test_mapped_gifts_are_sent_once_each(airflow: Any, world: Callable[..., Any]) -> None:
    here = world()
    run = airflow.run("mapped_gifts", "2026-01-01T00:00:00+00:00", here.environment)

    assert run.state == "success", run.log[-5000:]
    assert here.emails() == ["ada@example.com", "alan@example.com", "wangari@example.org"]
    sent = {send.body["gift_id"]: send.id for send in here.sendoso.sends}
    gifts = ["gift-egift-books", "gift-egift-coffee", "gift-donation-trees"]
    assert [run.xcoms[f"send[{index}]"] for index in range(3)] == [sent[gift] for gift in gifts]
    assert {send.body["message"] for send in here.sendoso.sends} == {
        f"Thank you, {name}." for name in ("Ada", "Alan", "Wangari")
    }

    again = airflow.run("mapped_gifts", "2026-01-01T00:00:00+00:00", here.environment)
    assert again.xcoms == run.xcoms
    assert here.posts() == 3


@pytest.mark.slow
def test_shards_of_a_batch_take_their_recipients_from_a_task_and_share_a_scope(
    airflow: Any, world: Callable[..., Any]
) -> None:
    here = world()
    run = airflow.run("gifts_in_shards", "2026-01-01T00:00:00+00:00", here.environment)

    assert run.state == "success", run.log[-5000:]
    assert here.emails() == ["ada@example.com", "grace@example.com", "katherine@example.com"]
    shards = [run.xcoms[f"send_gifts[{index}]"] for index in range(2)]
    # Which of the two goes first is Airflow's choice.
    assert sorted((shard["rows"], shard["sent"], shard["already_sent"]) for shard in shards) == [(2, 1, 1), (2, 2, 0)]
    assert {shard["dedupe_scope"] for shard in shards} == {"speakers-2026"}
    assert "first_name from first_name, last_name from last_name, email from email, gift_id from argument" in run.log


@pytest.mark.slow
def test_all_tasks_of_a_quarter_share_one_budget_and_a_person_gets_one_gift(
    airflow: Any, world: Callable[..., Any]
) -> None:
    here = world()
    run = airflow.run("quarterly_budget", "2026-01-01T00:00:00+00:00", here.environment)
    assert run.state == "success", run.log[-5000:]
    assert here.emails() == ["ada@example.com", "grace@example.com", "katherine@example.com", "mary@example.com"]

    next_quarter = {"quarter": "2027-q1"}
    capped = airflow.run("quarterly_budget", "2026-02-01T00:00:00+00:00", here.environment, next_quarter)
    assert [capped.xcoms[f"teams[{index}]"]["capped"] for index in range(2)] == [2, 2]
    assert capped.tasks["chair"] == "skipped"

    short = airflow.run("quarterly_budget", "2026-03-01T00:00:00+00:00", here.environment, {"budget": 70})
    assert short.state == "success", short.log[-5000:]  # everybody was sent a gift in this scope before
    assert here.posts() == 4


@pytest.mark.slow
def test_held_sends_are_listed_and_resolved_with_a_form(airflow: Any, champions: Any) -> None:
    champions.sendoso.fault("error_before", method="POST", path="/api/v3/sends")
    held = airflow.run("champions_campaign", "2026-01-01T00:00:00+00:00", champions.environment)
    assert held.state == "failed"
    assert counts(held) == (6, 2, 0, 1, 0, 2, 1, 0)
    batch_id = held.xcoms["send_gifts"]["batch_id"]
    ((send_key, state, reason),) = champions.read_ledger(
        "UPDATE sendoso_sends SET lease_until = 0 WHERE state IN ('UNKNOWN', 'HELD') RETURNING send_key, state, reason"
    )

    listed = airflow.run("sendoso_ledger", "2026-01-02T00:00:00+00:00", champions.environment)
    assert listed.state == "success", listed.log[-5000:]
    assert listed.tasks == {
        "list_open": "success",
        "show_budget": "success",
        "to_be_resolved": "success",
        "resolve": "skipped",
    }
    assert [
        (line["period"], line["spent"]["sends"], line["reserved"]["sends"]) for line in listed.xcoms["show_budget"]
    ] == [
        ("day", 2, 1),
        ("month", 2, 1),
    ]
    assert listed.xcoms["list_open"] == [
        {"dedupe_scope": "champions-2026-q4", "batch_id": batch_id, "state": state, "reason": reason, "sends": 1}
    ]
    assert f"{send_key}  {state}  {reason}" in listed.log

    form = {"action": "resolve", "batch_id": batch_id, "resolution": "not_sent", "why": ""}
    unsaid = airflow.run("sendoso_ledger", "2026-01-03T00:00:00+00:00", champions.environment, form)
    assert unsaid.tasks["resolve"] == "failed"
    assert "Nothing was changed" in unsaid.log
    assert champions.read_ledger("SELECT * FROM sendoso_resolutions") == []

    form["why"] = "nothing of it in the send tracker"
    resolved = airflow.run("sendoso_ledger", "2026-01-04T00:00:00+00:00", champions.environment, form)
    assert resolved.state == "success", resolved.log[-5000:]
    assert (resolved.xcoms["resolve"]["resolved"], resolved.xcoms["resolve"]["skipped"]) == (1, 0)
    written = champions.read_ledger("SELECT send_key, to_state, why, resolved_by FROM sendoso_resolutions")
    # Who triggered a run is known from Airflow 3 on.
    by = "dag_test" if AIRFLOW_V_3_0_PLUS else f"sendoso_ledger/{resolved.run_id}"
    assert written == [(send_key, "READY", form["why"], by)]

    again = airflow.run("champions_campaign", "2026-01-05T00:00:00+00:00", champions.environment)
    assert counts(again) == (6, 1, 2, 1, 0, 2, 0, 0)
    assert champions.emails() == REACHED
    kept = " ".join((listed.log, unsaid.log, resolved.log)).casefold()
    assert [cell for row in CHAMPIONS for cell in row[3:4] if cell and cell.casefold() in kept] == []


def test_run_without_a_ledger_fails_and_sends_nothing(airflow: Any, world: Callable[..., Any]) -> None:
    here = with_champions(world())
    elsewhere = json.dumps(
        {
            "conn_type": "sendoso",
            "host": here.sendoso.url,
            "login": "sandbox",
            "password": "sandbox",
            "extra": {"ledger_conn_id": "no_such_ledger"},
        }
    )
    environment = here.environment | {"AIRFLOW_CONN_SENDOSO_DEFAULT": elsewhere}
    run = airflow.run("thank_you", "2026-01-01T00:00:00+00:00", environment)

    assert run.state == "failed"
    assert run.tasks["thank"] == "failed"
    assert "AIRFLOW_CONN_NO_SUCH_LEDGER=" in run.log
    assert here.sendoso.requests == []


def test_the_check_logs_what_the_connection_is_good_for(airflow: Any, world: Callable[..., Any]) -> None:
    here = world()
    run = airflow.run("sendoso_check", "2026-01-01T00:00:00+00:00", here.environment)

    assert run.state == "success", run.log[-5000:]
    assert f"Connected to {here.sendoso.url} as user 1, balance 1000.0" in run.log
    assert re.search(r"The ledger 'sendoso_ledger' \([-0-9a-f]{36}\) answers", run.log)
    assert here.emails() == []


@pytest.mark.slow
def test_the_commands_find_connections_that_were_made_in_the_ui(airflow: Any, tmp_path: Path) -> None:
    """As a newcomer makes them: in the metadata database, and with a short password, which Airflow warns about."""
    airflow.migrate()
    made = {
        "made_in_ui": {
            "conn_type": "sendoso",
            "host": "http://127.0.0.1:9",
            "login": "me",
            "password": "s3cr",
            "extra": json.dumps({"ledger_conn_id": "made_in_ui_ledger"}),
        },
        "made_in_ui_ledger": {"conn_type": "sqlite", "host": str(tmp_path / "ledger.db")},
    }
    file = tmp_path / "connections.json"
    file.write_text(json.dumps(made))
    airflow.cli("connections", "import", str(file))
    listing = ("ledger", "list", "--conn-id", "made_in_ui", "--json")
    nothing = {"sends": [], "total": 0, "counts": []}

    for command in (("airflow_provider_sendoso",), *([("airflow", "sendoso")] if AIRFLOW_V_3_0_PLUS else [])):
        listed = airflow.python("-m", *command, *listing)
        assert listed.returncode == 0, listed.stderr
        assert json.loads(listed.stdout) == nothing
    missing = airflow.python("-m", "airflow_provider_sendoso", "ledger", "list", "--conn-id", "made_in_u1")
    assert missing.returncode == 1
    assert "The connection 'made_in_u1' does not exist" in missing.stderr


@pytest.mark.slow
def test_the_check_fails_with_what_is_wrong_in_the_connection(airflow: Any, world: Callable[..., Any]) -> None:
    here = world()
    wrong = {"conn_type": "sendoso", "host": here.sendoso.url, "login": "sandbox", "password": "wr0ng-s3cret"}
    environment = here.environment | {"AIRFLOW_CONN_OTHER": json.dumps(wrong)}
    run = airflow.run("sendoso_check", "2026-01-02T00:00:00+00:00", environment, {"sendoso_conn_id": "other"})

    assert (run.state, run.tasks) == ("failed", {"check": "failed"})
    assert "did not grant a token (invalid_client)" in run.log
    assert "wr0ng-s3cret" not in run.log


@pytest.mark.slow
def test_a_new_campaign_ends_the_wait_and_the_next_run_waits_for_the_next_one(
    airflow: Any, world: Callable[..., Any]
) -> None:
    here = world()
    environment = here.environment | {"SENDOSO_POKE_INTERVAL": "1"}

    def launch(number: int) -> None:
        """Wait for the first poll and the answer to it, and make a campaign appear."""
        polls = "/api/v3/touches"
        while not any(request.path == polls and request.status == 200 for request in here.sendoso.requests):
            time.sleep(0.1)
        here.sendoso.add("touches", {"id": number, "name": "Spring"})

    with ThreadPoolExecutor(1) as aside:
        aside.submit(launch, 105)
        first = airflow.run("new_campaign", "2026-01-01T00:00:00+00:00", environment)
    assert (first.state, first.xcoms.get("announce")) == ("success", ["105"]), first.log[-5000:]
    here.sendoso.add("touches", {"id": 106, "name": "Summer"})  # between the runs
    second = airflow.run("new_campaign", "2026-01-02T00:00:00+00:00", environment)
    assert second.xcoms["announce"] == ["106"]
    again = airflow.run("new_campaign", "2026-01-02T00:00:00+00:00", environment)  # cleared
    assert again.xcoms["announce"] == ["106"]


@pytest.mark.slow
def test_the_results_say_which_egifts_are_not_redeemed_or_on_hold(airflow: Any, world: Callable[..., Any]) -> None:
    here = with_champions(world(step=1000))
    words = ("Used/Redeemed", "Opened", "Suspicious Email")

    def settle() -> None:
        while len(here.sendoso.campaign_sends()) < len(words):
            time.sleep(0.1)
        for sent, word in zip(here.sendoso.campaign_sends(), words, strict=False):
            here.sendoso.finish(sent.id, word)

    threading.Thread(target=settle, daemon=True).start()
    environment = here.environment | {"SENDOSO_WAIT_TIMEOUT": "15"}
    run = airflow.run("redeemed_egifts", "2026-01-01T00:00:00+00:00", environment)
    assert run.tasks["redeemed"] == "skipped", run.log[-5000:]
    assert "on hold at Sendoso (Suspicious Email: 1)" in run.log
    rows = here.read_warehouse("SELECT row_ref, status_word FROM sendoso_results WHERE outcome = 'sent' ORDER BY 1")
    assert {word for _, word in rows} == {*words, "Initiated"}
    assert references(run, "not_redeemed") == [row_ref for row_ref, word in rows if word != "Used/Redeemed"]
