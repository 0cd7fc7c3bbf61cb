"""The ledger's tables as SQL, for a DBA who makes them by hand; the provider then needs no right to create any."""

from __future__ import annotations

from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from airflow_provider_sendoso.ledger import schema

DIALECTS: dict[str, type[Dialect]] = {
    "mysql": mysql.dialect,
    "postgresql": postgresql.dialect,
    "sqlite": sqlite.dialect,
}


def ddl(dialect: str) -> str:
    """
    Return the statements that create an empty ledger; its identity is written when it is first used.

    :param dialect: a key of :data:`DIALECTS`.
    """
    compiler = DIALECTS[dialect]()
    statements = [f"-- airflow-provider-sendoso, ledger schema version {schema.SCHEMA_VERSION}, {dialect}"]
    for table in schema.metadata.sorted_tables:
        statements.append(f"{str(CreateTable(table).compile(dialect=compiler)).strip()};")
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [f"{CreateIndex(index).compile(dialect=compiler)};" for index in indexes]
    return "\n\n".join(statements)
