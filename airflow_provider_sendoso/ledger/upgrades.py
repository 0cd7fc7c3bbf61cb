"""Makes the tables, columns and indexes that an older release of this provider, or nobody yet, has made."""

from __future__ import annotations

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn

from airflow_provider_sendoso.ledger import schema


def make_missing(connection: Connection, since: int = 0) -> None:
    """
    Make what is missing; no row is changed.

    :param connection: of a transaction.
    :param since: the version of the tables that are there; only columns of later versions are looked for.
    """
    schema.metadata.create_all(connection)
    for version in range(since + 1, schema.SCHEMA_VERSION + 1):
        for column in schema.ADDED.get(version, ()):
            if column.name in {there["name"] for there in inspect(connection).get_columns(column.table.name)}:
                continue  # added by an upgrade that was killed: on MySQL each change commits
            added = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(text(f"ALTER TABLE {column.table.name} ADD COLUMN {added}"))
    for table in schema.metadata.tables.values():
        there = {index["name"] for index in inspect(connection).get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in there:
                index.create(connection)
