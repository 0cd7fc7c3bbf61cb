"""Functions for the ledger's statements: the database's clock, lists cut to size, and the columns of a status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from airflow_provider_sendoso.ledger.schema import db_now
from airflow_provider_sendoso.models import StatusReport

_AT_ONCE = 500
"""Values in one statement: well below the limit of every database."""


def now_on(connection: Connection) -> float:
    """
    Read the database's clock, the only one that all processes share.

    :param connection: a connection to the database.
    :return: epoch seconds.
    """
    return float(connection.execute(select(db_now())).scalar_one())


def in_groups(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """
    Cut a list into lists of as many values as one statement takes.

    :param values: ids, or hashes.
    """
    return (values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE))


def status_columns(report: StatusReport) -> dict[str, Any]:
    """
    Return the values of the columns that store a send's status.

    :param report: the status, which was read now.
    """
    return {"status": report.status, "status_words": report.stored_words, "status_at": db_now()}
