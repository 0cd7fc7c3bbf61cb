"""Resolves a hook's connections: reads their settings, opens the ledger, and makes the session with Sendoso."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.pace import MINUTE_INTERVAL, POLL_SHARE, SPACING, LocalPace
from airflow_provider_sendoso.client.tokens import MemoryTokenStore
from airflow_provider_sendoso.connection_ids import IN_ENVIRONMENT, has_to_exist
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.ledger_engine import make_engine
from airflow_provider_sendoso.ledger import Ledger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection
    from sqlalchemy.engine import Engine

    from airflow_provider_sendoso.client.session import SendosoSession

_CONN_TYPE = "sendoso"

_ledgers: dict[str, Ledger] = {}
_sessions: dict[tuple[ClientConfig, Ledger | None], SendosoSession] = {}
_lock = threading.Lock()


def check_connection(conn_id: str, connection: Connection) -> None:
    """
    Refuse a Sendoso connection that is of another type, or whose extra cannot be read.

    :param conn_id: its id.
    :param connection: the connection; one without a type is taken as it is.
    :raises SendosoConfigError: naming the connection, and no value of it.
    """
    if connection.conn_type and connection.conn_type != _CONN_TYPE:
        raise SendosoConfigError(
            f"The connection {conn_id!r} is of type {connection.conn_type!r}, not {_CONN_TYPE}. "
            "Its password was not sent anywhere, and nothing was sent."
        )
    check_extra(conn_id, connection)


def check_extra(conn_id: str, connection: Connection) -> None:
    """
    Refuse a connection whose extra cannot be read.

    Airflow reads an extra that is not JSON as an empty one. The account, the ledger and the limits that it sets would
    be ignored silently, and every recipient would be sent a second gift.

    :param conn_id: its id.
    :param connection: the Sendoso connection, or the ledger's.
    :raises SendosoConfigError: naming the connection, and no value of it.
    """
    extra = connection.extra
    if not isinstance(extra, str) or not extra.strip():
        return
    try:
        json.loads(extra, object_pairs_hook=_no_name_twice)
    except ValueError as error:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise SendosoConfigError(
            f"The connection {conn_id!r} has an extra that is not valid JSON ({where}). Names and texts stand in "
            'double quotes, like {"account": "acme"}, and no comma follows the last entry. Nothing was sent.'
        ) from None


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is given twice")
    return dict(pairs)


def read_config(conn_id: str, connection: Connection, extra: Mapping[str, Any]) -> ClientConfig:
    """
    Read a connection of type ``sendoso``.

    :param conn_id: its id.
    :param extra: the connection's extra, which the caller has read, because that may block.
    :raises SendosoConfigError: if the connection cannot be used.
    """
    return ClientConfig.from_connection(
        conn_id,
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        login=connection.login,
        password=connection.password,
        extra=extra,
    )


def open_ledger(conn_id: str, connection: Connection) -> Ledger:
    """
    Open a ledger, once per process, because its engine pools connections and opening it checks the tables.

    :param conn_id: the ledger's connection.
    :raises SendosoConfigError: if the database is of another type, or if the driver refuses the extra.
    :raises SendosoLedgerError: if the database does not answer.
    """
    check_extra(conn_id, connection)
    uri = connection.get_uri()
    with _lock:
        if uri not in _ledgers:
            _ledgers[uri] = Ledger(make_engine(conn_id, connection))
        return _ledgers[uri]


def ledger_engine(conn_id: str) -> Engine:
    """
    Make the engine of a ledger's connection, without opening the ledger.

    :param conn_id: the ledger's connection.
    :raises SendosoConfigError: if there is no such connection, or it cannot be a ledger's.
    """
    with has_to_exist(conn_id):
        connection = BaseHook.get_connection(conn_id)
    check_extra(conn_id, connection)
    return make_engine(conn_id, connection)


def shared_session(config: ClientConfig, ledger: Ledger | None) -> SendosoSession:
    """
    Return this process's session for a connection, so that all hooks share its token and its poll queue.

    :param config: the connection.
    :param ledger: the ledger, whose tokens and pace the session uses; without one they are this process's own.
    :raises SendosoConfigError: if the grant type needs a ledger and there is none.
    """
    with _lock:
        if (config, ledger) not in _sessions:
            _sessions[config, ledger] = _open_session(config, ledger)
        return _sessions[config, ledger]


def _open_session(config: ClientConfig, ledger: Ledger | None) -> SendosoSession:
    # Imported here, because Airflow parses a DAG file every few seconds, and importing `requests` is most of its cost.
    from airflow_provider_sendoso.client.session import SendosoSession

    secret = config.client_secret.get_secret_value()
    mask_secret(secret)
    if config.refresh_token is not None:
        mask_secret(config.refresh_token.get_secret_value())
    mask_webhook_secrets(config)
    interval = SPACING / config.requests_per_second
    if ledger is not None:
        ledger.accounts.check(config.account, ledger.client_hash((config.client_id,)), named=config.names_account)
        store = ledger.tokens(config.identity, secret)
        pace = ledger.pace(config.account, interval, POLL_SHARE)
        minute_pace = ledger.pace(config.account, MINUTE_INTERVAL, POLL_SHARE, of="marketplace")
        return SendosoSession(config, store, pace, minute_pace=minute_pace, mask=mask_secret)
    if config.grant_type == "refresh_token":
        # Without a ledger the next refresh token would be lost when this process ends.
        raise SendosoConfigError(f"grant_type=refresh_token needs a ledger. {no_ledger(config.ledger_conn_id)}")
    return SendosoSession(config, MemoryTokenStore(), LocalPace(interval), mask=mask_secret)


def mask_webhook_secrets(config: ClientConfig) -> None:
    """Have Airflow mask each secret of the webhooks: of several in one field it knows only the whole text."""
    for secret in config.webhook_secret:
        mask_secret(secret.get_secret_value())


def no_ledger(conn_id: str) -> str:
    """
    Build the message that there is no ledger, with the line to set.

    :param conn_id: the missing connection.
    """
    variable = f"{IN_ENVIRONMENT}{conn_id.upper()}"
    return (
        f"There is no ledger: the Airflow connection {conn_id!r} does not exist, and without a ledger nobody would "
        "remember who was sent a gift. Nothing was sent. For one machine set "
        f"{variable}='sqlite:////var/lib/airflow/sendoso_ledger.db', for many "
        f"{variable}='postgres://user:password@host:5432/sendoso' or "
        f"{variable}='mysql://user:password@host:3306/sendoso' (or make the connection in the UI)."
    )
