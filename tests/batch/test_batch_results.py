"""The results table on real databases: it is created, replaced and refreshed, and its rows have the right values."""

from __future__ import annotations

import dataclasses
import resource
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import mysql.connector
import pymysql
import pytest
from airflow.providers.mysql.hooks.mysql import MySqlHook
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect
from tenacity import wait_none

from airflow_provider_sendoso.batch import results_table as results
from airflow_provider_sendoso.batch.results_table import COLUMNS, ResultsTable, StatusUpdate, refresh_statuses
from airflow_provider_sendoso.batch.row import BatchRow, SpooledOutcome
from airflow_provider_sendoso.batch.spool import BatchSpool
from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoResultsError
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.records import Batch, Record, State
from airflow_provider_sendoso.models import GiftSend, Item, Kind, RowOutcome
from airflow_provider_sendoso.sending import Result
from airflow_provider_sendoso.warehouse import tables
from airflow_provider_sendoso.warehouse.hooks import warehouse_hook

TABLE = "sendoso_results"
BATCH = Batch("b1", "acme", "q4", "email", "campaign", "gifts", "run-1", -1)
MORNING = 1_794_990_600.25  # 2026-11-18 08:30:00.250 UTC


@dataclasses.dataclass
class Warehouse:
    """A database behind the connection ``warehouse``."""

    engine: Engine

    def run(self, *statements: str) -> None:
        with self.engine.begin() as connected:
            for statement in statements:
                connected.execute(text(statement))

    def read(self, columns: str = "*", table: str = TABLE) -> list[tuple[Any, ...]]:
        number = self.engine.dialect.identifier_preparer.quote_identifier("row_number")
        with self.engine.connect() as connected:
            rows = connected.execute(text(f"SELECT {columns} FROM {table} ORDER BY batch_id, {number}"))
            return [tuple(row) for row in rows]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_wait", wait_none())


@pytest.fixture
def connect_mysql(mysql_database: Any, set_connection: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes a database behind ``warehouse``; on a socket, which Airflow's hook opens with one driver only."""

    def make(driver: str = "pymysql") -> str:
        database = mysql_database()
        connect = pymysql.connect if driver == "pymysql" else mysql.connector.connect
        arguments = {"user": "root", "database": database.name, "unix_socket": database.socket}
        monkeypatch.setattr(MySqlHook, "get_conn", lambda hook: connect(**arguments))
        set_connection("warehouse", {"conn_type": "mysql", "host": "localhost", "schema": database.name})
        return str(database.url)

    return make


@pytest.fixture(params=["sqlite", "postgresql", "pymysql", "mysql-connector"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, set_connection: Any) -> Iterator[Warehouse]:
    if request.param == "sqlite":
        set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
        engine = create_engine(f"sqlite:///{tmp_path}/warehouse.db")
    elif request.param == "postgresql":
        database = request.getfixturevalue("postgres_database")()
        set_connection("warehouse", database.connection)
        engine = create_engine(database.url)
    else:
        engine = create_engine(request.getfixturevalue("connect_mysql")(request.param))
    yield Warehouse(engine)
    engine.dispose()


def the_table(name: str = TABLE) -> ResultsTable:
    return ResultsTable(warehouse_hook("warehouse"), name)


def outcome(number: int = 1, **changes: Any) -> SpooledOutcome:
    key = f"ada{number}@example.com"
    row = SpooledOutcome(number, key, None, f"C-{number}", Item("gift-mug"), RowOutcome.SENT, None, None, None)
    return dataclasses.replace(row, **changes)


def record(state: State = State.SENT, **changes: Any) -> Record:
    row = Record(
        *("key", "acme", "q4", state, "owner", 1, 0.0, "b1", "payload", Item("gift-mug"), "snd-1", None, None),
        *(MORNING, 1.0, "shipped", None, Kind.GIFT, MORNING + 60),
    )
    return dataclasses.replace(row, **changes)


def some(count: int, batch: Batch = BATCH, **changes: Any) -> list[tables.Cells]:
    numbers = range(1, count + 1)
    rows = [outcome(number, **({"send_id": f"snd-{number}"} | changes)) for number in numbers]
    return [results.cells(batch, row, "hash", None) for row in rows]


# -- the rows ----------------------------------------------------------------------------------------------------------


def test_a_row_fills_every_column_and_has_no_personal_data() -> None:
    row = outcome(send_id="snd-1", posted_at=MORNING)
    cells = results.cells(
        BATCH, row, "hash", record(status_word="amazon shipped"), price_of=lambda gift_id: (Decimal("24.50"), "USD")
    )
    assert dict(zip(COLUMNS, cells, strict=True)) == {
        "batch_id": "b1",
        "dedupe_scope": "q4",
        "dag_id": "campaign",
        "run_id": "run-1",
        "row_number": 1,
        "row_ref": "C-1",
        "recipient_key_hash": "hash",
        "outcome": "sent",
        "field": None,
        "reason": None,
        "send_id": "snd-1",
        "tracking_code": None,
        "gift_id": "gift-mug",
        "touch_id": None,
        "sent_at": "2026-11-18 08:30:00.250",
        "estimated_cost": "24.50",
        "currency": "USD",
        "status": "shipped",
        "status_at": "2026-11-18 08:31:00.250",
        "status_word": "amazon shipped",
        "marketplace_variant_id": None,
        "smart_send": None,
    }
    assert "example.com" not in repr(row)


@pytest.mark.parametrize(
    ("problem", "split"),
    [
        ("email is not an e-mail address", ("email", "is not an e-mail address")),
        ("email is missing; last_name is missing", ("email", "is missing; last_name is missing")),
        ("metadata_phone must be text, a number", ("metadata_phone", "must be text, a number")),
        ("address_country has a value of a wrong type", ("address_country", "has a value of a wrong type")),
        ("team, named in the message, is missing", ("team", "named in the message, is missing")),
        ("the recipient key (email) is missing", ("email", "the recipient key (email) is missing")),
        ("a cell holds something that is not text", (None, "a cell holds something that is not text")),
        ("resend_of names the send 'snd-1', which is", ("resend_of", "names the send 'snd-1', which is")),
    ],
)
def test_a_problem_is_split_into_field_and_reason(problem: str, split: tuple[str | None, str]) -> None:
    assert results.split_problem(problem) == split
    invalid = outcome(outcome=RowOutcome.INVALID, reason=problem)
    row = dict(zip(COLUMNS, results.cells(BATCH, invalid, None, None), strict=True))
    assert (row["outcome"], row["field"], row["reason"]) == ("invalid", *split)


def test_only_the_reason_of_an_invalid_row_is_split_into_a_field() -> None:
    refused = outcome(outcome=RowOutcome.REFUSED, reason="http_422: email is blocked")
    row = dict(zip(COLUMNS, results.cells(BATCH, refused, "hash", None), strict=True))
    assert (row["field"], row["reason"]) == (None, "http_422: email is blocked")


def test_a_long_reason_is_cut_to_its_column() -> None:
    refused = outcome(outcome=RowOutcome.REFUSED, reason="http_422: \0" + "no " * 1000)
    reason = dict(zip(COLUMNS, results.cells(BATCH, refused, "hash", None), strict=True))["reason"]
    assert len(str(reason)) == results.LONGEST_REASON
    assert "\0" not in str(reason)


NOT_REACHED, HELD = RowOutcome.NOT_REACHED, RowOutcome.HELD


@pytest.mark.parametrize(
    ("before", "known", "after"),
    [
        (NOT_REACHED, record(), "sent"),
        (NOT_REACHED, record(batch_id="b0"), "already_sent"),
        (NOT_REACHED, record(State.UNKNOWN), "held"),
        (NOT_REACHED, record(State.POSTING), "held"),
        (NOT_REACHED, record(State.HELD), "held"),
        (NOT_REACHED, record(State.READY), "not_reached"),
        (NOT_REACHED, record(State.CLAIMED), "not_reached"),
        (NOT_REACHED, record(State.REFUSED), "not_reached"),
        (NOT_REACHED, None, "not_reached"),
        (HELD, record(), "sent"),
        (RowOutcome.DUPLICATE, record(), "duplicate"),
        (RowOutcome.INVALID, record(), "invalid"),
        (RowOutcome.REFUSED, record(State.REFUSED), "refused"),
    ],
)
def test_the_ledgers_record_decides_the_outcome_of_a_row_that_was_not_reached(
    before: RowOutcome, known: Record | None, after: str
) -> None:
    cells = results.cells(BATCH, outcome(outcome=before, reason="why"), "hash", known)
    row = dict(zip(COLUMNS, cells, strict=True))
    assert row["outcome"] == after
    assert (row["sent_at"] is not None, row["status"]) == ((True, "shipped") if "sent" in after else (False, None))


def test_a_dry_run_says_what_it_would_send_and_what_was_sent() -> None:
    rows = [outcome(outcome=NOT_REACHED), outcome(outcome=RowOutcome.INVALID, reason="email is missing")]
    found = [results.cells(BATCH, row, "hash", None, would_send=True) for row in rows]
    found.append(results.cells(BATCH, rows[0], "hash", record(), would_send=True))
    assert [row[COLUMNS.index("outcome")] for row in found] == ["would_send", "invalid", "sent"]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("sendoso_results", "sendoso_results"),
        ("Gifts.RESULTS", "Gifts.RESULTS"),
        ("db.gifts.résultats_2026", "db.gifts.résultats_2026"),
        ('"Gift Results"', '"Gift Results"'),
        ('gifts."q4-2026"', 'gifts."q4-2026"'),
    ],
)
def test_a_tables_name_is_written_into_sql_unchanged(name: str, written: str) -> None:
    assert tables.sql_name(name, DefaultDialect()) == written


@pytest.mark.parametrize(
    "name",
    [
        *("r; DROP TABLE champions", "r--", "r (a)", "a.b.c.d", "", ".", "a.", ".a", "a..b", "1st", "r r", "'r'"),
        *('"a"b"', '"', '""', 'a."b', '"%s"', '"a;"', "r\n", "r/**/", "SELECT 1"),
    ],
)
def test_text_that_is_not_a_tables_name_is_refused(name: str) -> None:
    with pytest.raises(SendosoConfigError, match=r"use a table's name.*Nothing was sent"):
        tables.sql_name(name, DefaultDialect())


# -- writing -----------------------------------------------------------------------------------------------------------


def test_preparing_creates_the_table_and_leaves_no_row_in_it(warehouse: Warehouse) -> None:
    the_table().prepare(BATCH)
    assert warehouse.read() == []
    the_table().rewrite("b1", lambda: some(3))
    the_table().prepare(BATCH)
    assert warehouse.read("row_ref") == [("C-1",), ("C-2",), ("C-3",)]


def test_a_rewrite_replaces_the_rows_of_its_batch_and_no_others(warehouse: Warehouse) -> None:
    table, other = the_table(), dataclasses.replace(BATCH, batch_id="b2")
    table.prepare(BATCH)
    table.rewrite("b1", lambda: some(250, outcome=RowOutcome.NOT_REACHED))
    table.rewrite("b2", lambda: some(2, other))
    table.rewrite("b1", lambda: some(201))
    assert warehouse.read("batch_id, outcome") == [("b1", "sent")] * 201 + [("b2", "sent")] * 2
    table.rewrite("b1", list)
    assert warehouse.read("batch_id") == [("b2",)] * 2


def test_values_of_every_type_are_read_back_unchanged(warehouse: Warehouse) -> None:
    row = outcome(row_ref="Zoë 李 🎁 O'Hara \\ %s ?", send_id="snd-1", posted_at=MORNING)
    cells = results.cells(BATCH, row, "hash", record(), price_of=lambda gift_id: (Decimal("1234567.8901"), "EUR"))
    the_table().prepare(BATCH)
    the_table().rewrite("b1", lambda: [cells])
    ((row_ref, sent_at, cost, status_at),) = warehouse.read("row_ref, sent_at, estimated_cost, status_at")
    assert row_ref == "Zoë 李 🎁 O'Hara \\ %s ?"
    assert (str(sent_at)[:23], str(status_at)[:23]) == ("2026-11-18 08:30:00.250", "2026-11-18 08:31:00.250")
    assert Decimal(str(cost)) == Decimal("1234567.8901")


def test_a_rewrite_that_fails_leaves_the_table_as_it_was(warehouse: Warehouse) -> None:
    the_table().prepare(BATCH)
    the_table().rewrite("b1", lambda: some(150))
    doubled = [*some(120), *some(1)]
    with pytest.raises(SendosoResultsError, match=r"could not be rewritten: .*in the ledger.*the next try rewrites"):
        the_table().rewrite("b1", lambda: doubled)
    assert len(warehouse.read("row_ref")) == 150


def test_a_rewrite_is_tried_again(warehouse: Warehouse) -> None:
    the_table().prepare(BATCH)
    attempts = []

    def rows() -> Iterator[tables.Cells]:
        attempts.append(1)
        yield from some(120)
        if len(attempts) < 3:
            raise ConnectionError("lost")

    the_table().rewrite("b1", rows)
    assert len(warehouse.read("row_ref")) == 120


def test_a_table_with_other_columns_is_refused_and_left_alone(warehouse: Warehouse) -> None:
    warehouse.run(f"CREATE TABLE {TABLE} (batch_id VARCHAR(32), mine INTEGER)", f"INSERT INTO {TABLE} VALUES ('b1', 7)")
    with pytest.raises(SendosoResultsError, match=r"does not have the columns that it should \(.*Nothing was sent"):
        the_table().prepare(BATCH)
    with warehouse.engine.connect() as connected:
        assert connected.execute(text(f"SELECT * FROM {TABLE}")).fetchall() == [("b1", 7)]


def test_a_results_table_may_have_more_columns(warehouse: Warehouse) -> None:
    the_table().prepare(BATCH)
    warehouse.run(f"ALTER TABLE {TABLE} ADD COLUMN noted VARCHAR(10) DEFAULT 'yes'")
    the_table().prepare(BATCH)
    the_table().rewrite("b1", lambda: some(1))
    assert warehouse.read("row_ref, noted") == [("C-1", "yes")]


def test_mapped_tasks_can_write_at_the_same_time(warehouse: Warehouse) -> None:
    shards = [dataclasses.replace(BATCH, batch_id=f"b{number}", map_index=number) for number in range(6)]
    errors: list[BaseException] = []

    def task(shard: Batch) -> None:
        try:
            the_table().prepare(shard)
            for _ in range(2):
                the_table().rewrite(shard.batch_id, lambda: some(300, shard))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=task, args=(shard,)) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert warehouse.read("batch_id") == [(shard.batch_id,) for shard in shards for _ in range(300)]


# -- databases that refuse a statement ---------------------------------------------------------------------------------


@pytest.fixture
def role(postgres_database: Any, set_connection: Any) -> Iterator[Callable[[str], Warehouse]]:
    """A PostgreSQL with the table in it, and a role with no rights but those that are granted."""
    database = postgres_database()
    warehouse = Warehouse(create_engine(database.url))
    name = f"reader_{database.name}"
    set_connection("warehouse", database.connection)
    the_table().prepare(BATCH)
    warehouse.run(f"CREATE ROLE {name} LOGIN")
    set_connection("warehouse", database.connection | {"login": name})

    def grant(rights: str) -> Warehouse:
        warehouse.run(f"GRANT {rights} ON {TABLE} TO {name}")
        return warehouse

    yield grant
    warehouse.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    warehouse.engine.dispose()


@pytest.mark.parametrize("rights", ["SELECT", "SELECT, INSERT", "SELECT, DELETE"])
def test_missing_rights_on_the_table_are_reported_before_the_first_send(role: Any, rights: str) -> None:
    role(rights)
    with pytest.raises(SendosoResultsError) as caught:
        the_table().prepare(BATCH)
    assert f"The results table '{TABLE}' (connection 'warehouse') cannot be written" in str(caught.value)
    assert "permission denied for table sendoso_results" in str(caught.value)
    assert "It takes the rights to SELECT, INSERT and DELETE" in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


def test_select_insert_and_delete_are_enough_on_an_existing_table(role: Any) -> None:
    warehouse = role("SELECT, INSERT, DELETE")
    the_table().prepare(BATCH)
    the_table().rewrite("b1", lambda: some(2))
    assert len(warehouse.read()) == 2
    with pytest.raises(SendosoResultsError, match=r"could not be refreshed: .*permission denied"):
        the_table().refresh({}, [StatusUpdate("snd-1", "delivered", MORNING)])


def test_a_missing_right_to_create_the_table_is_reported(role: Any, set_connection: Any) -> None:
    with pytest.raises(SendosoResultsError, match=r"could not be created \(.*permission denied for schema public"):
        the_table("other_results").prepare(BATCH)


def test_a_read_only_sqlite_is_refused(tmp_path: Path, set_connection: Any) -> None:
    path = str(tmp_path / "warehouse.db")
    set_connection("warehouse", {"conn_type": "sqlite", "host": path})
    the_table().prepare(BATCH)
    set_connection("warehouse", {"conn_type": "sqlite", "host": path, "extra": {"mode": "ro"}})
    with pytest.raises(SendosoResultsError, match=r"cannot be written: OperationalError: attempt to write a readonly"):
        the_table().prepare(BATCH)


def test_a_column_that_is_too_narrow_is_refused_before_the_first_send(
    postgres_database: Any, set_connection: Any
) -> None:
    database = postgres_database()
    set_connection("warehouse", database.connection)
    the_table().prepare(BATCH)
    Warehouse(create_engine(database.url)).run(f"ALTER TABLE {TABLE} ALTER COLUMN row_ref TYPE VARCHAR(20)")
    with pytest.raises(SendosoResultsError, match="value too long for type character varying"):
        the_table().prepare(BATCH)


def test_a_table_without_all_of_unicode_is_refused_before_the_first_send(
    connect_mysql: Callable[..., str],
) -> None:
    url = connect_mysql()
    the_table().prepare(BATCH)
    Warehouse(create_engine(url)).run(f"ALTER TABLE {TABLE} CONVERT TO CHARACTER SET latin1")
    with pytest.raises(SendosoResultsError, match="Incorrect string value"):
        the_table().prepare(BATCH)


def test_the_table_may_have_a_quoted_name_and_a_schema(postgres_database: Any, set_connection: Any) -> None:
    database = postgres_database()
    set_connection("warehouse", database.connection)
    warehouse = Warehouse(create_engine(database.url))
    warehouse.run('CREATE SCHEMA "Gifts"')
    table = the_table('"Gifts"."Q4 results"')
    table.prepare(BATCH)
    table.rewrite("b1", lambda: some(2))
    assert warehouse.read("row_ref", '"Gifts"."Q4 results"') == [("C-1",), ("C-2",)]


# -- statuses ----------------------------------------------------------------------------------------------------------


def test_statuses_are_refreshed_where_they_differ(warehouse: Warehouse) -> None:
    other = dataclasses.replace(BATCH, batch_id="b2")
    the_table().prepare(BATCH)
    the_table().rewrite("b1", lambda: some(250))
    the_table().rewrite("b2", lambda: some(1, other))
    hook = warehouse_hook("warehouse")
    refresh_statuses(
        hook, TABLE, {"batch_id": "b1"}, [StatusUpdate(f"snd-{n}", "shipped", MORNING) for n in range(1, 241)]
    )
    late = [
        StatusUpdate("snd-1", "shipped", MORNING + 9),
        StatusUpdate("snd-2", "delivered", MORNING + 9),
        StatusUpdate("nobody", "failed", None),
    ]
    refresh_statuses(hook, TABLE, {"batch_id": "b1"}, late)
    found = [
        (send_id, status, status_at and str(status_at)[:19])
        for send_id, status, status_at in warehouse.read("send_id, status, status_at")
    ]
    assert found[:3] == [
        ("snd-1", "shipped", "2026-11-18 08:30:00"),
        ("snd-2", "delivered", "2026-11-18 08:30:09"),
        ("snd-3", "shipped", "2026-11-18 08:30:00"),
    ]
    assert found[239:] == [("snd-240", "shipped", "2026-11-18 08:30:00")] + [
        (send_id, None, None) for send_id in (*(f"snd-{n}" for n in range(241, 251)), "snd-1")
    ]


def test_without_a_batch_every_row_of_the_send_is_refreshed(warehouse: Warehouse) -> None:
    the_table().prepare(BATCH)
    for batch_id in ("b1", "b2"):
        the_table().rewrite(batch_id, lambda batch_id=batch_id: some(1, dataclasses.replace(BATCH, batch_id=batch_id)))
    the_table().refresh({}, [StatusUpdate("snd-1", "returned", None)])
    the_table().refresh({"dedupe_scope": "another"}, [StatusUpdate("snd-1", "failed", None)])
    assert warehouse.read("status, status_at") == [("returned", None)] * 2


# -- size --------------------------------------------------------------------------------------------------------------


class SmallLedger(Ledger):
    """A ledger without any sends, which answers at once."""

    def __init__(self) -> None:
        self.sends: Any = self

    def send_key(self, *parts: Any) -> str:
        return "0" * 64

    def read(self, keys: Any) -> dict[str, Record]:
        return {}


def write(count: int) -> float:
    """Write a batch of so many rows; returns the peak of Python's memory in MiB, if that is traced."""
    gift = GiftSend.model_validate(
        {
            "gift_id": "gift-mug",
            "message": "Thanks",
            "recipient": {"first_name": "Ada", "last_name": "L", "email": "ada@example.com"},
        }
    )
    with BatchSpool() as spool:
        spool.fill(BatchRow(number, f"ada{number}", f"C-{number}", gift) for number in range(1, count + 1))
        spool.record(Result(7, RowOutcome.SENT, None, "", "snd-7", Item("gift-hoodie"), MORNING, "key", True))
        tracemalloc.reset_peak()
        results.write_results(the_table(), BATCH, spool, SmallLedger())
        return tracemalloc.get_traced_memory()[1] / 2**20


@pytest.mark.slow
def test_fifty_thousand_rows_take_no_more_memory_than_a_few(warehouse: Warehouse) -> None:
    the_table().prepare(BATCH)
    write(2_000)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write(50_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 40_000  # KiB; the spool's cache is in it
    with warehouse.engine.connect() as connected:
        count, sent = connected.execute(text(f"SELECT count(*), max(sent_at) FROM {TABLE}")).one()
    assert (count, str(sent)[:19]) == (50_000, "2026-11-18 08:30:00")
    assert warehouse.read("gift_id")[5:8] == [("gift-mug",), ("gift-hoodie",), ("gift-mug",)]


def test_not_even_a_part_of_the_rows_is_kept_in_memory(tmp_path: Path, set_connection: Any) -> None:
    set_connection("warehouse", {"conn_type": "sqlite", "host": str(tmp_path / "warehouse.db")})
    the_table().prepare(BATCH)
    tracemalloc.start()
    try:
        few, many = write(2_000), write(10_000)
    finally:
        tracemalloc.stop()
    assert many < few + 0.5
