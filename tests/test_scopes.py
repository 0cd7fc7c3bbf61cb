"""Scopes by week, month and year; and what a scope that was written by habit means, from the text in the DAG file."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.providers.common.compat.sdk import DAG
from jinja2 import StrictUndefined, Template

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator
from airflow_provider_sendoso.scopes import Varies, advice, monthly, weekly, yearly

SUNDAY_NIGHT = datetime(2027, 1, 3, 23, 30, tzinfo=UTC)


def rendered(template: str, end: datetime | None, run_after: datetime | None = None, zone: str = "UTC") -> str:
    dag_run = SimpleNamespace(data_interval_end=end, run_after=run_after)
    text = Template(template, undefined=StrictUndefined)
    return text.render(dag_run=dag_run, dag=SimpleNamespace(timezone=ZoneInfo(zone)))


@pytest.mark.parametrize(
    ("make", "in_utc", "in_paris"),
    [(weekly, "2026-W53", "2027-W01"), (monthly, "2027-01", "2027-01"), (yearly, "2027", "2027")],
)
def test_the_period_is_that_of_the_dags_time_zone(make: Callable[[str], str], in_utc: str, in_paris: str) -> None:
    assert rendered(make("coffee"), SUNDAY_NIGHT) == f"coffee/{in_utc}"
    assert rendered(make("coffee"), SUNDAY_NIGHT, zone="Europe/Paris") == f"coffee/{in_paris}"


def test_a_run_without_a_data_interval_counts_as_of_its_trigger() -> None:
    assert rendered(weekly("coffee"), None, SUNDAY_NIGHT) == "coffee/2026-W53"


@pytest.mark.parametrize(
    ("template", "varies"),
    [
        ("q4-champions", Varies.NEVER),
        ("weekly-{{ dag.dag_id }}-ds-run_id", Varies.NEVER),
        ("{{ dag.start_date }}", Varies.NEVER),
        ("{{ params.campaign }}", Varies.VALUE),
        ("{{ dag_run.conf['campaign'] }}", Varies.VALUE),
        ("{{ var.value.campaign }}", Varies.VALUE),
        ("{{ ti.xcom_pull('choose') }}", Varies.UNKNOWN),
        ("{{ my_macro() }}", Varies.UNKNOWN),
        ("{{ broken", Varies.UNKNOWN),
        (None, Varies.UNKNOWN),
        (yearly("gift"), Varies.YEAR),
        ("{{ ds[:4] }}", Varies.YEAR),
        ("{{ logical_date.year }}-{{ logical_date.quarter }}", Varies.QUARTER),
        ("{{ ds[:7] }}", Varies.MONTH),
        (monthly("gift"), Varies.MONTH),
        (weekly("gift"), Varies.WEEK),
        ("{{ data_interval_start.isocalendar()[1] }}", Varies.WEEK),
        ("{{ macros.ds_format(ds, '%Y-%m-%d', '%G-W%V') }}", Varies.WEEK),
        ("{{ ds }}", Varies.DAY),
        ("{{ params.campaign }}/{{ ds_nodash }}", Varies.DAY),
        ("{{ (dag_run.logical_date or dag_run.run_after) | ds }}", Varies.DAY),
        ("{{ logical_date.year }}/{{ ds }}", Varies.DAY),
        ("{{ ts }}", Varies.MOMENT),
        ("{{ data_interval_end }}", Varies.MOMENT),
        ("{{ run_id }}", Varies.RUN),
        ("{{ ds }}/{{ dag_run.run_id }}", Varies.RUN),
        ("{% set day = macros.datetime.now() %}{{ day }}", Varies.TRY),
        ("{{ macros.datetime.now().strftime('%Y-%m') }}", Varies.CLOCK),
        ("{{ macros.datetime.today().date() }}", Varies.CLOCK),
        ("{{ macros.datetime.now().strftime('%Y-%m-%d %H:%M') }}", Varies.TRY),
        ("{{ macros.uuid.uuid4() }}", Varies.TRY),
        ("{{ macros.uuid.uuid5(macros.uuid.NAMESPACE_DNS, params.campaign) }}", Varies.VALUE),
        ("{{ ti.try_number }}", Varies.TRY),
        ("{{ ti.id }}", Varies.TRY),
        ("coffee {{ task_instance.key }}", Varies.TRY),
        ("{{ dag_run.id }}", Varies.NEVER),
        ("{{ dag_run.start_date }}", Varies.TRY),
    ],
)
def test_what_a_scope_changes_with_is_read_from_its_template(template: Any, varies: Varies) -> None:
    assert advice(template).varies is varies


@pytest.mark.parametrize("template", ["q4", "{{ params.q }}", "{{ own }}", "{{ ds[:7] }}", "{{ ds }}", "{{ run_id }}"])
def test_every_answer_says_what_a_clear_a_backfill_a_manual_and_the_next_run_do(template: str) -> None:
    text = advice(template).text
    assert [word for word in ("clear", "backfill", "manual run", "next scheduled run") if word not in text] == []


@pytest.mark.parametrize("template", ["q4", "{{ ds }}", "{{ ts }}", "{{ run_id }}", "{{ ti.try_number }}"])
def test_a_habit_is_answered_with_what_to_write_for_a_week(template: str) -> None:
    assert "dedupe_scope=weekly(" in advice(template).text


def test_a_week_is_not_told_to_be_a_week_and_says_what_becomes_of_a_manual_run() -> None:
    assert "weekly(" not in advice(weekly("coffee")).text
    assert advice(weekly("coffee")).text.endswith("counts as of the moment at which it is triggered.")
    assert "fails before it sends" in advice("{{ data_interval_start.strftime('%G-W%V') }}").text


def test_an_operator_remembers_what_was_written_and_not_what_it_renders_to() -> None:
    with DAG("campaign", schedule=None):
        operator = BatchSendOperator(task_id="gifts", recipients=[], dedupe_scope="{{ run_id }}")
    operator.render_template_fields({"run_id": "manual__1"})
    assert (operator.dedupe_scope, operator.written) == ("manual__1", {"dedupe_scope": "{{ run_id }}"})


@pytest.mark.parametrize(
    "template", ["{{ macros.datetime.now() }}", "{{ macros.uuid.uuid4() }}", "{{ ti.try_number }}"]
)
@pytest.mark.parametrize("kind", [BatchSendOperator, SendGiftOperator])
def test_a_scope_that_is_another_one_in_every_try_is_refused_before_anything_is_looked_up(
    kind: type, template: str
) -> None:
    person = {"first_name": "Ada", "last_name": "L", "email": "ada@example.com"}
    whom = {"recipients": [person]} if kind is BatchSendOperator else {"recipient": person}
    with DAG("campaign", schedule=None):
        operator = kind(task_id="gifts", gift_id="gift-mug", message="Hi", dedupe_scope=template, **whom)
    operator.render_template_fields(
        {"ti": SimpleNamespace(try_number=1), "macros": SimpleNamespace(datetime=datetime, uuid=uuid)}
    )
    with pytest.raises(SendosoConfigError, match=r"is refused: it is another one in every try.*Nothing was sent"):
        operator.execute({})
