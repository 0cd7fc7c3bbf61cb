"""
Fixtures in which every secret and every personal value has a mark, for which all stored and logged text is searched.

Every mark begins with the same letters, which nothing else does. So what leaks is found whole or in part, in any
case, quoted or URL-encoded.
"""

from __future__ import annotations

import gzip
import html
import io
import logging
import re
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from buckets import folder_address, folder_engine, folder_ledger
from ledger_places import SharedDatabase
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from tenacity import wait_none

from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.schema import metadata
from airflow_provider_sendoso.sandbox import Sandbox

MARK = "zqx" + "zqx"
SECRET = f"{MARK}clientsecret"
COLUMNS = (
    *("customer_id", "first_name", "last_name", "email", "company", "title"),
    *("address_line1", "address_line2", "city", "state", "postal_code", "country"),
    *("note", "metadata_contact", "salary"),
)


class FakeTI:
    """As much of a task instance as the operators use."""

    dag_id, map_index = "campaign", -1

    def __init__(self, run_id: str, task_id: str = "gifts") -> None:
        self.run_id, self.task_id = run_id, task_id
        self.xcom: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


def cells(number: int) -> tuple[str, ...]:
    """One person's row: its reference, which its author has declared not personal, and marks."""
    named = [f"{MARK}{name.replace('_', '')}{number}" for name in COLUMNS]
    named[0], named[COLUMNS.index("country")] = f"C-{number}", "GB"
    named[COLUMNS.index("email")] = f"{MARK}mailbox{number}@{MARK}host{number}.example"
    return tuple(named)


def message(number: int) -> str:
    """What the batches' ``"{note}, {first_name}"`` becomes for a person."""
    row = dict(zip(COLUMNS, cells(number), strict=True))
    return f"{row['note']}, {row['first_name']}"


def recipient(number: int) -> dict[str, Any]:
    """The same person, as an argument."""
    row = dict(zip(COLUMNS, cells(number), strict=True))
    address = {"line1": row["address_line1"], "line2": row["address_line2"]}
    address |= {name: row[name] for name in ("city", "state", "postal_code", "country")}
    return {name: row[name] for name in ("first_name", "last_name", "email", "company", "title")} | {"address": address}


def revealed(kept: str) -> str:
    """The collected text without whatever could hide a mark: escapes, encodings, blanks and punctuation."""
    kept = html.unescape(re.sub(r"\\+(?=[xu])", r"\\", kept))
    kept = re.sub(r"(?:%|=|\\x|\\u00)([2-7][0-9a-f])", lambda found: chr(int(found[1], 16)), kept, flags=re.I)
    return re.sub(r"(?<=\w)[^\w\n]{1,2}(?=\w(?:[^\w\n]|$))", "", unicodedata.normalize("NFKC", kept))


class Marked:
    """A Sendoso, a ledger and a warehouse with marked values, and all text that somebody could read afterwards."""

    def __init__(self, sandbox: Sandbox, ledger: Engine | str, warehouse: Engine) -> None:
        self.sandbox = sandbox
        self._ledger = ledger
        self._warehouse = warehouse
        self.kept: list[str] = []

    def fill(self, *numbers: int, **changes: str | None) -> None:
        """Put people into the table ``champions``; changes are made to each of their rows."""
        columns = ", ".join(f"{name} text" for name in COLUMNS)
        with self._warehouse.begin() as connection:
            connection.execute(text(f"CREATE TABLE IF NOT EXISTS champions ({columns})"))
            for number in numbers:
                row = dict(zip(COLUMNS, cells(number), strict=True)) | changes
                connection.execute(text(f"INSERT INTO champions VALUES (:{', :'.join(COLUMNS)})"), row)

    def change(self, statement: str) -> None:
        """Change the warehouse."""
        with self._warehouse.begin() as connection:
            connection.execute(text(statement))

    def echo(
        self,
        number: int,
        *,
        untold: tuple[str, ...] = (),
        more: tuple[str, ...] = (),
        spell: Callable[[str], str] = str,
        **fault: Any,
    ) -> None:
        """Let the next answer to a send repeat all that it was told of a person, and more, in a spelling."""
        row = dict(zip(COLUMNS, cells(number), strict=True))
        told = [row[name] for name in COLUMNS if name not in ("customer_id", "note", "salary", *untold)]
        words = " / ".join((*map(spell, (*told, *more, message(number))), f"'{spell(row['note'])}' is not allowed"))
        body = {"success": False, "message": f"Cannot send to {words}", "errors": [words]}
        self.sandbox.fault("status", **{"method": "POST", "path": "/api/v3/sends", "status": 422, "body": body} | fault)

    def keep(self, *values: Any) -> None:
        """Collect text that somebody could read."""
        self.kept += [f"{value!s} {value!r}" for value in values]

    def run(self, operator: Any, run_id: str = "run-1", method: str = "execute", **arguments: Any) -> Any:
        """
        Run a task's method; keep what it returns, pushes, raises and defers with.

        :return: what it has returned, or else raised: a deferral is raised as well.
        """
        ti = FakeTI(run_id, getattr(operator, "task_id", "gifts"))
        try:
            result = getattr(operator, method)({"ti": ti, "dag_run": ti}, **arguments)
        except BaseException as error:
            result = error
            self.keep(error.args, vars(error), *traceback.format_exception(error))
            if hasattr(error, "trigger"):
                self.keep(error.trigger.serialize(), error.kwargs, error.trigger)
        self.keep(result, ti.xcom, operator)
        return result

    def tokens(self) -> set[str]:
        """Every token that Sendoso has issued, and some of it is enough."""
        issued = self.sandbox._app.tokens
        return {token[:24] for token in (*issued._tokens, *issued._refresh_tokens, *issued._revoked)}

    def databases(self) -> str:
        """All rows of the ledger, and of the results; in a bucket, what is in its objects, too."""
        ledger = folder_engine(self._ledger) if isinstance(self._ledger, str) else self._ledger
        with ledger.begin() as connection:
            rows: list[Any] = [row for table in metadata.sorted_tables for row in connection.execute(table.select())]
        if isinstance(self._ledger, str):
            ledger.dispose()
            files = [file for file in Path(self._ledger.removeprefix("file://")).rglob("*") if file.is_file()]
            kept = [file.read_bytes() for file in files]
            # What a ledger tries a new bucket with is plain text.
            rows += [gzip.decompress(one) if one.startswith(b"\x1f\x8b") else one for one in kept]
            assert files
        with self._warehouse.connect() as connection:
            if connection.dialect.has_table(connection, "sendoso_results"):
                rows += connection.execute(text("SELECT * FROM sendoso_results")).all()
        return repr(rows)

    def close(self) -> None:
        if not isinstance(self._ledger, str):
            self._ledger.dispose()
        self._warehouse.dispose()


@dataclass(frozen=True)
class Databases:
    """Of all these tests: to make and delete two for each of them would take longer than the tests."""

    ledger: SharedDatabase
    warehouse: Any
    engines: list[Engine]
    """Of the ledger and the warehouse, which know by heart the statements that read all rows."""


@pytest.fixture(scope="session")
def databases(postgres_database: Callable[[], Any]) -> Iterator[Databases]:
    both = [postgres_database(), postgres_database()]
    engines = [create_engine(database.url, pool_pre_ping=True) for database in both]
    ledger = SharedDatabase(lambda: both[0])
    yield Databases(ledger, both[1], engines)
    ledger.close()
    for engine in engines:
        engine.dispose()


def empty(database: Any) -> None:
    """Make a database as good as new."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    with psycopg.connect(
        host=database.socket_dir, user="postgres", dbname=database.name, autocommit=True
    ) as connection:
        connection.execute(others, [database.name])
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


@pytest.fixture(params=["database", pytest.param("bucket", marks=pytest.mark.slow)])
def marked_ledger(
    request: pytest.FixtureRequest, databases: Databases, tmp_path: Path
) -> tuple[dict[str, Any], Engine | str]:
    """The connection of an empty ledger, with a marked password, and where its rows are read."""
    if request.param == "bucket":
        connection = folder_ledger(tmp_path)
        where: Engine | str = str(folder_address(connection))
    else:
        connection, where = databases.ledger.empty_ledger(), databases.engines[0]
    return connection | {"password": f"{MARK}ledgerpassword"}, where


@pytest.fixture
def marked(
    marked_ledger: tuple[dict[str, Any], Engine | str],
    sandbox_with_secret: Sandbox,
    databases: Databases,
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], str],
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Marked]:
    """The world; at the end of the test nothing that is kept may bear a mark, and something has to be kept."""
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.backoff", wait_none())
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.DEFAULT_PUSH_BACK", 0.02)
    monkeypatch.setattr("airflow_provider_sendoso.client.retrying.MINUTE_PUSH_BACK", 0.02)
    monkeypatch.setattr("airflow_provider_sendoso.hooks.connections.MINUTE_INTERVAL", 0.02)
    empty(databases.warehouse)
    set_connection("sendoso_ledger", marked_ledger[0])
    set_connection("warehouse", databases.warehouse.connection | {"password": f"{MARK}warehousepassword"})
    world = Marked(sandbox_with_secret, marked_ledger[1], databases.engines[1])
    logging.getLogger("airflow_provider_sendoso").debug("The logs of the test begin.")
    capfd.readouterr()
    yield world
    hook = SendosoHook()
    world.keep(hook, hook.config, hook.session, hook.session.tokens, hook._ledger, logged(), *capfd.readouterr())
    world.keep(world.databases())
    kept = "\n".join(world.kept)
    kept += revealed(kept)
    tokens = world.tokens()
    world.close()
    assert "The logs of the test begin." in kept
    assert sorted(set(re.findall(rf".{{60}}{MARK}\w+", kept, re.I | re.S))) == []
    assert [token for token in tokens if token in kept] == []


def mask_what_others_log(record: logging.LogRecord) -> bool:
    """Apply Airflow 2's filter to what is not of this package, which has to do without it."""
    from airflow.utils.log import secrets_masker

    return "airflow_provider_sendoso" in record.name or secrets_masker._secrets_masker().filter(record)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """All that any logger was told in the whole of the test; pytest's own fixture forgets it before the end."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    if not AIRFLOW_V_3_0_PLUS:
        # On Airflow 2 a task's log is masked by a filter, which others rely on: a database's hook logs its URL.
        monkeypatch.setattr("airflow.settings.MASK_SECRETS_IN_LOGS", True)
        handler.addFilter(mask_what_others_log)
    names = ("airflow", "airflow.task", "airflow_provider_sendoso", "urllib3", "requests", "aiohttp", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.INFO)
    for logger in (root, *(logger for logger in loggers if not logger.propagate)):
        logger.addHandler(handler)
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield stream.getvalue
    for logger, level in before:
        logger.setLevel(level)
    for logger in (root, *loggers):
        logger.removeHandler(handler)


@pytest.fixture
def sandbox_with_secret(set_connection: Callable[..., None]) -> Iterator[Sandbox]:
    """A Sendoso whose client has a marked secret, behind ``sendoso_default``."""
    with Sandbox(step=0, rate=0, client_secret=SECRET) as sandbox:
        set_connection(
            "sendoso_default",
            {
                "conn_type": "sendoso",
                "host": sandbox.url,
                "login": "sandbox",
                "password": SECRET,
                "extra": {"requests_per_second": 500, "timeout": 60, "scope": "public write marketplace smartsend"},
            },
        )
        yield sandbox
