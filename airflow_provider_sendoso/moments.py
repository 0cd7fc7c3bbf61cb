"""Parses a point in time in all forms in which templates, people, databases and Sendoso's answers give one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

_DIGITS = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}
"""The formats of dates without hyphens, like ``ds_nodash``, by their number of digits."""
_EARLIEST, _LATEST = 1970, 2200
_LONGEST = 64
_TOO_LARGE = 10**18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_moment(value: Any) -> datetime:
    """
    Parse a point in time.

    - A ``datetime`` (pendulum's, too), a ``date`` (its midnight), or ISO 8601 text; without a zone it is UTC.
    - A number, also as text, by its digits before the point: 8 are a date (``20260105``), 14 a date and a time, 9 or 10
      seconds since 1970, 13 milliseconds since 1970; 0 is 1970. Any other number could mean several things.

    :param value: the moment.
    :return: the moment, with a time zone.
    :raises ValueError: if the value is no moment, or a number that could mean several.
    """
    moment: datetime | None = None
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime.combine(value, time())
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE:
        moment = _of_number(value)
    elif isinstance(value, str) and len(value) <= _LONGEST:
        text = value.strip()
        number = re.fullmatch(r"\d{1,20}(\.\d+)?", text, re.ASCII)
        moment = _of_number(float(text) if number[1] else int(text)) if number else _of_text(text)
    if moment is None:
        raise ValueError("no moment")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("no moment of this calendar") from None
    return moment


def moment_or_none(value: Any) -> datetime | None:
    """
    Parse a point in time in an answer.

    :param value: a value as :func:`read_moment` takes it.
    :return: the moment; ``None`` for any other value.
    """
    try:
        return read_moment(value)
    except ValueError:
        return None


def _of_text(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r" (UTC|GMT)$", "+00:00", text))


def _of_number(value: float) -> datetime | None:
    digits = len(str(abs(int(value))))
    if value == 0:
        return _EPOCH
    if value < 0:
        return None
    if digits in _DIGITS and value == int(value):
        moment = datetime.strptime(str(int(value)), _DIGITS[digits]).replace(tzinfo=UTC)
        return moment if _EARLIEST <= moment.year < _LATEST else None
    if digits in (9, 10, 13):
        return _EPOCH + timedelta(seconds=value if digits < 13 else value / 1000)
    return None
