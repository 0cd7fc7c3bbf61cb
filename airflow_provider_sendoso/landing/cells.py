"""Converts the API's values to the types of columns. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_sendoso import moments
from airflow_provider_sendoso.landing.lists import Kind

Cell = str | int | None


def write_cell(kind: Kind, value: Any) -> Cell:
    """
    Convert a value to its column's type; times and amounts become text.

    :param kind: the column's type.
    :param value: the API's value.
    :raises ValueError: if the value does not fit; may also be a ``TypeError`` or an ``ArithmeticError``.
    """
    return _WRITERS[kind](value)


def read_moment(value: Any) -> datetime | None:
    """
    Parse a time of a database or of the API; without a zone it is UTC (inferred).

    :param value: as :func:`~airflow_provider_sendoso.moments.read_moment` reads it.
    :raises ValueError: if the value is no time.
    """
    if value is None or value == "":
        return None
    return moments.read_moment(value).astimezone(UTC)


def write_text(value: Any) -> str | None:
    """
    Write any value as text.

    :param value: a value; if it is not text, it is written as JSON.
    """
    if value is None:
        return None
    if isinstance(value, str):
        # Databases cannot store NUL and half of a surrogate pair.
        return value.replace("\0", "").encode(errors="replace").decode()
    return _json(value)


def _json(value: Any) -> str | None:
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text.encode(errors="replace").decode()


def write_moment(value: Any) -> str | None:
    """
    Format a time for SQL, in UTC.

    :param value: ISO 8601 text.
    :raises ValueError: if the text is no time; a value that is not text raises a ``TypeError``.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise TypeError("no moment")
    moment = read_moment(value)
    return None if moment is None else moment.replace(tzinfo=None).isoformat(" ", "milliseconds")


_CENTS = Decimal("0.0001")
_MOST = Decimal(10) ** 14
"""NUMERIC(18, 4) holds amounts below this one."""


def _amount(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("no amount")
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        raise ValueError("no amount") from None
    if not amount.is_finite() or abs(amount) >= _MOST:
        raise ValueError("no amount")
    exact = amount.quantize(_CENTS)
    if exact != amount:
        raise ValueError("it would be rounded")
    return str(exact)


def _count(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("no count")
    count = int(value)
    if count != float(value) or abs(count) >= 2**63:
        raise ValueError("no count")
    return count


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise TypeError("neither true nor false")


_WRITERS: Mapping[Kind, Callable[[Any], Cell]] = {
    Kind.ID: write_text,
    Kind.TEXT: write_text,
    Kind.MOMENT: write_moment,
    Kind.AMOUNT: _amount,
    Kind.COUNT: _count,
    Kind.TRUTH: _truth,
    Kind.JSON: _json,
}
