"""BatchSendOperator and SendStatusSensor with a results table: after every try, however it ended."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from sqlalchemy import create_engine, text
from tenacity import wait_none

from airflow_provider_sendoso.batch import results_table as results
from airflow_provider_sendoso.exceptions import (
    SendHeldError,
    SendosoConfigError,
    SendosoError,
    SendosoResultsError,
    SendosoRowsError,
    SendosoStatusError,
)
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.sends import SendLedger
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sending import Sender
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor
from airflow_provider_sendoso.warehouse import tables
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook

SENDS = "/api/v3/sends"
TABLE = "sendoso_results"
Make = Callable[..., BatchSendOperator]
Execute = Callable[..., Any]
Read = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_wait", wait_none())


# tests/batch/test_batch_results.py tries the statements on the other two, too.
@pytest.fixture(
    params=[*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sqlite", "mysql")), "postgresql", "duckdb"]
)
def read(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Iterator[Read]:
    """Reads columns of the results, in the order of the rows, from the database behind ``warehouse``."""
    if request.param == "sqlite":
        set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
        engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    elif request.param == "duckdb":
        set_connection("warehouse", {"conn_type": "duckdb", "host": str(tmp_path / "warehouse.duckdb")})
        engine = None  # SQLAlchemy's dialect is another package
    elif request.param == "mysql":
        database = request.getfixturevalue("mysql_database")()
        engine = create_engine(database.url)
        # Of the hook's two drivers the one that needs no compiler, which knows no Unix sockets here.
        with engine.connect() as connected:
            port = connected.execute(text("SELECT @@port")).scalar()
        address = {"host": "127.0.0.1", "port": port, "login": "root", "schema": database.name}
        extra = {"client": "mysql-connector-python"}
        set_connection("warehouse", {"conn_type": "mysql", **address, "extra": extra})
    else:
        database = request.getfixturevalue("postgres_database")()
        set_connection("warehouse", database.connection)
        engine = create_engine(database.url)

    def run(columns: str = "row_number, outcome") -> list[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM {TABLE} ORDER BY run_id, batch_id, row_number"
        if engine is None:
            with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connected:
                return list(connected.sql(query).fetchall())
        if request.param == "mysql":
            query = query.replace("row_number", "`row_number`")  # a reserved word there
        with engine.connect() as connected:
            return [tuple(row) for row in connected.execute(text(query))]

    yield run
    if engine is not None:
        engine.dispose()


@pytest.fixture
def written(batch: Make) -> Make:
    """Makes a batch that writes its results."""
    return lambda **changes: batch(**({"conn_id": "warehouse", "results_table": TABLE} | changes))


@pytest.fixture
def mixed(people: Any) -> list[dict[str, Any]]:
    """Six rows: two to be sent, one refused first, a duplicate, two that are invalid."""
    rows = [row | {"crm_id": f"C-{number} 李"} for number, row in enumerate(people(6), 1)]
    rows[3]["email"] = rows[1]["email"]
    rows[4]["email"] = "not an e-mail"
    rows[5]["email"] = ""
    return rows


# -- a batch -----------------------------------------------------------------------------------------------------------


def test_the_results_table_has_every_row_and_its_outcome(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, mixed: Any
) -> None:
    sendoso.fault("status", method="POST", path=SENDS, status=422, body={"message": "Ada1 may not have gifts"})
    summary = execute(written(recipients=mixed, row_ref="crm_id", max_in_flight=1))
    assert read("row_number, row_ref, outcome, field, reason") == [
        (1, "C-1 李", "refused", None, 'http_422: "<first_name> may not have gifts"'),
        (2, "C-2 李", "sent", None, None),
        (3, "C-3 李", "sent", None, None),
        (4, "C-4 李", "duplicate", None, "an earlier row has the same recipient key"),
        (5, "C-5 李", "invalid", "email", "is not an e-mail address"),
        (6, "C-6 李", "invalid", "email", "the recipient key (email) is missing"),
    ]
    ids = {(row[0], row[1], row[2], row[3]) for row in read("batch_id, dedupe_scope, dag_id, run_id")}
    assert ids == {(summary["batch_id"], "q4", "dag", "run-1")}
    assert [row[0] for row in read("send_id")] == [None, *(send.id for send in sendoso.sends), None, None, None]
    assert (
        read("gift_id, status, sent_at IS NOT NULL, status_at IS NOT NULL")[1:3]
        == [("gift-donation-trees", "pending", True, True)] * 2
    )
    assert read("tracking_code, touch_id") == [(None, None)] * 6
    # The gift is a donation: what it costs is its price, of what was sent and of nothing else.
    costs = [(cost and float(cost), currency) for cost, currency in read("estimated_cost, currency")]
    assert costs == [(None, None), *[(15.0, "USD")] * 2, *[(None, None)] * 3]


def test_the_results_table_has_no_personal_data(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, mixed: Any
) -> None:
    execute(written(recipients=mixed))
    everything = str(read("*"))
    for personal in ("Ada", "Lovelace", "@example.com", "not an e-mail "):
        assert personal not in everything.replace("not an e-mail address", "")
    keys = [row[0] for row in read("recipient_key_hash")]
    assert keys[1] == keys[3]
    hook = SendosoHook()
    assert keys[1] == hook.ledger.send_key(hook.config.account, "q4", "ada2@example.com")
    assert keys[4:] == [None, None]


def test_the_results_of_a_query_go_to_the_database_that_it_reads(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read
) -> None:
    sql = "SELECT 'Ada' AS first_name, 'L' AS last_name, 'ada@example.com' AS email, 7 AS customer_id"
    execute(written(sql=sql, row_ref="customer_id"))
    assert read("row_ref, outcome") == [("7", "sent")]


def test_a_retry_rewrites_its_rows_and_another_run_adds_its_own(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, people: Any
) -> None:
    execute(written())
    first = read("*")
    execute(written())
    assert read("*") == first
    execute(written(recipients=people(4)), "run-2")
    assert read("run_id, outcome") == [
        *[("run-1", "sent")] * 3,
        *[("run-2", "already_sent")] * 3,
        ("run-2", "sent"),
    ]
    sent_at = [row[0] for row in read("sent_at")]
    assert sent_at[3:6] == sent_at[:3]


def test_mapped_tasks_share_a_table(
    sendoso: Sandbox, ledger: Any, written: Make, ti: Any, read: Read, people: Any
) -> None:
    for index in (0, 1, 0):
        written(recipients=people(4)[index * 2 : index * 2 + 2]).execute({"ti": ti("run-1", index)})
    assert sorted(read()) == [(1, "sent"), (1, "sent"), (2, "sent"), (2, "sent")]
    assert len(set(read("batch_id"))) == 2


def test_an_empty_input_leaves_no_rows(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read
) -> None:
    execute(written())
    execute(written(recipients=[]))
    assert read() == []


def test_connection_and_results_table_are_templates_and_an_empty_one_writes_no_results(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read
) -> None:
    operator = written(conn_id="{{ params.db }}", results_table="{{ params.table }}")
    operator.render_template_fields({"params": {"db": "warehouse", "table": f" {TABLE} "}})
    execute(operator)
    assert len(read()) == 3
    operator = written(results_table="{{ params.table }}")
    operator.render_template_fields({"params": {"table": None}})
    execute(operator, "run-2")
    assert len(read()) == 3


# -- tries that fail ---------------------------------------------------------------------------------------------------


def test_a_stopped_try_writes_not_reached_and_the_next_try_rewrites_it(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read
) -> None:
    sendoso.fault("status", method="POST", path=SENDS, status=403)
    with pytest.raises(SendosoError):
        execute(written(max_in_flight=1))
    assert read() == [(1, "not_reached"), (2, "not_reached"), (3, "not_reached")]
    execute(written())
    assert read() == [(1, "sent"), (2, "sent"), (3, "sent")]


def test_the_results_table_has_held_sends_and_their_reason(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read
) -> None:
    sendoso.fault("error_before", method="POST", path=SENDS)
    with pytest.raises(SendHeldError):
        execute(written(max_in_flight=1))
    assert read("row_number, outcome, reason, sent_at") == [
        (1, "held", "http_500", None),
        *[(number, "sent", None, sent_at) for number, (sent_at,) in enumerate(read("sent_at")[1:], 2)],
    ]


def test_a_try_that_refuses_its_rows_keeps_the_results_of_what_an_earlier_try_sent(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, people: Any
) -> None:
    execute(written())
    rows = [*people(3), people(4)[3], people(5)[4] | {"email": "x"}]
    with pytest.raises(SendosoRowsError):
        execute(written(recipients=rows, on_invalid="fail"))
    assert read() == [(1, "sent"), (2, "sent"), (3, "sent"), (4, "not_reached"), (5, "invalid")]
    assert len(sendoso.sends) == 3


class TimeOut(BaseException):
    """What Airflow raises in a task that takes too long is no Exception."""


def test_a_task_that_airflow_times_out_leaves_results(
    sendoso: Sandbox, ledger: Any, written: Make, ti: Any, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Sender.send

    def sends_and_runs_out_of_time(sender: Sender, *arguments: Any) -> None:
        send(sender, *arguments)
        raise TimeOut

    monkeypatch.setattr(Sender, "send", sends_and_runs_out_of_time)
    task = ti("run-1")
    with pytest.raises(TimeOut):
        written().execute({"ti": task})
    assert task.xcom["return_value"]["sent"] == 3
    assert [outcome for _, outcome in read()] == ["sent"] * 3


def test_what_ended_a_try_is_raised_even_if_the_results_cannot_be_written(
    sendoso: Sandbox, ledger: Any, written: Make, ti: Any, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(results.ResultsTable, "_rewrite", broken)
    sendoso.fault("error_before", method="POST", path=SENDS)
    task = ti("run-1")
    with pytest.raises(SendHeldError):
        written(max_in_flight=1).execute({"ti": task})
    assert task.xcom["return_value"]["held"] == 1


# -- what the database may do ------------------------------------------------------------------------------------------


def test_a_warehouse_that_goes_away_before_the_results_are_written_causes_no_second_gift(
    sendoso: Sandbox,
    ledger: Any,
    written: Make,
    ti: Any,
    execute: Execute,
    read: Read,
    monkeypatch: pytest.MonkeyPatch,
    set_connection: Any,
    read_logs: Callable[[], str],
) -> None:
    task, prepare = ti("run-1"), results.ResultsTable.prepare

    def prepare_and_lose(table: results.ResultsTable, batch: Any) -> None:
        prepare(table, batch)
        patch.setattr(type(table._hook), "get_conn", lambda hook: 1 / 0)

    with monkeypatch.context() as patch:
        patch.setattr(results.ResultsTable, "prepare", prepare_and_lose)
        with pytest.raises(SendosoResultsError, match="is not sent again; the next try rewrites the table") as e:
            written().execute({"ti": task})
    assert not isinstance(e.value, AirflowFailException)
    assert task.xcom["return_value"]["sent"] == 3
    logs = read_logs()
    assert "3 rows: sent 3" in logs
    assert "could not be rewritten" in logs
    assert read() == []
    execute(written())
    assert read() == [(1, "sent"), (2, "sent"), (3, "sent")]
    assert len(sendoso.sends) == 3


def test_a_ledger_that_goes_away_before_the_results_are_written_leaves_the_table_as_it_was(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(written())

    def lost(*arguments: Any, **more: Any) -> Any:
        raise SendosoError("the ledger is gone")

    monkeypatch.setattr(SendLedger, "read", lost)
    monkeypatch.setattr(SendLedger, "claim", lost)
    with pytest.raises(SendosoError, match="the ledger is gone"):
        execute(written())
    assert read() == [(1, "sent"), (2, "sent"), (3, "sent")]


@pytest.mark.parametrize("source", ["list", "query"])
def test_a_results_table_that_cannot_be_written_is_refused_before_the_first_send(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, set_connection: Any, tmp_path: Path, source: str
) -> None:
    path = str(tmp_path / "warehouse.db")
    sqlite3.connect(path).execute("CREATE TABLE mine (batch_id TEXT)").close()
    set_connection("warehouse", {"conn_type": "sqlite", "host": path, "extra": {"mode": "ro"}})
    sql = "SELECT 'Ada' AS first_name, 'L' AS last_name, 'ada@example.com' AS email"
    changes = {"sql": sql} if source == "query" else {}
    with pytest.raises(SendosoResultsError, match=r"attempt to write a readonly database.*Nothing was sent"):
        execute(written(**changes))
    set_connection("warehouse", {"conn_type": "sqlite", "host": path})
    with pytest.raises(SendosoResultsError, match=r"no such column: dedupe_scope.*Nothing was sent"):
        execute(written(results_table="mine", **changes))
    assert sendoso.requests == []


@pytest.mark.parametrize("ledger_connection", ["sqlite"], indirect=True)  # a bucket is no warehouse
def test_ledger_and_results_may_be_one_sqlite_file(
    sendoso: Sandbox, ledger: dict[str, Any], written: Make, execute: Execute, set_connection: Any
) -> None:
    set_connection("warehouse", ledger)
    assert execute(written())["sent"] == 3
    assert sqlite3.connect(ledger["host"]).execute(f"SELECT count(*) FROM {TABLE}").fetchone() == (3,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conn_id": None}, "results_table needs conn_id"),
        ({"results_table": "results; DROP TABLE champions"}, "use a table's name"),
        ({"conn_id": "sendoso_default"}, "does not run SQL"),
    ],
)
def test_wrong_arguments_are_refused_with_nothing_sent(
    sendoso: Sandbox,
    ledger: Any,
    written: Make,
    execute: Execute,
    set_connection: Any,
    tmp_path: Path,
    changes: Any,
    words: str,
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    with pytest.raises(SendosoConfigError, match=words):
        execute(written(**changes))
    assert sendoso.requests == []


def test_without_a_results_table_nothing_is_created(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, set_connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteHook, "get_conn", lambda hook: 1 / 0)
    set_connection("warehouse", {"conn_type": "sqlite", "host": "/nowhere/warehouse.db"})
    assert execute(batch(conn_id="warehouse"))["sent"] == 3


# -- the sensor --------------------------------------------------------------------------------------------------------


def sensor(**arguments: Any) -> SendStatusSensor:
    given = {"task_id": "arrived", "deferrable": False, "poke_interval": 0.01, "timeout": 600}
    return SendStatusSensor(**(given | {"results_table": TABLE, "conn_id": "warehouse"} | arguments))


def test_the_sensor_updates_the_statuses_in_the_results_table(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, people: Any
) -> None:
    summary = execute(written())
    execute(written(recipients=people(4)), "run-2")
    sensor(batch_id=summary["batch_id"]).execute({})
    assert [row[0] for row in read("status")[:3]] == ["delivered"] * 3
    assert [row[0] for row in read("status")[3:]] == ["pending"] * 4
    sensor(dedupe_scope="q4").execute({})
    assert [row[0] for row in read("status")] == ["delivered"] * 7


@pytest.mark.parametrize("many", [True, False])
def test_the_sensor_updates_the_statuses_of_listed_ids_before_it_fails(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, many: bool
) -> None:
    execute(written())
    ids = [row[0] for row in read("send_id")]
    sendoso.finish(ids[0], "returned")
    with pytest.raises(SendosoStatusError):
        sensor(send_id=ids[:2] if many else ids[0]).execute({})
    assert [row[0] for row in read("status")] == ["returned", "delivered" if many else "pending", "pending"]


def test_after_a_wait_in_the_triggerer_the_statuses_come_from_the_ledger(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read
) -> None:
    batch_id = execute(written())["batch_id"]
    ids = [row[0] for row in read("send_id")]
    hook = SendosoHook()
    for send_id, status in zip(ids, ("delivered", "failed", "shipped"), strict=True):
        hook.note_statuses({send_id: status})
    report = {"sends": 3, "reached": 1, "counts": {}, "failed": 1, "failed_ids": [ids[1]], "statuses": None}
    with pytest.raises(SendosoStatusError):
        sensor(batch_id=batch_id).execute_complete({}, {"status": "settled", "report": report})
    assert [row[0] for row in read("status")] == ["delivered", "failed", "shipped"]
    hook.note_statuses({ids[2]: "delivered"})
    with pytest.raises(AirflowSensorTimeout):
        sensor(batch_id=batch_id).execute_complete({}, {"status": "timeout", "report": report})
    assert [row[0] for row in read("status")] == ["delivered", "failed", "delivered"]


def test_the_results_table_has_sendosos_own_word_beside_the_status(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read
) -> None:
    batch_id = execute(written())["batch_id"]
    ids = [row[0] for row in read("send_id")]
    for send_id, word in zip(ids, ("suspicious email", "used/redeemed", "packed"), strict=True):
        sendoso.finish(send_id, word)
    with pytest.raises(AirflowSensorTimeout):
        sensor(batch_id=batch_id, mode="poke", timeout=1).execute({})
    words = [("pending", "suspicious email"), ("delivered", "used/redeemed"), ("processing", "packed")]
    assert read("status, status_word") == words
    before = read("status_at")
    with pytest.raises(AirflowSensorTimeout):
        sensor(send_id=ids, mode="poke", timeout=1).execute({})
    assert (read("status, status_word"), read("status_at")) == (words, before)
    sendoso.finish(ids[0], "suspicious email")
    sendoso.finish(ids[2], "out of stock")
    with pytest.raises(AirflowSensorTimeout):
        sensor(send_id=ids, mode="poke", timeout=1).execute({})
    assert read("status, status_word")[2] == ("processing", "out of stock")


def test_a_results_table_of_the_release_before_is_filled_without_the_word(
    sendoso: Sandbox, ledger: Any, written: Make, execute: Execute, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    execute(written(dedupe_scope="earlier"))
    if warehouse_hook("warehouse").dialect_name == "duckdb":  # which alters no table that has an index
        warehouse_hook("warehouse").run(f"DROP INDEX {TABLE}_send_id")
    for later in results.ResultsTable.later_columns:
        warehouse_hook("warehouse").run(f"ALTER TABLE {TABLE} DROP COLUMN {later}")
    batch_id = execute(written(), "run-2")["batch_id"]
    [text] = {entry.getMessage() for entry in caplog.records if "earlier release" in entry.getMessage()}
    ids = [row[0] for row in read("send_id")][-3:]
    for send_id, word in zip(ids, ("redeemed", "opened", "expired"), strict=True):
        sendoso.finish(send_id, word)
    sensor(batch_id=batch_id, failed_statuses=()).execute({})
    assert [row[0] for row in read("status")][-3:] == ["delivered", "delivered", "returned"]
    # What the warning proposes works as it stands.
    warehouse_hook("warehouse").run(text.partition(": ")[2].split("; "))
    sensor(batch_id=batch_id, failed_statuses=()).execute({})
    assert [row[0] for row in read("status_word")] == [None, None, None, "redeemed", "opened", "expired"]


def test_a_missing_results_table_fails_the_sensor_with_a_retryable_error(
    sendoso: Sandbox, ledger: Any, batch: Make, execute: Execute, set_connection: Any, tmp_path: Path
) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    batch_id = execute(batch())["batch_id"]
    started = time.monotonic()
    with pytest.raises(SendosoResultsError, match=r"could not be refreshed: OperationalError: no such table") as e:
        sensor(batch_id=batch_id).execute({})
    assert not isinstance(e.value, AirflowFailException)
    assert time.monotonic() - started < 100


def test_a_sensor_with_a_results_table_and_no_connection_is_refused(sendoso: Sandbox, ledger: Any) -> None:
    with pytest.raises(SendosoConfigError, match="results_table needs conn_id"):
        sensor(send_id="snd-1", conn_id=None).execute({})
