"""Renders templates: only those that a DAG's author wrote, never data of other tasks; and says what one lacks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import UndefinedError

from airflow_provider_sendoso.exceptions import SendosoConfigError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


_OF_A_DATE = re.compile(r"'(ds|ds_nodash|ts\w*|logical_date|data_interval_\w+|execution_date)' is undefined")
"""What a template lacks in a run without a logical date."""


class SaysWhatIsUndefined:
    """Mixin for whatever has templates: an undefined name is an error that says what to write instead."""

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        try:
            super()._do_render_template_fields(  # type: ignore[misc]
                parent, template_fields, context, jinja_env, seen_oids
            )
        except UndefinedError as error:
            raise SendosoConfigError(_undefined(error)) from None


def _undefined(error: UndefinedError) -> str:
    words = f"A template cannot be rendered: {error.message}."
    if _OF_A_DATE.match(error.message or ""):
        words += (
            " This run has no logical date: somebody, an asset or an event has triggered it. Write "
            "{{ (dag_run.logical_date or dag_run.run_after) | ds }}, which is the logical date where there is one, and "
            "else the day of the run."
        )
    return f"{words} Nothing was sent."


class RendersAuthorsTemplates(SaysWhatIsUndefined):
    """
    Mixin for operators and sensors: a mapped task renders only what the DAG's author wrote.

    Airflow 2.11 and 3.3 also render what ``expand_kwargs()`` takes from a task's output, so that a person whose first
    name is a template could read the secrets of the deployment from a gift's card.
    """

    remembered: Sequence[str] = ()
    """Template fields of which it keeps what the author wrote, in :attr:`written`."""
    written: Mapping[str, Any] = MappingProxyType({})
    """What the author wrote; of a field whose value is data of another task, nothing."""

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render all template fields but those that hold data; Airflow's mapped operator calls this method."""
        if parent is self:
            data = fields_from_tasks(self, context)
            template_fields = [name for name in template_fields if name not in data]
            self.written = {name: getattr(self, name) if name in template_fields else None for name in self.remembered}
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)


def fields_from_tasks(operator: Any, context: Context) -> set[str]:
    """
    Return the template fields whose values are data of other tasks, or may be.

    A value is the author's if it is the very object that ``partial()``, ``default_args`` or a constructor's default
    holds, or if it is an item of a list or dict in the DAG file.

    :param operator: the task, after Airflow has mapped it.
    :param context: the task's context.
    """
    dag = operator.get_dag()
    mapped = None if dag is None else dag.task_dict.get(operator.task_id)
    expanded = getattr(mapped, "expand_input", None)
    if mapped is None or expanded is None:
        return set()
    given: Any = expanded.value
    literal: set[str] = set()
    if isinstance(given, Mapping):  # of expand()
        literal = {name for name, values in given.items() if isinstance(values, Mapping | Sequence)}
        if len(literal) == len(given):
            return set()
    elif isinstance(given, Sequence) and isinstance(given[context["ti"].map_index or 0], Mapping):  # of expand_kwargs()
        return set()
    group = operator.task_group
    written = [mapped.partial_kwargs, dag.default_args, {} if group is None else group.default_args]
    written += map(_defaults, type(operator).__mro__)

    def is_authors(name: str) -> bool:
        value = getattr(operator, name)
        return name in literal or any(name in source and source[name] is value for source in written)

    return {name for name in operator.template_fields if not is_authors(name)}


def _defaults(of: type) -> dict[str, Any]:
    """Return the defaults that a class's own constructor declares."""
    constructor = vars(of).get("__init__")
    parameters = {} if constructor is None else inspect.signature(constructor).parameters
    return {name: parameter.default for name, parameter in parameters.items()}
