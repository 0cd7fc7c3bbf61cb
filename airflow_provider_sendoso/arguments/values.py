"""Parses operators' arguments; a wrong one raises a ``SendosoConfigError`` that says what to give instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Sized
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from numbers import Integral, Number
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.moments import read_moment


def given(value: Any) -> Any:
    """Return an argument; ``None`` if a template has rendered it to nothing."""
    return None if isinstance(value, str) and value.strip() in ("", "None") else value


MOST_DAYS = 36_500
"""The most days between two gifts: a hundred years."""

_LONGEST = 1000
_LONGEST_SHOWN = 40
_LARGEST = 2**63
_BRACKETS = {"{": "}", "[": "]", "(": ")"}


def got(value: Any, *, personal: bool = False) -> str:
    """
    Describe an argument's value for an error: quote a short word or number, describe anything else by its shape.

    :param personal: whether text may be personal; then it is described by its shape, however short it is.
    """
    if isinstance(value, str):
        short = len(value) <= _LONGEST_SHOWN and "@" not in value and value.strip()[:1] not in _BRACKETS
        if short and not personal:
            return repr(value)
        what = " that looks like a dict or a list" if value.strip()[:1] in _BRACKETS else ""
        return f"text of {len(value)} characters{what}"
    if value is None or isinstance(value, bool | float) or (isinstance(value, Integral) and abs(int(value)) < _LARGEST):
        return repr(value)
    kind = type(value).__name__
    return f"a {kind} of {len(value)} entries" if isinstance(value, Sized) else f"a {kind}"


def one(name: str, value: Any) -> Any:
    """
    Return an argument that is one id or one name, as it was given; ``None`` if it is absent.

    :raises SendosoConfigError: for a dict or a list, such as a whole summary, also rendered to text by a template; for
        true, false and a fraction; for text of more than 1000 characters or with control characters.
    """
    if given(value) is None:
        return None
    plain = value.value if isinstance(value, Enum) else value
    if isinstance(plain, float) and plain.is_integer():  # a column of integers with NULLs may hold floats
        plain = int(plain)
    if isinstance(plain, int | Integral) and type(plain) is not bool and abs(int(plain)) < _LARGEST:
        return plain
    text = plain.strip() if isinstance(plain, str) else ""
    collection = text and _BRACKETS.get(text[0]) == text[-1]
    if text and not collection and len(text) <= _LONGEST and text.isprintable():
        return value
    hint = f" The dict holds it: pass its [{name!r}]." if isinstance(value, Mapping) and name in value else ""
    raise SendosoConfigError(f"{name} is {got(value)}; give one id or name, as text.{hint} Nothing was sent.")


def text(name: str, value: Any) -> str | None:
    """Read one id or name as text; see :func:`one`."""
    value = one(name, value)
    value = value.value if isinstance(value, Enum) else value
    return None if value is None else str(value).strip()


def query(value: Any) -> str | None:
    """Read ``sql``, which must be one text."""
    if value is not None and not isinstance(value, str):
        raise SendosoConfigError(f"sql is {got(value)}; give one query, as text. Nothing was sent.")
    return value


def mapping(name: str, value: Any) -> Mapping[str, Any] | None:
    """Read a dict; ``None`` if it is absent."""
    if given(value) is None:
        return None
    if not isinstance(value, Mapping):
        raise SendosoConfigError(
            f"{name} is {got(value, personal=True)}; it must be a dict. A template makes text of a dict, unless the "
            "DAG has render_template_as_native_obj=True. Nothing was sent."
        )
    return value


def listing(name: str, value: Any) -> Iterable[Any] | None:
    """Read a list of values of any type, which are not validated; ``None`` if it is absent."""
    if given(value) is None:
        return None
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise SendosoConfigError(f"{name} is {got(value, personal=True)}; it must be a list. Nothing was sent.")
    return value


def one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a value that is not allowed."""
    if value not in allowed:
        raise SendosoConfigError(
            f"{name} is {got(value)}; use one of {', '.join(map(repr, allowed))}. Nothing was sent."
        )


def seconds(name: str, value: float | timedelta) -> float:
    """Read a duration: a timedelta, or a number of seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise SendosoConfigError(f"{name} must be a timedelta or a number of seconds; nothing was sent.")
    return float(value)


def moment(name: str, value: Any) -> datetime | None:
    """Read a moment, as :func:`~airflow_provider_sendoso.moments.read_moment` does; ``None`` if it is absent."""
    if given(value) is None:
        return None
    try:
        return read_moment(value)
    except ValueError:
        raise SendosoConfigError(
            f"{name} is {got(value)}; use a datetime, a date like 2026-01-31 or 20260131, text like "
            "2026-01-31T12:00:00+00:00, or seconds since 1970. Nothing was read."
        ) from None


def truth(name: str, value: Any) -> bool:
    """Read a boolean, also from the text that a template renders."""
    # Text that is neither true nor false is refused, because a wrong guess about dry_run would send gifts.
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    truth = words.get(str(value).strip().lower()) if isinstance(value, str | bool | int) else None
    if truth is None:
        raise SendosoConfigError(f"{name} is {got(value)}, neither true nor false; nothing was sent.")
    return truth


def count(name: str, value: Any) -> int | None:
    """Read a whole number from 0; ``None`` if it is absent."""
    if given(value) is None:
        return None
    text = _number(value)
    if not text.isdecimal():
        raise SendosoConfigError(f"{name} is {got(value)}; use a whole number from 0. Nothing was sent.")
    return int(text)


def amount(name: str, value: Any) -> Decimal | None:
    """Read an amount of money from 0; ``None`` if it is absent."""
    if given(value) is None:
        return None
    try:
        amount = Decimal(_number(value))
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise SendosoConfigError(f"{name} is {got(value)}; use an amount from 0, like 2500 or 19.90. Nothing was sent.")
    return amount


def days(name: str, value: Any) -> float | None:
    """Read a number of days from 0 to 36500, which may have a fraction; ``None`` if it is absent."""
    if given(value) is None:
        return None
    try:
        number = float(_number(value))
    except ValueError:
        number = -1.0
    if not 0 <= number <= MOST_DAYS:
        raise SendosoConfigError(
            f"{name} is {got(value)}; use a number of days from 0 to {MOST_DAYS}. Nothing was sent."
        )
    return number


def width(value: Any) -> int | None:
    """Read ``max_in_flight``; ``None`` if it is absent."""
    from airflow_provider_sendoso.sending.concurrency import MOST

    if given(value) is None:
        return None
    text = _number(value)
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise SendosoConfigError(f"max_in_flight is {got(value)}; use a number from 1 to {MOST}. Nothing was sent.")
    return int(text)


def share_or_count(name: str, value: Any) -> float | None:
    """Read a count (an ``int``) or a share from 0 to 1 (a ``float``); ``None`` if it is absent."""
    if given(value) is None:
        return None
    text = _number(value)
    try:
        number: float = int(text) if text.isdecimal() else float(text)
    except ValueError:
        number = -1
    if not number >= 0 or (isinstance(number, float) and number > 1):
        raise SendosoConfigError(f"{name} is {got(value)}; use a count like 10 or a share like 0.1. Nothing was sent.")
    return number


def _number(value: Any) -> str:
    """Return a number as text, for parsing; empty for a value of another type or of absurd length."""
    if isinstance(value, bool) or not isinstance(value, str | Number) or (isinstance(value, int) and value > _LARGEST):
        return ""
    text = str(value).strip()
    return text if len(text) <= _LONGEST_SHOWN else ""
