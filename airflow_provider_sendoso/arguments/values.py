"""Parses operators' arguments; a wrong one raises a ``SendosoConfigError`` that says what to give instead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_sendoso.exceptions import SendosoConfigError


def given(value: Any) -> Any:
    """Return an argument; ``None`` if a template has rendered it to nothing."""
    return None if isinstance(value, str) and value.strip() in ("", "None") else value


def name_of_table(value: Any) -> str | None:
    """Read a table's name; ``None`` where none is given."""
    return None if given(value) is None else str(value).strip()


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a value that is not allowed."""
    if value not in allowed:
        raise SendosoConfigError(f"{name} is {value!r}; use one of {', '.join(map(repr, allowed))}. Nothing was sent.")


def seconds(name: str, value: float | timedelta) -> float:
    """Read a duration: a timedelta, or a number of seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise SendosoConfigError(f"{name} must be a timedelta or a number of seconds; nothing was sent.")
    return float(value)


def truth(name: str, value: Any) -> bool:
    """Read a boolean, also from the text that a template renders."""
    # Text that is neither true nor false is refused, because a wrong guess about dry_run would send gifts.
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    truth = words.get(str(value).strip().lower())
    if truth is None:
        raise SendosoConfigError(f"{name} is {value!r}, neither true nor false; nothing was sent.")
    return truth


def count(name: str, value: Any) -> int | None:
    """Read a whole number from 0; ``None`` if it is absent."""
    if given(value) is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal():
        raise SendosoConfigError(f"{name} is {value!r}; use a whole number from 0. Nothing was sent.")
    return int(text)


def amount(name: str, value: Any) -> Decimal | None:
    """Read an amount of money from 0; ``None`` if it is absent."""
    if given(value) is None:
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        amount = Decimal(-1)
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise SendosoConfigError(f"{name} is {value!r}; use an amount from 0, like 2500 or 19.90. Nothing was sent.")
    return amount


def width(value: Any) -> int | None:
    """Read ``max_in_flight``; ``None`` if it is absent."""
    from airflow_provider_sendoso.sending.concurrency import MOST

    if given(value) is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise SendosoConfigError(f"max_in_flight is {value!r}; use a number from 1 to {MOST}. Nothing was sent.")
    return int(text)


def share_or_count(name: str, value: Any) -> float | None:
    """Read a count (an ``int``) or a share from 0 to 1 (a ``float``); ``None`` if it is absent."""
    if given(value) is None:
        return None
    text = str(value).strip()
    try:
        number: float = int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        number = -1
    if not number >= 0 or (isinstance(number, float) and number > 1):
        raise SendosoConfigError(f"{name} is {value!r}; use a count like 10 or a share like 0.1. Nothing was sent.")
    return number
