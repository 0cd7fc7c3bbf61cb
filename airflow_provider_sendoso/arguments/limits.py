"""Parses the arguments that limit what is sent and spent, which the sending operators and the notifier share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_sendoso.arguments.values import amount, count, days

if TYPE_CHECKING:
    from airflow_provider_sendoso.models.spending import SpendingLimits

LIMIT_ARGUMENTS = ("scope_max_sends", "scope_max_cost", "min_days_between_gifts")
"""The names of these arguments; all of them are templated."""


def spending_limits(source: Any) -> SpendingLimits:
    """
    Read the limits of an operator or a notifier.

    :param source: an object with the rendered arguments as attributes, and a ``log``.
    :raises SendosoConfigError: for a limit that is negative, or no number; nothing was sent.
    """
    from airflow_provider_sendoso.models.spending import SpendingLimits  # a DAG file needs the names alone

    limits = SpendingLimits(
        scope_max_sends=count("scope_max_sends", source.scope_max_sends),
        scope_max_cost=amount("scope_max_cost", source.scope_max_cost),
        min_days_between_gifts=days("min_days_between_gifts", source.min_days_between_gifts),
    )
    warn_of_unset(source, limits, LIMIT_ARGUMENTS)
    return limits


def warn_of_unset(source: Any, limits: Any, names: tuple[str, ...]) -> None:
    """
    Warn of limits that a template has rendered to nothing.

    :param source: an object with the rendered arguments as attributes, and a ``log``.
    :param limits: an object with the parsed arguments as attributes.
    :param names: of the arguments.
    """
    for name in names:
        if getattr(source, name) is not None and getattr(limits, name) is None:
            source.log.warning("%s has rendered to nothing: this batch has no such limit.", name)
