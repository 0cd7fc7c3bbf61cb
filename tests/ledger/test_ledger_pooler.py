"""A ledger behind PgBouncer in transaction mode: each transaction may run in another session of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ledger_workers
import pgbouncer
import pytest
from airflow.providers.common.compat.sdk import BaseHook
from sqlalchemy import create_engine, text

from airflow_provider_sendoso.hooks.ledger_engine import make_engine
from airflow_provider_sendoso.sandbox import Sandbox

_TRANSACTION_MODE = "auth_type = any\npool_mode = transaction\ndefault_pool_size = {}"


@pytest.fixture
def through(
    request: pytest.FixtureRequest, postgres_socket_dir: str, postgres_database: Callable[[], Any]
) -> Iterator[dict[str, Any]]:
    """The connection of an empty ledger behind a PgBouncer, with as many sessions as the test's mark says."""
    program = pgbouncer.find_pooler()
    if program is None:
        pytest.skip("There is no PgBouncer; install pgbouncer.")
    with pgbouncer.running(program, postgres_socket_dir, _TRANSACTION_MODE.format(request.param)) as pooler:
        name = postgres_database().name
        yield {"conn_type": "postgres", "host": "127.0.0.1", "port": pooler.port, "login": "any", "schema": name}


@pytest.mark.parametrize("through", [3], indirect=True)
def test_two_runs_through_a_pool_of_three_sessions_send_each_recipient_one_gift(
    through: dict[str, Any], sendoso: Sandbox, at_once: Callable[..., list[Any]]
) -> None:
    sendoso_default = {"conn_type": "sendoso", "host": sendoso.url, "login": "sandbox", "password": "sandbox"}
    sendoso_default["extra"] = {"requests_per_second": 200, "timeout": 30}
    connections = {"sendoso_default": sendoso_default, "sendoso_ledger": through}
    everybody = ledger_workers.people(60)
    runs = [(connections, "run-1", everybody), (connections, "run-2", everybody[::-1])]
    results = at_once(ledger_workers.send_batch, runs)
    assert [error for error, _ in results] == ["", ""]
    assert len(sendoso.sends) == 60
    assert sendoso.duplicates() == {}
    assert all(summary["sent"] + summary["already_sent"] == 60 for _, summary in results)


@pytest.mark.parametrize("through", [1], indirect=True)
def test_the_ledger_leaves_no_session_setting_to_the_next_client_of_the_pool(through: dict[str, Any]) -> None:
    url = f"postgresql://any@127.0.0.1:{through['port']}/{through['schema']}"
    other = create_engine(url)
    shown = (
        "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'), "
        "current_setting('synchronous_commit'), current_setting('transaction_isolation')"
    )
    with other.begin() as connection:
        before = connection.execute(text(shown)).one()
    ledger = ledger_workers.open_ledger(url)
    within = ledger._database.run(lambda connection: connection.execute(text(shown)).one())
    assert tuple(within) == ("5s", "15s", "on", "read committed")
    with other.begin() as connection:
        assert connection.execute(text(shown)).one() == before
    other.dispose()
    ledger._database.engine.dispose()


@pytest.mark.parametrize("through", [1], indirect=True)
def test_statements_are_prepared_only_where_no_pooler_stands_before_the_server(
    through: dict[str, Any], postgres_socket_dir: str, set_connection: Callable[..., None]
) -> None:
    direct = {"conn_type": "postgres", "host": postgres_socket_dir, "login": "postgres", "schema": "postgres"}
    never = direct | {"extra": {"prepare_threshold": None}}
    found = []
    for connection in (direct, through, never):
        set_connection("sendoso_ledger", connection)
        found.append(_prepared_after("sendoso_ledger"))
    assert found == [2, None, None]


def _prepared_after(conn_id: str) -> int | None:
    """After how many executions a ledger's connection prepares a statement."""
    engine = make_engine(conn_id, BaseHook.get_connection(conn_id))
    if engine.driver != "psycopg":
        pytest.skip(f"The driver of this Airflow is {engine.driver}, which prepares no statements.")
    try:
        with engine.begin() as transaction:
            for _ in range(5):
                transaction.execute(text("SELECT 1"))
            held = transaction.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
            threshold: int | None = transaction.connection.dbapi_connection.prepare_threshold
            assert (held > 0) == (threshold is not None)
            return threshold
    finally:
        engine.dispose()
