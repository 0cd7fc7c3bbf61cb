"""SendosoToSqlOperator against a local Sendoso, into real databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException
from sqlalchemy import create_engine, text
from tenacity import wait_none

from airflow_provider_sendoso.exceptions import (
    SendosoConfigError,
    SendosoError,
    SendosoResultsError,
    SendosoServerError,
    SendosoSpoolError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.landing.spool import LandingSpool
from airflow_provider_sendoso.operators.sendoso import SendosoToSqlOperator
from airflow_provider_sendoso.runs import landing as landing_run
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.warehouse import tables

ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
TRACKER = "/api/v3/send"
Ask = Callable[..., list[tuple[Any, ...]]]
Land = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_wait", wait_none())


@pytest.fixture(params=["sqlite", "postgresql", "duckdb", "mysql"])
def ask(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Iterator[Ask]:
    """Runs a statement in the database behind ``warehouse``."""
    if request.param == "duckdb":
        path = str(tmp_path / "warehouse.duckdb")
        set_connection("warehouse", {"conn_type": "duckdb", "host": path})

        def run_duckdb(statement: str) -> list[tuple[Any, ...]]:
            with duckdb.connect(path) as connected:
                return connected.execute(statement).fetchall()

        yield run_duckdb
        return
    if request.param == "sqlite":
        set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
        engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    elif request.param == "mysql":
        database = request.getfixturevalue("mysql_database")()
        engine = create_engine(database.url)
        with engine.connect() as connected:
            port = connected.execute(text("SELECT @@port")).scalar()
        address = {"host": "127.0.0.1", "port": port, "login": "root", "schema": database.name}
        set_connection("warehouse", {"conn_type": "mysql", **address, "extra": {"client": "mysql-connector-python"}})
    else:
        database = request.getfixturevalue("postgres_database")()
        set_connection("warehouse", database.connection)
        engine = create_engine(database.url)

    def run(statement: str) -> list[tuple[Any, ...]]:
        with engine.begin() as connected:
            result = connected.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    yield run
    engine.dispose()


@pytest.fixture
def sqlite_ask(tmp_path: Path, set_connection: Any) -> Ask:
    """For tests whose result is the same on every database."""
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})

    def run(statement: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(tmp_path / "warehouse.db") as connected:
            return connected.execute(statement).fetchall()

    return run


@pytest.fixture
def land(sendoso: Sandbox, ti: Any) -> Land:
    """Runs the operator as a task."""

    def run(name: str = "campaign_sends", **arguments: Any) -> dict[str, Any]:
        given = {"table": "landed", "conn_id": "warehouse"} | arguments
        operator = SendosoToSqlOperator(task_id="land", object=name, **given)
        return operator.execute({"ti": ti("run-1")})

    return run


def summary(**changes: Any) -> dict[str, Any]:
    usual = {"object": "campaign_sends", "inserted": 0, "updated": 0, "columns_added": [], "whole_list": True}
    return usual | changes


def moments(rows: list[tuple[Any, ...]]) -> list[str]:
    return [str(row[0])[:23] for row in rows]


def pages_read(sendoso: Sandbox, path: str = TRACKER) -> int:
    return sum(request.path == path and request.method == "GET" for request in sendoso.requests)


# -- what lands --------------------------------------------------------------------------------------------------------


def test_touches_land_with_their_types_and_land_again_without_a_change(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    sendoso.add(
        "touches",
        {
            "id": 102,
            "name": "Coffee 李 🎁",
            "starting_egift_price": "5.0",
            "is_default_price": False,
            "start_date": "2025-01-06T00:00:00.000-08:00",
            "ship_to_countries": ["US", "DE"],
        },
    )
    first = land("touches")
    assert first == summary(object="touches", rows=4, inserted=4, unchanged=0) | {
        "columns_added": first["columns_added"]
    }
    assert {"user_id", "hubspot_key", "is_default_price"} <= set(first["columns_added"])
    row = ask(
        "SELECT name, starting_egift_price, start_date, ship_to_countries, is_default_price, end_date "
        "FROM landed WHERE id = '102'"
    )[0]
    assert (row[0], float(row[1]), row[3], bool(row[4]), row[5]) == ("Coffee 李 🎁", 5.0, '["US", "DE"]', False, None)
    assert moments([(row[2],)]) == ["2025-01-06 08:00:00.000"] or str(row[2]) == "2025-01-06 08:00:00"
    before = ask("SELECT * FROM landed ORDER BY id")
    assert land("touches") == summary(object="touches", rows=4, unchanged=4)
    assert ask("SELECT * FROM landed ORDER BY id") == before
    # It is a number and a moment for the database, too.
    assert ask("SELECT COUNT(*) FROM landed WHERE starting_egift_price > 4 AND start_date < '2026-01-01'") == [(1,)]


def post(sendoso: Sandbox, **changes: Any) -> str:
    """Make a campaign send, as another application does; return its id in the Send Tracker."""
    body = {"touch_id": 102, "email": "ada@example.com", "via": "single_email_address", "via_from": "Elsewhere"}
    headers = {"Authorization": f"Bearer {SendosoHook().session.token()}"}
    answer = requests.post(f"{sendoso.url}{TRACKER}", json={"send": body | changes}, headers=headers, timeout=60)
    assert answer.ok, answer.text
    return str(sendoso.campaign_sends()[-1].id)


def test_campaign_sends_land_flat_with_the_providers_status_beside_sendosos_word(
    sendoso: Sandbox, ask: Ask, land: Land
) -> None:
    first = post(sendoso, name="Ada L", email="ada+returned@example.com")
    second = post(sendoso)
    sendoso.finish(first, "Expired")
    sendoso.finish(second, "Opened")
    assert land() == summary(
        rows=2, inserted=2, unchanged=0, columns_added=["sender_id", "sender_name", "sender_email"]
    )
    columns = (
        "id, status, status_word, touch_id, touch_name, recipient_name, recipient_email, current_total_cost, sent_via"
    )
    rows = [(*row[:7], float(row[7]), row[8]) for row in ask(f"SELECT {columns} FROM landed ORDER BY id")]
    assert rows == [
        (first, "returned", "Expired", "102", "Coffee on us", "Ada L", "ada+returned@example.com", 5.0, "Elsewhere"),
        (second, "delivered", "Opened", "102", "Coffee on us", None, "ada@example.com", 5.0, "Elsewhere"),
    ]
    ((made,),) = ask(f"SELECT created_at FROM landed WHERE id = '{first}'")
    told = datetime.fromtimestamp(sendoso.campaign_sends()[0].accepted_at, UTC)
    assert abs(datetime.fromisoformat(str(made)).replace(tzinfo=UTC) - told) < timedelta(milliseconds=2)


def test_status_updates_land_in_a_table_of_their_own_and_follow_the_sends(
    sendoso: Sandbox, ask: Ask, land: Land
) -> None:
    send_id = post(sendoso)
    sendoso.finish(send_id, "Sent")
    assert land(status_table="history")["status_updates"] >= 1
    sendoso.finish(send_id, "Redeemed")
    assert land(status_table="history")["updated"] == 1
    query = "SELECT send_id, status, status_word FROM history ORDER BY occurred_at"
    # What the sandbox has of the past depends on the moment; its end does not.
    assert ask(query)[-1] == (send_id, "delivered", "Redeemed")
    assert ask("SELECT COUNT(*) FROM history") == ask(
        "SELECT COUNT(*) FROM (SELECT DISTINCT send_id, status_word, occurred_at FROM history) AS each_once"
    )
    before = ask(query)
    assert land(status_table="history") | {"whole_list": True} == summary(rows=1, unchanged=1, status_updates=0)
    assert ask(query) == before


def test_a_status_table_that_is_added_later_is_filled(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    sendoso.preload(3)
    land()
    for _ in range(2):
        result = land(status_table="history")
        assert (result["updated"], result["status_updates"]) == (3, 12)
        assert ask("SELECT COUNT(*) FROM history") == [(12,)]
        ask("DROP TABLE history")


def test_a_new_field_becomes_a_new_column_and_no_column_is_ever_dropped(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    sendoso.add("users", {"id": 1, "email": "a@example.com", "balance": "1.5"})
    land("users")
    sendoso.add(
        "users", {"id": 1, "email": "a@example.com", "Plan / order": "gold", "seat_count": 3, "left_at": "2026-01-01"}
    )
    result = land("users")
    assert (result["columns_added"], result["updated"]) == (["plan_order", "seat_count", "left_at"], 1)
    query = "SELECT plan_order, seat_count, balance FROM landed WHERE id = '1'"
    assert ask(query) == [("gold", 3, None)]
    assert ask("SELECT COUNT(*) FROM landed WHERE left_at < '2026-01-02'") == [(1,)]
    sendoso.add("users", {"id": 1, "balance": "2"})
    assert land("users")["columns_added"] == []
    assert [(row[0], row[1], float(row[2])) for row in ask(query)] == [(None, None, 2.0)]


def test_a_value_that_does_not_fit_its_column_lands_as_text_in_a_column_beside_it(
    sendoso: Sandbox, ask: Ask, land: Land
) -> None:
    odd = {
        "id": 1,
        "balance": "about 5",
        "left_at": "soon",
        "seat_count": 1.5,
        "is_admin": "perhaps",
        "team_id": {"a": [1]},
    }
    sendoso.add("users", odd)
    result = land("users", columns=["balance", "left_at", "seat_count", "is_admin", "team_id"])
    assert result["inserted"] == 3
    typed = ("balance", "left_at", "seat_count", "is_admin")
    columns = ", ".join((*typed, *(f"{name}_text" for name in typed), "team_id"))
    values = (None, None, None, None, "about 5", "soon", "1.5", "perhaps", '{"a": [1]}')
    assert ask(f"SELECT {columns} FROM landed WHERE id = '1'") == [values]
    assert land("users", columns=["balance", "left_at", "seat_count", "is_admin", "team_id"])["unchanged"] == 3


def test_text_of_any_length_and_alphabet_lands_unchanged(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    long = "x" * 70_000
    sendoso.add("touches", {"id": 'a"b', "name": "it's \x00%s {} ? :name", "order": long, "1st choice": "🎁"})
    land("touches")
    ((name, first),) = ask("SELECT name, _1st_choice FROM landed WHERE id = 'a\"b'")
    assert (name, first) == ("it's %s {} ? :name", "🎁")
    assert ask("SELECT COUNT(*) FROM landed WHERE LENGTH(name) > 3") == [(5,)]
    assert land("touches")["unchanged"] == 5


def test_an_empty_list_makes_an_empty_table(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    for _ in range(2):
        assert land(status_table="history") == summary(rows=0, unchanged=0, status_updates=0)
    assert ask("SELECT id, status, recipient_email, touch_name FROM landed") == []
    assert ask("SELECT send_id, status, status_word, occurred_at FROM history") == []


@pytest.mark.parametrize("name", ["groups", "gifts", "return_addresses", "sends"])
def test_every_other_list_lands(sendoso: Sandbox, sqlite_ask: Ask, land: Land, name: str) -> None:
    SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=ADA, message="Thanks", metadata={"crm": 7})
    first = land(name)
    assert first["rows"] == first["inserted"] > 0
    assert sqlite_ask("SELECT COUNT(*) FROM landed") == [(first["rows"],)]
    if name != "sends":  # which go on
        assert land(name)["unchanged"] == first["rows"]


# -- which columns -----------------------------------------------------------------------------------------------------


def test_columns_that_are_not_listed_do_not_land_and_are_emptied_when_they_are_no_longer_listed(
    sendoso: Sandbox, ask: Ask, land: Land
) -> None:
    sendoso.preload(3)
    land(columns=["touch_id", "Recipient_Email"])
    names = "id, status, status_word, created_at, touch_id, recipient_email"
    assert ask(f"SELECT {names} FROM landed WHERE recipient_email IS NOT NULL")[0][4] == "101"
    assert "old1@example.com" in str(ask("SELECT * FROM landed"))
    assert land(columns="touch_id, current_total_cost")["updated"] == 3
    assert "@example.com" not in str(ask("SELECT * FROM landed"))
    assert land(columns="['touch_id', 'current_total_cost']")["unchanged"] == 3


def test_a_metadata_key_becomes_a_column_when_it_is_listed(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    SendosoHook().send_gift(gift_id="gift-donation-trees", recipient=ADA, message="Thanks", metadata={"Customer-Id": 7})
    land("sends", columns=["metadata_customer_id", "metadata_nobody_has_it"])
    assert ask("SELECT metadata_customer_id, metadata_nobody_has_it FROM landed") == [("7", None)]
    assert "example.com" not in str(ask("SELECT * FROM landed"))


def test_a_column_that_no_row_has_is_refused_before_anything_is_written(
    sendoso: Sandbox, sqlite_ask: Ask, land: Land
) -> None:
    with pytest.raises(SendosoConfigError, match=r"columns names nmae, which no row of touches has. It has .*\bname\b"):
        land("touches", columns=["name", "nmae"])
    assert sqlite_ask("SELECT COUNT(*) FROM landed") == [(0,)]
    assert land("touches", columns=["name", "hubspot_key"])["columns_added"] == ["hubspot_key"]


# -- how much is read --------------------------------------------------------------------------------------------------


def test_a_list_of_sends_is_read_as_far_as_its_rows_may_have_changed(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    sendoso.preload(450)
    assert land() | {"columns_added": []} == summary(rows=450, inserted=450, unchanged=0)
    assert pages_read(sendoso) == 5
    assert land() == summary(rows=100, unchanged=100, whole_list=False)
    assert pages_read(sendoso) == 6
    # One that is still on its way is looked for, however old it is: here on the third page; the fourth has no more.
    ask("UPDATE landed SET status = 'shipped', landed_hash = 'campaign_sends:' WHERE id = '220'")
    assert land() == summary(rows=400, updated=1, unchanged=399, whole_list=False)
    assert ask("SELECT status FROM landed WHERE id = '220'") == [("delivered",)]
    # New ones are there with the first page; all that was new needs one more, without any.
    first = post(sendoso)
    sendoso.finish(first, "Failed")
    assert land() == summary(rows=200, inserted=1, unchanged=199, whole_list=False)
    assert land(full=True) == summary(rows=451, unchanged=451)
    assert land(full="False") == summary(rows=100, unchanged=100, whole_list=False)
    assert ask("SELECT COUNT(*), COUNT(DISTINCT id) FROM landed") == [(451, 451)]


def test_an_opened_egift_is_read_again_because_it_may_still_be_redeemed(
    sendoso: Sandbox, sqlite_ask: Ask, land: Land
) -> None:
    sendoso.preload(450)
    land()
    sqlite_ask("UPDATE landed SET status_word = 'Opened', landed_hash = 'campaign_sends:' WHERE id = '220'")
    assert land() == summary(rows=400, updated=1, unchanged=399, whole_list=False)
    assert sqlite_ask("SELECT COUNT(*) FROM landed WHERE status_word = 'Opened'") == [(0,)]


def test_a_send_on_hold_that_an_earlier_release_has_landed_as_failed_is_read_again(
    sendoso: Sandbox, sqlite_ask: Ask, land: Land
) -> None:
    sendoso.preload(450)
    land()
    landed = "status = 'failed', status_word = 'Suspicious Email', landed_hash = 'campaign_sends:'"
    sqlite_ask(f"UPDATE landed SET {landed} WHERE id = '220'")
    assert land() == summary(rows=400, updated=1, unchanged=399, whole_list=False)
    assert sqlite_ask("SELECT COUNT(*) FROM landed WHERE status_word = 'Suspicious Email'") == [(0,)]


def test_a_list_in_another_order_is_read_to_its_end(sendoso: Sandbox, sqlite_ask: Ask, land: Land) -> None:
    sendoso.preload(250)
    sendoso.order = "oldest_first"
    land()
    newest = post(sendoso)
    assert land() == summary(rows=251, inserted=1, unchanged=250)
    assert sqlite_ask(f"SELECT COUNT(*) FROM landed WHERE id = '{newest}'") == [(1,)]


def test_a_list_that_broke_off_is_not_taken_for_the_whole_list(sendoso: Sandbox, sqlite_ask: Ask, land: Land) -> None:
    sendoso.preload(450)
    reads = len(sendoso.requests)
    sendoso.fault("status", method="GET", path=TRACKER, status=500, body={}, seconds=0.01)
    with pytest.MonkeyPatch.context() as patch:
        usual = landing_run._Reading.take

        def take_and_break(reading: Any, *arguments: Any) -> Any:
            sendoso.fault("status", times=50, method="GET", path=TRACKER, status=500)
            return usual(reading, *arguments)

        patch.setattr(landing_run._Reading, "take", take_and_break)
        with pytest.raises(SendosoServerError):
            land()
    assert len(sendoso.requests) > reads
    assert sqlite_ask("SELECT COUNT(*) FROM landed") == [(0,)]
    sendoso.clear_faults()
    assert land()["inserted"] == 450


def test_a_stopped_task_writes_nothing(sendoso: Sandbox, sqlite_ask: Ask) -> None:
    operator = SendosoToSqlOperator(task_id="land", object="touches", table="landed", conn_id="warehouse")
    operator.on_kill()
    with pytest.raises(SendosoError, match=r"told to stop while it was reading: its process.*Nothing was written"):
        operator.execute({})
    assert sqlite_ask("SELECT COUNT(*) FROM landed") == [(0,)]


# -- the sends of a batch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 250, 350])
def test_only_the_sends_of_the_batch_land_when_a_batch_id_is_given(
    sendoso: Sandbox, ledger: Any, sqlite_ask: Ask, land: Land, batch: Any, execute: Any, people: Any, others: int
) -> None:
    mine = execute(batch(recipients=people(3)))
    app = sendoso._app.account
    for number in range(others):
        sendoso._ask(lambda number=number: app.accept({"gift_id": "g", **ADA, "email": f"x{number}@example.com"}, "c"))
    execute(batch(recipients=people(1), dedupe_scope="other"), "run-2")
    assert land("sends", batch_id=mine["batch_id"])["rows"] == 3
    assert sqlite_ask("SELECT id FROM landed ORDER BY id") == sorted((send.id,) for send in sendoso.sends[:3])
    # Three requests for one each, where the rest of the list would have taken as many.
    assert sum(request.path.startswith("/api/v3/sends/") for request in sendoso.requests) == (3 if others == 350 else 0)


def test_a_landed_batch_does_not_end_the_next_reading_of_the_whole_list_early(
    sendoso: Sandbox, ledger: Any, sqlite_ask: Ask, land: Land, batch: Any, execute: Any, people: Any
) -> None:
    app, hook = sendoso._app.account, SendosoHook()
    older = sendoso._ask(lambda: app.accept({"gift_id": "g", **ADA}, "c"))
    sendoso.finish(older.id, "delivered")
    batch_id = execute(batch(recipients=people(120)))["batch_id"]
    for send_id in hook.recorded_send_ids(batch_id=batch_id):
        sendoso.finish(send_id, "delivered")
    assert land("sends", batch_id=batch_id)["inserted"] == 120
    assert land("sends", batch_id=batch_id)["unchanged"] == 120
    result = land("sends")
    assert (result["rows"], result["inserted"], result["whole_list"]) == (121, 1, True)
    assert land("sends", batch_id=batch_id)["unchanged"] == 120
    assert land("sends") == summary(object="sends", rows=100, unchanged=100, whole_list=False)


def test_a_send_of_a_batch_that_sendoso_does_not_list_is_counted(
    sendoso: Sandbox, ledger: Any, sqlite_ask: Ask, land: Land, batch: Any, execute: Any
) -> None:
    batch_id = execute(batch())["batch_id"]
    sendoso.reset()
    assert land("sends", batch_id=batch_id)["missing"] == 3
    with pytest.raises(SendosoConfigError, match="knows no batch_id=nobodys"):
        land("sends", batch_id="nobodys")


def test_campaign_sends_of_a_batch_land_once_their_ids_are_known(
    sendoso: Sandbox, ledger: Any, sqlite_ask: Ask, land: Land, batch: Any, execute: Any
) -> None:
    batch_id = execute(batch(gift_id=None, touch_id=102, message=None))["batch_id"]
    assert land("campaign_sends", batch_id=batch_id)["missing"] == 3
    SendStatusSensor(task_id="arrived", batch_id=batch_id, deferrable=False).poke({})
    result = land("campaign_sends", batch_id=batch_id)
    assert (result["inserted"], result["missing"]) == (3, 0)
    assert land("sends", table="gifts", batch_id=batch_id)["rows"] == 0
    assert sqlite_ask("SELECT DISTINCT touch_id FROM landed") == [("102",)]


# -- tables that cannot be written
# -----------------------------------------------------------------------------------------


def test_a_table_that_the_operator_did_not_make_is_left_alone(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    ask("CREATE TABLE landed (id VARCHAR(20), name VARCHAR(20))")
    ask("INSERT INTO landed VALUES ('101', 'mine')")
    with pytest.raises(SendosoConfigError, match=r"has no column landed_hash, landed_at: it was not made for this"):
        land("touches")
    with pytest.raises(SendosoConfigError, match=r"'landed' .* has no column send_id"):
        land(table="other", status_table="landed")
    assert ask("SELECT * FROM landed") == [("101", "mine")]
    assert [request.path for request in sendoso.requests] == []


def test_two_lists_do_not_share_a_table(sendoso: Sandbox, ask: Ask, land: Land) -> None:
    land("touches")
    before = ask("SELECT * FROM landed ORDER BY id")
    with pytest.raises(SendosoConfigError, match="holds touches; groups needs a table of its own"):
        land("groups")
    assert ask("SELECT * FROM landed ORDER BY id") == before


def test_missing_columns_are_added_to_a_table_and_a_column_of_another_type_is_named(
    sendoso: Sandbox, ask: Ask, land: Land, request: pytest.FixtureRequest
) -> None:
    ask("CREATE TABLE landed (id VARCHAR(190), email INTEGER, landed_hash VARCHAR(80), landed_at TIMESTAMP NULL)")
    if "sqlite" in request.node.name:  # which takes anything
        assert land("users")["inserted"] == len(ask("SELECT email FROM landed WHERE email LIKE '%@example.com'")) > 0
        return
    with pytest.raises(SendosoResultsError) as error:
        land("users")
    assert "its column 'email' does not take what Sendoso has for it" in str(error.value)
    assert "@example.com" not in f"{error.value} {error.value.__cause__} {error.value.__context__ and 0}"
    assert not isinstance(error.value, AirflowFailException)
    assert ask("SELECT COUNT(*) FROM landed") == [(0,)]
    assert land("users", columns=["last_name"])["inserted"] == 3
    assert ask("SELECT last_name FROM landed WHERE id = '2'") == [("Hopper",)]


def test_a_connection_that_is_lost_midway_leaves_the_table_as_it_was(
    sendoso: Sandbox, ask: Ask, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendoso.preload(350)
    land(status_table="history")
    before = ask("SELECT * FROM landed ORDER BY id"), ask("SELECT COUNT(*) FROM history")
    sendoso.preload(350, email="new{}@example.com", spacing=30)
    usual = tables.Transaction.execute
    writes = []

    def lose(session: tables.Transaction, statement: str, values: Any = ()) -> None:
        if statement.startswith("INSERT"):
            writes.append(len(writes))
            if len(writes) % 5 == 0:
                session._connection.close()
        usual(session, statement, values)

    with monkeypatch.context() as patch:
        patch.setattr(tables.Transaction, "execute", lose)
        with pytest.raises(SendosoResultsError, match=r"could not be written: .* It is as it was before") as error:
            land(status_table="history")
    assert len(writes) >= 15  # three attempts
    assert "@example.com" not in str(error.value)
    assert (ask("SELECT * FROM landed ORDER BY id"), ask("SELECT COUNT(*) FROM history")) == before
    assert land(status_table="history")["updated"] == 350


def test_a_temporary_disk_that_is_full_leaves_the_table_as_it_was(
    sendoso: Sandbox, ask: Ask, land: Land, full_disk: Any
) -> None:
    sendoso.preload(50)
    land()
    before = ask("SELECT * FROM landed ORDER BY id")
    sendoso.preload(350, email="new{}@example.com", spacing=30)
    error = pytest.raises(SendosoSpoolError, match=r"disk is full\. The table is as it was")
    with full_disk(LandingSpool, "put"), error:
        land()
    assert ask("SELECT * FROM landed ORDER BY id") == before
    assert land()["inserted"] == 300


def test_two_concurrent_runs_leave_each_row_once(
    sendoso: Sandbox, postgres_database: Any, set_connection: Any, land: Land
) -> None:
    database = postgres_database()
    set_connection("warehouse", database.connection)
    sendoso.preload(250)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(land, status_table="history") for _ in range(2)]
        assert [run.result()["rows"] for run in both] == [250, 250]
    with psycopg.connect(host=database.socket_dir, user="postgres", dbname=database.name) as connection:
        counts = "SELECT COUNT(*), COUNT(DISTINCT id), (SELECT COUNT(*) FROM history) FROM landed"
        assert connection.execute(counts).fetchall() == [(250, 250, 1000)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "sned"}, "object is 'sned'; use one of 'sends', 'campaign_sends'"),
        ({"table": "x; DROP TABLE y"}, "table is .*; use a table's name"),
        ({"status_table": "a b"}, "status_table is 'a b'; use a table's name"),
        ({"table": "None"}, "table is empty"),
        ({"conn_id": ""}, "conn_id is empty"),
        ({"name": "users", "batch_id": "b"}, "batch_id and status_table are for sends; users have neither"),
        ({"name": "users", "status_table": "b"}, "batch_id and status_table are for sends"),
        ({"columns": {"a": 1}}, "columns must be a list of names"),
        ({"columns": []}, "columns is empty"),
        ({"full": "perhaps"}, "full is 'perhaps', neither true nor false"),
        ({"conn_id": "sendoso_default"}, "which does not run SQL"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(
    sendoso: Sandbox, sqlite_ask: Ask, land: Land, arguments: Any, words: str
) -> None:
    with pytest.raises(SendosoConfigError, match=words):
        land(**arguments)
    assert sendoso.requests == []


def test_all_arguments_are_templates(sendoso: Sandbox, sqlite_ask: Ask, ti: Any) -> None:
    operator = SendosoToSqlOperator(
        task_id="land",
        object="{{ params.what }}",
        table="{{ params.what }}",
        conn_id="{{ params.db }}",
        columns=["{{ params.column }}"],
        batch_id="{{ params.nothing }}",
        status_table="{{ params.nothing }}",
        full="{{ params.full }}",
    )
    given = {"what": "touches", "db": "warehouse", "column": "name", "nothing": None, "full": False}
    operator.render_template_fields({"params": given})
    assert operator.execute({"ti": ti("run-1")})["inserted"] == 4
    assert len(sqlite_ask("SELECT id, name, landed_at FROM touches")) == 4


# -- words and people --------------------------------------------------------------------------------------------------


def test_an_unknown_status_word_is_processing_and_is_logged_once(
    sendoso: Sandbox, sqlite_ask: Ask, land: Land, read_logs: Callable[[], str]
) -> None:
    for word in ("Teleporting", "Teleporting", "Delivered"):
        sendoso.finish(post(sendoso), word)
    land()
    assert sorted(sqlite_ask("SELECT status, status_word FROM landed")) == [
        ("delivered", "Delivered"),
        *[("processing", "Teleporting")] * 2,
    ]
    said = [line for line in read_logs().splitlines() if "a status that is not known here, 'Teleporting'" in line]
    assert len(set(said)) == 1


def test_neither_log_nor_xcom_has_personal_data(sendoso: Sandbox, sqlite_ask: Ask, ti: Any, read_logs: Any) -> None:
    sendoso.preload(5, email="personal{}@example.com")
    task = ti("run-1")
    operator = SendosoToSqlOperator(task_id="land", object="campaign_sends", table="landed", conn_id="warehouse")
    result = operator.execute({"ti": task})
    assert "personal1@example.com" in str(sqlite_ask("SELECT * FROM landed"))
    kept = f"{result} {task.xcom} {read_logs()}"
    assert "personal" not in kept
    assert "Recipient 1" not in kept
    assert task.xcom == {"sendoso_link": sendoso.url}
