"""Checks the settings of the database's server that a ledger depends on, with one query when the ledger is opened."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.exceptions import SendosoConfigError, SendosoLedgerError

log = logging.getLogger(__name__)

_DRIFT = 5.0
"""Seconds by which the database's clock and this machine's may differ before a warning names it."""

_POSTGRESQL = """
    SELECT pg_is_in_recovery() AS standby, current_setting('fsync') AS fsync,
        current_setting('full_page_writes') AS full_page_writes,
        CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION) AS now
"""
_MYSQL = """
    SELECT @@read_only AS standby, @@innodb_flush_log_at_trx_commit AS flush, @@log_bin AS log_bin,
        @@sync_binlog AS sync_binlog, CAST(UNIX_TIMESTAMP(SYSDATE(6)) AS DOUBLE) AS now
"""


def check_server(connection: Connection) -> None:
    """
    Refuse a standby, and a server that loses commits when it is killed; warn if it loses them when its machine fails.

    A lost commit can become a gift sent twice, and no session can change these settings. A warning names a clock that
    differs from this machine's, because leases lapse by the server's clock. SQLite has no server.

    :param connection: of the running transaction.
    :raises SendosoLedgerError: for a standby.
    :raises SendosoConfigError: for a MySQL server that keeps commits in its own memory.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return
    asked = time.time()
    found = dict(connection.execute(text(_POSTGRESQL if dialect == "postgresql" else _MYSQL)).one()._mapping)
    if found["standby"]:
        raise SendosoLedgerError(  # after a fail-over a retry may reach the new primary
            "The ledger's database is a standby, or read-only: what it does not have yet would be sent again. Nothing "
            "was sent. Retry after a fail-over; otherwise set the ledger's connection to the primary (on PostgreSQL "
            '"target_session_attrs": "read-write" in its extra).'
        )
    # With 0, the commits of the last second are only in the server's memory; with 2, the operating system has them.
    if str(found.get("flush")) == "0":
        raise SendosoConfigError(
            "The ledger's server forgets commits when it is killed, and gifts would be sent twice: set "
            "innodb_flush_log_at_trx_commit = 1. Nothing was sent."
        )
    for line in _forgetful(dialect, found):
        log.warning(
            "The ledger's server can forget commits when its machine fails, and send gifts twice. Set %s.", line
        )
    drift = found["now"] - asked
    if abs(drift) > _DRIFT:
        log.warning(
            "The clock of the ledger's database is %.0f s %s this machine's: synchronise both (NTP).",
            abs(drift),
            "ahead of" if drift > 0 else "behind",
        )


def _forgetful(dialect: str, found: dict[str, object]) -> Iterator[str]:
    """Name the settings that have to be changed."""
    if dialect == "postgresql":
        yield from (f"{name} = on" for name in ("fsync", "full_page_writes") if found[name] == "off")
        return
    if str(found["flush"]) != "1":
        yield "innodb_flush_log_at_trx_commit = 1"
    if str(found["log_bin"]) not in ("0", "OFF") and str(found["sync_binlog"]) != "1":
        yield "sync_binlog = 1"
