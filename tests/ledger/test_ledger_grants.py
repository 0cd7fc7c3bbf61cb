"""A role with the printed grants can do all its work, and without any one of them something fails."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ledger_workers
import mysql_server
import pytest
from sqlalchemy import create_engine, text, update
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from airflow_provider_sendoso.cli.commands import main
from airflow_provider_sendoso.exceptions import SendHeldError, SendosoConfigError, SendosoLedgerError, SendosoLimitError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import schema
from airflow_provider_sendoso.ledger.ddl import ddl
from airflow_provider_sendoso.ledger.grants import READS, RUNS, grants
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator
from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

ON = ("postgresql", "mysql")
SENDS = "/api/v3/sends"


@dataclass
class Roles:
    """A database with three roles, and its administrator."""

    dialect: str
    admin: Engine
    connection: dict[str, Any]
    name: str

    def sql(self, *statements: str) -> None:
        with self.admin.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def grant(self, which: int, without: str | None = None) -> None:
        """Grant what is printed for the owner (0), the runner (1) or the reader (2), or all of it but one."""
        _, statements = list(grants(self.dialect, self.name))[which]
        assert without is None or without in rights(self.dialect)
        for statement in statements:
            kept = [right for right in split(statement) if right != without]
            if kept:
                words = ", ".join(right.partition(" ON ")[0] for right in kept)
                self.sql(f"GRANT {words} ON {statement.partition(' ON ')[2]}")

    def as_role(self, suffix: str = "") -> dict[str, Any]:
        return self.connection | {"login": self.name + suffix}

    def make_tables(self) -> None:
        self.sql(*(statement.rstrip(";") for statement in ddl(self.dialect).split(";\n\n")))


def split(statement: str) -> list[str]:
    """Take a statement apart: one right on one thing each."""
    words, thing = re.fullmatch(r"GRANT (.*) ON (.*) TO \S+;", statement).groups()  # type: ignore[union-attr]
    return [f"{word} ON {thing}" for word in words.split(", ")]


def rights(dialect: str, which: int = 1) -> list[str]:
    _, statements = list(grants(dialect, "r"))[which]
    return [right for statement in statements for right in split(statement)]


@pytest.fixture(scope="module")
def mysql_with_rights() -> Iterator[Callable[[], mysql_server.MysqlDatabase]]:
    """Makes an empty database of a server that looks at rights, as the tests' other one does not."""
    program = mysql_server.find_server()
    if program is None:
        pytest.skip(f"There is no MySQL server; {mysql_server.INSTALL}.")
    with mysql_server.running(program, with_rights=True) as socket:
        yield lambda: mysql_server.make_database(socket)


@pytest.fixture
def roles(request: pytest.FixtureRequest) -> Iterator[Roles]:
    dialect = request.param
    database = request.getfixturevalue("postgres_database" if dialect == "postgresql" else "mysql_with_rights")()
    made = Roles(dialect, create_engine(database.url), database.connection, f"role_{uuid.uuid4().hex[:12]}")
    users = [f"{made.name}{suffix}" for suffix in ("", "_owner", "_reader")]
    if dialect == "postgresql":
        made.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC", *(f"CREATE ROLE {user} LOGIN" for user in users))
    else:
        made.sql(*(f"CREATE USER {user}" for user in users))
    yield made
    if dialect == "postgresql":
        made.sql(*(f"{verb} {user}" for user in users for verb in ("DROP OWNED BY", "DROP ROLE")))
    else:
        made.sql(*(f"DROP USER {user}" for user in users))
    made.admin.dispose()


on_each = pytest.mark.parametrize("roles", ON, indirect=True)


def ti(run_id: str) -> Any:
    return SimpleNamespace(
        dag_id="dag", task_id="gifts", run_id=run_id, map_index=-1, xcom_push=lambda *key, **value: None
    )


def batch(run_id: str, **limits: Any) -> Any:
    people = [{"first_name": "Ada", "last_name": f"L{n}", "email": f"ada{n}@example.com"} for n in range(3)]
    gifts = BatchSendOperator(
        task_id="gifts",
        recipients=people,
        gift_id="gift-donation-trees",
        message="Thank you",
        dedupe_scope="q4",
        claim_timeout=1,
        **limits,
    )
    return gifts.execute({"ti": ti(run_id)})


def everything(sendoso: Sandbox, engine: Engine) -> None:
    """All that workers, the triggerer and a person with a shell do with a ledger."""
    sendoso.fault("drop_before", times=1, method="POST", path=SENDS)
    sendoso.fault("drop_after", times=1, method="POST", path=SENDS)
    with pytest.raises(SendHeldError):
        batch("run-1")
    with engine.begin() as connection:
        connection.execute(update(schema.sends).values(lease_until=0.0))
    main(["ledger", "list"])
    main(["ledger", "resolve", "--scope", "q4", "--not-sent", "--why", "it is not there", "--by", "Ada", "--yes"])
    main(["ledger", "show", "--recipient", "ada1@example.com"])
    with pytest.raises(SendosoLimitError, match="spent 2 sends, reserved 0, left 0"):
        batch("run-2", scope_max_sends=2)
    summary = batch("run-2", scope_max_sends=3, scope_max_cost=1000)
    main(["ledger", "budget", "--scope", "q4"])
    assert (summary["sent"], summary["already_sent"]) == (1, 2)
    hook = SendosoHook()
    hook.session.renew(hook.session.token())
    sensor = {"task_id": "arrived", "batch_id": summary["batch_id"], "poke_interval": 0.05, "deferrable": False}
    SendStatusSensor(**sensor).execute({"ti": ti("run-2")})
    name = hook.keep_list(["send-1"], 60.0)
    assert hook.kept_list(str(name)) == ["send-1"]
    cursors = hook.ledger.cursors
    assert cursors.write("events", 0, "1")
    assert cursors.write("events", 1, "2")
    assert cursors.read("events").text == "2"
    hook.ledger.wakeups.note(hook.config.account, "msg_1", "gid-1")
    hook.note_gids({"send-1": "gid-1"})
    assert [wakeup.svix_id for wakeup in hook.ledger.wakeups.recent(60.0)] == ["msg_1"]


def test_grants_name_every_table_of_the_schema() -> None:
    assert RUNS.keys() == schema.metadata.tables.keys()
    assert {schema.identity.name, schema.tokens.name}.isdisjoint(READS), "keys and tokens are nobody's to read"
    assert [table for table, granted in RUNS.items() if "DELETE" in granted] == [
        schema.lists.name,
        schema.wakeups.name,
    ]


@on_each
def test_a_role_with_the_printed_grants_can_do_everything(sendoso: Sandbox, set_connection: Any, roles: Roles) -> None:
    roles.make_tables()
    roles.grant(1)
    set_connection("sendoso_ledger", roles.as_role())
    everything(sendoso, roles.admin)
    with pytest.raises(DBAPIError):
        run(roles.as_role(), "DELETE FROM sendoso_sends")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("roles", "right"), [(dialect, right) for dialect in ON for right in rights(dialect)], indirect=["roles"]
)
def test_a_role_without_any_one_of_the_grants_fails_and_is_told_what_to_run(
    sendoso: Sandbox, set_connection: Any, roles: Roles, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles.make_tables()
    roles.grant(1, without=right)
    set_connection("sendoso_ledger", roles.as_role())
    with pytest.raises((SendosoLedgerError, SendosoConfigError, SystemExit)) as caught:
        everything(sendoso, roles.admin)
    assert f"airflow sendoso ledger ddl --dialect {roles.dialect} --grants" in str(caught.value)


@on_each
def test_the_owner_creates_and_upgrades_the_tables_and_other_roles_are_told_what_to_run(
    sendoso: Sandbox, set_connection: Any, forget_ledgers: Callable[[], None], roles: Roles
) -> None:
    def opened(suffix: str) -> Any:
        forget_ledgers()
        set_connection("sendoso_ledger", roles.as_role(suffix))
        return SendosoHook().ledger.identity.ledger_uuid

    roles.grant(0)
    started = time.monotonic()
    # Without a right to a table or a database, MySQL does not say whether it exists.
    error, words = {
        "postgresql": (SendosoConfigError, "is not there yet, and the role of its connection may not make"),
        "mysql": (SendosoLedgerError, "lacks a right"),
    }[roles.dialect]
    with pytest.raises(error, match=f"{words}.*Nothing.*--grants.*airflow sendoso ledger list"):
        opened("")
    made = opened("_owner")
    roles.grant(1)
    assert opened("") == made
    roles.sql("DROP TABLE sendoso_accounts", "ALTER TABLE sendoso_sends DROP COLUMN client")
    roles.sql(
        "UPDATE sendoso_ledger SET tables_version = 4",
        f"DROP INDEX sendoso_sends_batch{' ON sendoso_sends' if roles.dialect == 'mysql' else ''}",
    )
    older = f"older than version {schema.SCHEMA_VERSION}.*may not make or alter.*ledger list"
    with pytest.raises(SendosoConfigError, match=older):
        opened("")
    assert time.monotonic() - started < 60, "a missing right was waited for"
    assert opened("_owner") == made
    roles.grant(1)
    assert opened("") == made


@pytest.mark.slow
@pytest.mark.parametrize("right", [right.partition(" ON ")[0] for right in rights("mysql", 0)])
@pytest.mark.parametrize("roles", ["mysql"], indirect=True)
def test_an_owner_without_any_one_of_the_grants_cannot_create_or_upgrade_the_tables(roles: Roles, right: str) -> None:
    others = [other.partition(" ON ")[0] for other in rights("mysql", 0) if not other.startswith(right)]
    roles.sql(f"GRANT {', '.join(others)} ON * TO {roles.name}_owner")
    url = str(roles.admin.url).replace("root@", f"{roles.name}_owner@")

    def make_and_upgrade() -> None:
        _ = ledger_workers.open_ledger(url).identity
        roles.sql("ALTER TABLE sendoso_sends DROP COLUMN client", "UPDATE sendoso_ledger SET tables_version = 4")
        roles.sql("DROP INDEX sendoso_sends_batch ON sendoso_sends")
        _ = ledger_workers.open_ledger(url).identity

    with pytest.raises((SendosoConfigError, SendosoLedgerError), match="--grants"):
        make_and_upgrade()


@on_each
def test_a_reader_reads_what_dashboards_show_and_no_secret(roles: Roles) -> None:
    roles.make_tables()
    roles.grant(2)
    for table in schema.metadata.tables:
        if table in READS:
            run(roles.as_role("_reader"), f"SELECT COUNT(*) FROM {table}")
            with pytest.raises(DBAPIError):
                run(roles.as_role("_reader"), f"DELETE FROM {table}")
        else:
            with pytest.raises(DBAPIError):
                run(roles.as_role("_reader"), f"SELECT COUNT(*) FROM {table}")


def run(connection: dict[str, Any], statement: str) -> None:
    engine = create_engine(ledger_workers.ledger_url(connection))
    try:
        with engine.begin() as open_connection:
            _execute(open_connection, statement)
    finally:
        engine.dispose()


def _execute(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


@pytest.mark.parametrize(
    ("dialect", "role", "names"),
    [
        ("postgresql", "airflow", ["airflow_owner", "airflow", "airflow_reader"]),
        ("postgresql", 'Air "flow"', ['"Air ""flow""_owner"', '"Air ""flow"""', '"Air ""flow""_reader"']),
        ("mysql", "airflow", ["'airflow_owner'", "'airflow'", "'airflow_reader'"]),
        ("mysql", "o'k@10.%", ["'o''k_owner'@'10.%'", "'o''k'@'10.%'", "'o''k_reader'@'10.%'"]),
    ],
)
def test_the_command_prints_the_grants_of_three_roles(
    dialect: str, role: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["ledger", "ddl", "--dialect", dialect, "--grants", role])
    printed = capsys.readouterr().out
    assert re.findall(r"^-- (.*): ", printed, re.MULTILINE)[:1] == names[:1]
    for name in names:
        assert f" TO {name};\n" in printed
    assert "CREATE TABLE" not in printed


def test_without_a_name_the_role_is_sendoso_and_sqlite_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    main(["ledger", "ddl", "--dialect", "postgresql", "--grants"])
    assert "GRANT SELECT, INSERT, UPDATE ON sendoso_sends TO sendoso;" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="There are no roles on 'sqlite'"):
        main(["ledger", "ddl", "--dialect", "sqlite", "--grants"])
