"""Makes the engine of a ledger's connection; it honours what Airflow's hook of that type honours, above all TLS."""

from __future__ import annotations

import json
import logging
from contextlib import closing
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Engine, make_url

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.hooks.ledger_bucket import BUCKET_TYPES, open_bucket

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)

_LOGGING: dict[str, Any] = {"hide_parameters": True, "logging_name": "sendoso_ledger"}
# At DEBUG, SQLAlchemy logs the rows that it reads, and the ledger's hash key is in one of them.
logging.getLogger("sqlalchemy.engine.Engine.sendoso_ledger").addFilter(lambda record: record.levelno > logging.DEBUG)

_TIMEOUT = 10
"""Seconds to connect to the ledger's database."""

_POSTGRES_DEFAULTS: dict[str, Any] = {
    "application_name": "airflow-provider-sendoso",
    "connect_timeout": _TIMEOUT,
    "keepalives_idle": _TIMEOUT,
    "tcp_user_timeout": 1000 * _TIMEOUT,
}
_MYSQL_DEFAULTS: dict[str, Any] = {
    "charset": "utf8mb4",
    "connect_timeout": _TIMEOUT,
    "read_timeout": 2 * _TIMEOUT,  # longer than a statement waits for a row lock
    "write_timeout": _TIMEOUT,
}
_DRIVERS = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2", "mysql", "mysql+pymysql", "mysql+mysqlconnector")
_NOT_THE_DRIVERS = frozenset(
    ("aws_conn_id", "azure_conn_id", "client", "cursor", "iam", "sqlalchemy_query", "sqlalchemy_scheme")
)
"""The keys of an extra that Airflow's hooks read themselves and do not pass to the driver."""

_PREPARES = "prepare_threshold"
"""The argument of psycopg 3 that says after how many executions it prepares a statement; ``None`` means never."""

_PREPARED_AFTER = 2
"""Executions of a statement before it is prepared, on a connection without a pooler."""

_OF_SSL = {"mysql": frozenset(("ca", "capath", "cert", "cipher", "key"))}
_OF_SSL["mysql+pymysql"] = _OF_SSL["mysql"] | {"check_hostname", "password", "verify_mode"}
"""What a driver of MySQL reads of the extra's ``ssl``; it ignores others, and with them a check that was asked for."""

_REFUSED = {
    "redshift": "Redshift enforces no unique keys",
    "redshift-serverless": "Redshift enforces no unique keys",
    "local_infile": "a ledger reads no files for its server",
    "allow_local_infile": "a ledger reads no files for its server",
}


def make_engine(conn_id: str, connection: Connection) -> Engine:
    """
    Make the engine of a ledger's connection; it does not connect yet.

    :param conn_id: the connection's id.
    :param connection: a connection of type ``postgres``, ``mysql`` or ``sqlite``, whose extra can be read.
    :raises SendosoConfigError: if the connection has another type, or a key in its extra that a ledger must not have. A
        key that the driver does not know is refused when the engine connects.
    """
    if connection.conn_type in BUCKET_TYPES:
        return _bucket_engine(conn_id, connection)
    if connection.conn_type not in ("postgres", "mysql", "sqlite"):
        raise SendosoConfigError(
            f"The ledger's connection {conn_id!r} is of type {connection.conn_type!r}; use postgres, mysql, "
            f"{', '.join(BUCKET_TYPES)} for a bucket, or sqlite for a single machine. Nothing was sent."
        )
    extra: dict[str, Any] = dict(connection.extra_dejson)
    for name in sorted(extra):
        why = "a SQLite ledger takes none" if connection.conn_type == "sqlite" else _REFUSED.get(name)
        if why and _typed(name, extra[name]):
            raise SendosoConfigError(
                f"The ledger's connection {conn_id!r} has {name!r} in its extra: {why}. Take it out; nothing was sent."
            )
    hook = connection.get_hook()  # type: ignore[no-untyped-call]
    url = _url(hook)
    if connection.conn_type == "sqlite":
        from sqlalchemy.pool import QueuePool

        # The default of SQLAlchemy 2. Version 1.4 (Airflow 2.11) opens and closes the file for each transaction, which
        # takes longer than a slot stays usable.
        sqlite: dict[str, Any] = {"poolclass": QueuePool, "connect_args": {"check_same_thread": False}}
        return create_engine(url, **_LOGGING, **sqlite)
    if url.drivername not in _DRIVERS:
        raise SendosoConfigError(
            f"The ledger's connection {conn_id!r} asks for the driver {url.drivername!r}, which a ledger cannot use; "
            f"use one of {', '.join(_DRIVERS)}. Nothing was sent."
        )
    for_driver = {name: value for name, value in extra.items() if name not in _NOT_THE_DRIVERS}
    for name in _ignored(url.drivername, for_driver.get("ssl")):
        raise SendosoConfigError(
            f"The ledger's connection {conn_id!r} has {name!r} in the ssl of its extra, which the driver "
            f"{url.drivername!r} would ignore; it knows {', '.join(sorted(_OF_SSL[url.drivername]))}. mysqlclient "
            'checks the host\'s name with "ssl_mode": "VERIFY_IDENTITY" beside ssl. Nothing was sent.'
        )
    url, arguments = (_postgres if connection.conn_type == "postgres" else _mysql)(url, for_driver)
    # Pooled connections are tested on MySQL only, whose server closes idle ones. Elsewhere a dead connection is noticed
    # by its first statement, and the transaction is repeated.
    ping = connection.conn_type == "mysql"
    engine = create_engine(url, **_LOGGING, pool_pre_ping=ping, connect_args=arguments)
    _connect_with(engine, conn_id, connection, hook)
    return engine


def _bucket_engine(conn_id: str, connection: Connection) -> Engine:
    """Open a ledger in a bucket; if there is none yet, warn of settings of the bucket that endanger it."""
    from airflow_provider_sendoso.hooks.bucket_settings import bad_settings
    from airflow_provider_sendoso.ledger.bucket.dialect import replica_of
    from airflow_provider_sendoso.ledger.bucket.engine import make_engine as make_bucket_engine
    from airflow_provider_sendoso.ledger.bucket.nearby import Nearby
    from airflow_provider_sendoso.ledger.bucket.turns import MachineTurn

    bucket = open_bucket(conn_id, connection)
    engine = make_bucket_engine(bucket, MachineTurn(bucket.place), Nearby(bucket.place), **_LOGGING)
    replica = replica_of(engine)
    if replica is not None and replica.is_new:
        for sentence in bad_settings(conn_id, connection):
            log.warning("The new ledger's bucket (%s): %s", bucket.where, sentence)
    return engine


def _url(hook: Any) -> URL:
    try:
        return make_url(hook.sqlalchemy_url)
    except (AttributeError, NotImplementedError):  # some hooks, and some versions of them, have no such method
        return make_url(hook.get_uri())


def _postgres(url: URL, extra: dict[str, Any]) -> tuple[URL, dict[str, Any]]:
    """Pass the extra to libpq, which accepts or refuses each key; options in the URL apply as well."""
    defaults = {name: value for name, value in _POSTGRES_DEFAULTS.items() if name not in url.query}
    if url.drivername == "postgresql+psycopg":
        defaults[_PREPARES] = None  # until it is known that there is no pooler
    return url, defaults | extra


def _mysql(url: URL, extra: dict[str, Any]) -> tuple[URL, dict[str, Any]]:
    """Pass the extra to the driver, with typed values instead of the text that Airflow's hook makes of them."""
    typed = {name: _typed(name, value) for name, value in extra.items() if value not in (None, "")}
    # mysqlclient takes ssl_ca and similar keys as entries of `ssl`; SQLAlchemy converts them if they are in the URL.
    query = {name: typed.pop(name) for name in list(typed) if name.startswith("ssl_") and url.drivername == "mysql"}
    return url.set(query=query), _MYSQL_DEFAULTS | typed


def _ignored(driver: str, ssl: Any) -> list[str]:
    """Name what a driver of MySQL would ignore of an extra's ``ssl``."""
    asked = _typed("ssl", ssl)
    return sorted(asked.keys() - _OF_SSL[driver]) if driver in _OF_SSL and isinstance(asked, dict) else []


def _typed(name: str, value: Any) -> Any:
    """Parse a value of an extra, which is always text if the connection was given as a URI."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value.isdecimal() and name.endswith("timeout"):
        return int(value)
    return json.loads(value) if name == "ssl" and value.lstrip().startswith("{") else value


def _connect_with(engine: Engine, conn_id: str, connection: Connection, hook: Any) -> None:
    """Open each connection with a new IAM token and with TLS, as configured; name the keys that a driver refuses."""
    driver = engine.url.drivername
    iam = connection.extra_dejson.get("iam", False)
    wrong: tuple[type[Exception], ...] = (TypeError, AttributeError, ValueError, OSError)
    if driver.startswith("postgresql"):
        wrong += (engine.dialect.dbapi.ProgrammingError,)  # type: ignore[union-attr]

    def on_connect(dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> Any:
        connect = dialect.connect
        if iam and driver.startswith("postgresql"):
            cparams["user"], cparams["password"], cparams["port"] = hook.get_iam_token(deepcopy(connection))
        elif iam:
            cparams["password"], cparams["port"] = hook.get_iam_token(deepcopy(connection))
        if driver == "mysql+pymysql":
            from airflow_provider_sendoso.hooks.pymysql_tls import TlsConnection as connect
        try:
            made = connect(*cargs, **cparams)
            if driver == "postgresql+psycopg" and _PREPARES not in connection.extra_dejson:
                _prepare_if_direct(made)
            if driver.startswith("mysql") and _asks_for_tls(cparams):
                _check_tls(made)
        except wrong as error:
            raise SendosoConfigError(
                f"The driver of the ledger's connection {conn_id!r} ({driver}) cannot use it: {str(error).strip()}. "
                "Correct the connection's extra; nothing was sent."
            ) from None
        return made

    event.listen(engine, "do_connect", on_connect)


def _prepare_if_direct(connection: Any) -> None:
    """
    Let psycopg 3 prepare statements, which halves the server's work, unless a pooler stands before the server.

    Prepared statements belong to a session, and a pooler may run each transaction in another session. A pooler gives
    its clients numbers of its own for the server's process, because they may cancel only what it runs for them.
    """
    with closing(connection.cursor()) as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        if cursor.fetchone()[0] == connection.info.backend_pid:
            connection.prepare_threshold = _PREPARED_AFTER
    connection.rollback()


def _asks_for_tls(arguments: dict[str, Any]) -> bool:
    perhaps = arguments.get("ssl_disabled") or str(arguments.get("ssl_mode")).upper() in ("DISABLED", "PREFERRED")
    return not perhaps and any(value for name, value in arguments.items() if name.startswith("ssl"))


def _check_tls(connection: Any) -> None:
    """Refuse an unencrypted connection: MySQL's drivers go on without TLS if the server offers none."""
    with closing(connection.cursor()) as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        if not cursor.fetchone()[1]:
            connection.close()
            raise ValueError("it asks for TLS, which the server does not offer")
