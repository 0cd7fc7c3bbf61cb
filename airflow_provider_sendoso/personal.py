"""Keeps arguments that may hold personal data out of OpenLineage's events."""

from __future__ import annotations

import sys
from typing import Any

_LINEAGE = "airflow.providers.openlineage"


class PersonalArgument:
    """
    A descriptor for an operator's attribute that OpenLineage does not report.

    OpenLineage's events contain a task's attribute ``parameters``, and with ``include_full_task_info`` every attribute
    in its ``__dict__``. The value is stored there in a wrapper that cannot be serialised to JSON.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._kept = f"_{name}"

    def __get__(self, operator: Any, owner: type | None = None) -> Any:
        if operator is None:
            return self
        asks = sys._getframe(1).f_globals.get("__name__") or ""
        if asks.startswith(_LINEAGE) or self._kept not in operator.__dict__:
            raise AttributeError(self._name)
        return operator.__dict__[self._kept].value

    def __set__(self, operator: Any, value: Any) -> None:
        # A new wrapper for each value, because copies of an operator share the objects in their __dict__.
        operator.__dict__[self._kept] = _Wrapped(value)


class _Wrapped:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<not shown>"
