"""
Scopes of a week, month or year for ``dedupe_scope``; and what a scope that an author has written means for other runs.

Nothing of this is needed to send: the ledger takes any text for a scope.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from logging import INFO, WARNING
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from airflow_provider_sendoso.exceptions import SendosoConfigError


def weekly(name: str) -> str:
    """
    Return the template of a scope that is another one in each ISO week: one gift per person and week.

    The week is that of the end of the run's data interval, in the DAG's time zone; for a run without one, which is what
    a person, an asset or an event triggers on Airflow 3, it is that of the trigger.

    :param name: what tells the campaign from others; it may be a template itself.
    :return: the template; it renders to ``coffee/2026-W48``, for instance.
    :raises SendosoConfigError: if the name is empty.
    """
    return _dated(name, "%G-W%V")


def monthly(name: str) -> str:
    """
    Return the template of a scope that is another one in each month, like :func:`weekly`.

    :param name: what tells the campaign from others; it may be a template itself.
    :return: the template; it renders to ``coffee/2026-11``, for instance.
    """
    return _dated(name, "%Y-%m")


def yearly(name: str) -> str:
    """
    Return the template of a scope that is another one in each calendar year, like :func:`weekly`.

    :param name: what tells the campaign from others; it may be a template itself.
    :return: the template; it renders to ``coffee/2026``, for instance.
    """
    return _dated(name, "%Y")


def _dated(name: str, form: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise SendosoConfigError(
            'The scope of a week, month or year needs the name of its campaign, as in weekly("coffee"): two campaigns '
            "without one would count as the same, and the second would send nobody a gift."
        )
    # Not the logical date: on Airflow 2 that of Monday's run is a week before, and that of a manual run is its moment.
    moment = "(dag_run.data_interval_end or dag_run.run_after).astimezone(dag.timezone)"
    return f"{name}/{{{{ {moment}.strftime('{form}') }}}}"


class Varies(IntEnum):
    """With what a scope changes, from never to always."""

    NEVER = 0
    VALUE = 1
    UNKNOWN = 2
    YEAR = 3
    QUARTER = 4
    MONTH = 5
    WEEK = 6
    DAY = 7
    MOMENT = 8
    RUN = 9
    CLOCK = 10
    TRY = 11


@dataclass(frozen=True)
class Advice:
    """
    What a scope means for a clear, a backfill, a manual run and the next scheduled run.

    :param varies: with what the scope changes.
    :param text: sentences for the log.
    """

    varies: Varies
    text: str

    @property
    def warns(self) -> bool:
        """Whether a retry at another time of the year may send a second gift."""
        return self.varies is Varies.CLOCK

    @property
    def refused(self) -> bool:
        """Whether each retry would send a second gift."""
        return self.varies is Varies.TRY


def advice(template: Any) -> Advice:
    """
    Say what a scope means for other runs, from the text that the DAG's author has written.

    :param template: the argument before it is rendered; anything but text, such as another task's output, is not known.
    """
    if not isinstance(template, str):
        return Advice(Varies.UNKNOWN, _MEANING[Varies.UNKNOWN])
    try:
        parsed = Environment(autoescape=True).parse(template)
    except TemplateSyntaxError:
        return Advice(Varies.UNKNOWN, _MEANING[Varies.UNKNOWN])
    expressions = list(_expressions(parsed))
    varies = max((_variation(expression) for expression in expressions), default=Varies.NEVER)
    text = _MEANING[varies]
    if Varies.YEAR <= varies <= Varies.MOMENT:
        fallback = any("run_after" in _attributes(expression) for expression in expressions)
        text += _MANUAL_BY_MOMENT if fallback else _MANUAL_BY_DATE
    return Advice(varies, text + (_INSTEAD if varies in _HABITS else ""))


def say_what_it_means(template: Any, scope: Any, log: Any) -> None:
    """
    Log what a scope means for other runs: as a warning if a retry may send a second gift.

    :param template: the argument before it is rendered.
    :param scope: the argument as it is rendered.
    :param log: the logger of the task or callback.
    :raises SendosoConfigError: if each retry would send a second gift; nothing was sent.
    """
    said = advice(template)
    if said.refused:
        raise SendosoConfigError(f"The scope {scope!r} is refused: {said.text} Nothing was sent.")
    log.log(WARNING if said.warns else INFO, "Scope %r: %s", scope, said.text)


_HABITS = (Varies.NEVER, Varies.DAY, Varies.MOMENT, Varies.RUN, Varies.CLOCK, Varies.TRY)
"""What is written by habit, and is seldom meant in a campaign that is scheduled."""

_INSTEAD = (
    " For one gift per person and week, whatever is cleared or triggered: dedupe_scope=weekly(…), from "
    "airflow_provider_sendoso.scopes."
)
_MANUAL_BY_MOMENT = " A manual run without a logical date counts as of the moment at which it is triggered."
_MANUAL_BY_DATE = (
    " A manual run has no such date on Airflow 3 unless one is chosen, and fails before it sends; on Airflow 2 it has "
    "one."
)


def _per(period: str) -> str:
    return (
        f"one gift per person and {period}. A clear, a manual run and a backfill send nobody a second one for the same "
        f"{period}; the next scheduled run sends everybody one more if it is in another {period}, and a backfill one "
        f"for each {period} that it covers."
    )


_MEANING = {
    Varies.NEVER: (
        "one gift per person, once and for all. A clear, a backfill, a manual run and the next scheduled run send only "
        "to people who have had none."
    ),
    Varies.VALUE: (
        "one gift per person and value of its params or variables. A clear, a backfill, a manual run and the next "
        "scheduled run with the same values send only to people who have had none; with other values they send "
        "everybody one more."
    ),
    Varies.UNKNOWN: (
        "one gift per person and value of this scope. A clear, a backfill, a manual run and the next scheduled run for "
        "which it has the same value send only to people who have had none; with another value they send everybody "
        "one more."
    ),
    Varies.YEAR: _per("year"),
    Varies.QUARTER: _per("quarter"),
    Varies.MONTH: _per("month"),
    Varies.WEEK: _per("week"),
    Varies.DAY: (
        "one gift per person and day. A clear sends nobody a second one; the next scheduled run, and a backfill for "
        "each other day, send everybody one more."
    ),
    Varies.MOMENT: (
        "one gift per person and date of a run. A clear sends nobody a second one; the next scheduled run, and a "
        "backfill for each other date, send everybody one more."
    ),
    Varies.RUN: (
        "one gift per person and run. A clear of this run sends nobody a second one; a manual run, the next scheduled "
        "run and each new run of a backfill send everybody one more."
    ),
    Varies.CLOCK: (
        "one gift per person and period of the clock at which the task begins, and not of the run. A retry or a clear "
        "after the period's end is refused once something was sent; a manual run, a backfill and the next scheduled "
        "run in another period send everybody one more."
    ),
    Varies.TRY: (
        "it is another one in every try, so that nothing is remembered: a retry, a clear and any other run would send "
        "everybody one more gift."
    ),
}

_DATES = {"ds", "ds_nodash", "prev_ds", "next_ds", "yesterday_ds", "tomorrow_ds"}
_MOMENTS = {"ts", "ts_nodash", "ts_nodash_with_tz", "logical_date", "execution_date", "run_after"}
_INTERVAL = re.compile(r"(prev_|next_)?(data_interval|logical|execution)_\w+")
_OF_A_TRY = {"try_number", "start_date", "end_date", "queued_at", "queued_dttm", "pid", "job_id", "hostname"}
_EACH_TRY_ANOTHER = {"id", "key"}
"""Attributes of the task instance that are others in every try, and whose names mean something else elsewhere."""
_CLOCKS = {"now", "utcnow", "today", "uuid1", "uuid4", "random", "time"}
_VALUES = {"params", "var", "conn"}
_FIXED = {"dag", "task", "ti", "task_instance", "dag_run", "conf", "macros"}
_PERIODS = {
    Varies.YEAR: {"year"},
    Varies.QUARTER: {"quarter"},
    Varies.MONTH: {"month"},
    Varies.WEEK: {"week_of_year", "isocalendar", "week"},
    Varies.DAY: {"day", "day_of_year", "date", "to_date_string"},
}
_DIRECTIVES = {
    Varies.YEAR: "YGyC",
    Varies.MONTH: "mbBh",
    Varies.WEEK: "VUW",
    Varies.DAY: "djeDFxaAuw",
    Varies.MOMENT: "HIMSfspcXTRr",
}
_FILTERS = {"ds": Varies.DAY, "ds_nodash": Varies.DAY} | dict.fromkeys(
    ("ts", "ts_nodash", "ts_nodash_with_tz"), Varies.MOMENT
)
_SLICES = {4: Varies.YEAR, 6: Varies.MONTH, 7: Varies.MONTH, 8: Varies.DAY, 10: Varies.DAY}
"""How much of a date is left of its first so many characters."""


def _expressions(parsed: nodes.Template) -> Iterator[nodes.Node]:
    for output in parsed.find_all(nodes.Output):
        yield from (node for node in output.nodes if not isinstance(node, nodes.TemplateData))
    yield from parsed.find_all(nodes.Assign)


def _found(expression: nodes.Node, kind: type[nodes.Node]) -> Iterator[Any]:
    if isinstance(expression, kind):
        yield expression
    yield from expression.find_all(kind)


def _attributes(expression: nodes.Node) -> set[str]:
    return {attribute.attr for attribute in _found(expression, nodes.Getattr)}


def _variation(expression: nodes.Node) -> Varies:
    """Say with what one expression of a template changes."""
    names = {name.name for name in _found(expression, nodes.Name)}
    attributes = _attributes(expression)
    words = names | attributes
    by_clock = words & _CLOCKS and names & {"macros", "now", "utcnow"}
    of_a_try = attributes & _OF_A_TRY and names & {"ti", "task_instance", "dag_run"}
    if by_clock or of_a_try or any(_is_of_a_try(attribute) for attribute in _found(expression, nodes.Getattr)):
        # The period in which the task begins is the same for a retry, most of the time.
        period = max(_parts(expression, attributes), default=Varies.MOMENT)
        return Varies.CLOCK if period <= Varies.DAY else Varies.TRY
    if words & {"run_id", "task_instance_key_str"}:
        return Varies.RUN
    moments = {word for word in words if word in _MOMENTS or _INTERVAL.fullmatch(word)}
    if moments or words & _DATES:
        parts = list(_parts(expression, attributes))
        return max(parts) if parts else Varies.MOMENT if moments else Varies.DAY
    if names & _VALUES or "conf" in attributes:
        return Varies.VALUE
    return Varies.NEVER if names <= _FIXED and not words & {"xcom_pull"} else Varies.UNKNOWN


def _is_of_a_try(attribute: nodes.Getattr) -> bool:
    of_task_instance = isinstance(attribute.node, nodes.Name) and attribute.node.name in ("ti", "task_instance")
    return of_task_instance and attribute.attr in _EACH_TRY_ANOTHER


def _parts(expression: nodes.Node, attributes: set[str]) -> Iterator[Varies]:
    """Yield the parts of a date that an expression takes; nothing if it takes the date as it is."""
    yield from (period for period, words in _PERIODS.items() if attributes & words)
    yield from (_FILTERS[used.name] for used in _found(expression, nodes.Filter) if used.name in _FILTERS)
    for part in _found(expression, nodes.Slice):
        if part.start is None and isinstance(part.stop, nodes.Const) and part.stop.value in _SLICES:
            yield _SLICES[part.stop.value]
    read = {
        id(call.args[1])  # the format that the date has, not that which it is given
        for call in _found(expression, nodes.Call)
        if isinstance(call.node, nodes.Getattr) and call.node.attr == "ds_format" and len(call.args) > 2
    }
    for const in _found(expression, nodes.Const):
        if isinstance(const.value, str) and id(const) not in read:
            for directive in re.findall(r"%-?([a-zA-Z])", const.value):
                yield from (period for period, letters in _DIRECTIVES.items() if directive in letters)
