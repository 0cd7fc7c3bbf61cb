"""The database rights on the ledger's tables, as SQL for a DBA: those that the code uses, and no others."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_sendoso.ledger import schema
from airflow_provider_sendoso.ledger.ddl import DIALECTS

RUNS: dict[str, tuple[str, ...]] = {
    schema.identity.name: ("SELECT", "INSERT"),
    schema.scopes.name: ("SELECT", "INSERT"),
    schema.batches.name: ("SELECT", "INSERT"),
    schema.sends.name: ("SELECT", "INSERT", "UPDATE"),
    schema.resolutions.name: ("SELECT", "INSERT"),
    schema.tokens.name: ("SELECT", "INSERT", "UPDATE"),
    schema.pace.name: ("SELECT", "INSERT", "UPDATE"),
    schema.lists.name: ("SELECT", "INSERT", "DELETE"),
    schema.accounts.name: ("SELECT", "INSERT"),
    schema.cursors.name: ("SELECT", "INSERT", "UPDATE"),
    schema.spending.name: ("SELECT", "INSERT", "UPDATE"),
    schema.plans.name: ("SELECT", "INSERT", "UPDATE"),
    schema.wakeups.name: ("SELECT", "INSERT", "DELETE"),
}
"""The rights that workers, the triggerer, the receiver of webhooks and the commands need, for each of the tables."""

READS = (
    schema.accounts.name,
    schema.batches.name,
    schema.plans.name,
    schema.resolutions.name,
    schema.scopes.name,
    schema.sends.name,
    schema.spending.name,
)
"""The tables that a dashboard needs. The tokens are not among them, nor is the hash key: with it, the hashes can be
compared with a list of addresses."""

_MAKES = {"mysql": "SELECT, INSERT, UPDATE, CREATE, ALTER, INDEX ON *", "postgresql": "USAGE, CREATE ON SCHEMA public"}


def grants(dialect: str, role: str) -> Iterator[tuple[str, list[str]]]:
    """
    Return the statements that grant three roles their rights.

    :param dialect: ``mysql`` or ``postgresql``; SQLite has no roles.
    :param role: the name of the one that runs DAGs; the names of the others begin with it. On MySQL perhaps with a
        host, like ``airflow@10.0.0.%``.
    :return: what each role is for, and its statements, which are executed in the ledger's database.
    """
    use = ["USAGE ON SCHEMA public"] if dialect == "postgresql" else []
    runs = [f"{', '.join(_on(dialect, table, rights))} ON {table}" for table, rights in sorted(RUNS.items())]
    for suffix, purpose, rights in (
        ("_owner", "creates and upgrades the tables; grant it before there are any", [_MAKES[dialect]]),
        ("", "runs DAGs and the commands: the ledger's connection", [*use, *runs]),
        ("_reader", "reads, for dashboards", [*use, *(f"SELECT ON {table}" for table in READS)]),
    ):
        name = _quoted(dialect, role, suffix)
        yield f"{name}: {purpose}", [f"GRANT {right} TO {name};" for right in rights]


def _on(dialect: str, table: str, rights: tuple[str, ...]) -> tuple[str, ...]:
    """Add MySQL's right to update the key, because an insert that finds its row there sets the key to itself."""
    if dialect != "mysql" or "UPDATE" in rights or table == schema.resolutions.name:
        return rights
    return (*rights, "UPDATE")


def _quoted(dialect: str, role: str, suffix: str) -> str:
    name, at, host = role.partition("@") if dialect == "mysql" else (role, "", "")
    if dialect == "postgresql":
        return str(DIALECTS["postgresql"]().identifier_preparer.quote(name + suffix))
    quoted = ["'" + part.replace("\\", "\\\\").replace("'", "''") + "'" for part in (name + suffix, host)]
    return "@".join(quoted if at else quoted[:1])
