"""OpenTelemetry spans below the task's own span; without a tracer they do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_sendoso.observability import harmless

Attributes = Mapping[str, Any]


@contextmanager
def span(name: str, attributes: Attributes | None = None) -> Iterator[Callable[[Attributes], None]]:
    """
    Trace a block; the names of attributes get the prefix ``sendoso.``. Yields a function that sets more attributes.

    Of an error, only the type is recorded.

    :param name: the span's name without the prefix ``sendoso.``.
    :param attributes: numbers and texts; ``None`` is left out. No personal data.
    """
    opened = _open(f"sendoso.{name}")
    _describe(opened, attributes or {})
    error: BaseException | None = None
    try:
        yield lambda more: _describe(opened, more)
    except BaseException as raised:
        error = raised
        raise
    finally:
        _close(opened, error)


@harmless
def _open(name: str) -> tuple[Any, Any] | None:
    try:
        from opentelemetry import context, trace
    except ImportError:  # a dependency of Airflow today, but not declared by us
        return None
    opened = trace.get_tracer(__name__).start_span(name)
    return opened, context.attach(trace.set_span_in_context(opened))


@harmless
def _describe(opened: tuple[Any, Any] | None, attributes: Attributes) -> None:
    if opened is not None:
        opened[0].set_attributes({f"sendoso.{name}": value for name, value in attributes.items() if value is not None})


@harmless
def _close(opened: tuple[Any, Any] | None, error: BaseException | None) -> None:
    if opened is None:
        return
    from opentelemetry import context, trace

    current, token = opened
    context.detach(token)
    if error is not None and not isinstance(error, TaskDeferred):
        current.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
    current.end()
