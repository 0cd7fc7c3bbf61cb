"""A template that names what a run does not have: the error says what to write, and a retry is not tried."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.notifications.sendoso import SendosoNotifier
from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator, SendosoToSqlOperator
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor

NEEDS_A_DATE = ("ds", "ds_nodash", "ts", "ts_nodash", "logical_date", "data_interval_end", "logical_date | ds")
INSTEAD = "(dag_run.logical_date or dag_run.run_after) | ds"
MONDAY = datetime(2026, 11, 23, 6, tzinfo=UTC)
FIELDS: dict[Callable[..., Any], str] = {
    BatchSendOperator: "dedupe_scope",
    SendGiftOperator: "dedupe_scope",
    SendosoToSqlOperator: "table",
    SendStatusSensor: "dedupe_scope",
}


def task(make: Callable[..., Any], template: str) -> Any:
    needed: dict[Any, dict[str, Any]] = {
        BatchSendOperator: {"recipients": []},
        SendGiftOperator: {"recipient": {}},
        SendosoToSqlOperator: {"object": "users", "conn_id": "warehouse"},
        SendStatusSensor: {},
    }
    with DAG("campaign", schedule=None):
        return make(task_id="gifts", **(needed[make] | {FIELDS[make]: template}))


def render(operator: Any, **dag_run: Any) -> None:
    operator.render_template_fields({"dag_run": SimpleNamespace(**dag_run), "run_id": "manual__1"})


@pytest.mark.parametrize("name", NEEDS_A_DATE)
def test_a_run_without_a_logical_date_is_told_what_to_write(name: str) -> None:
    with pytest.raises(SendosoConfigError, match="This run has no logical date") as caught:
        render(task(BatchSendOperator, f"gifts/{{{{ {name} }}}}"), logical_date=None)
    assert isinstance(caught.value, AirflowFailException)
    assert f"{{{{ {INSTEAD} }}}}" in str(caught.value)


@pytest.mark.parametrize("make", FIELDS, ids=lambda make: make.__name__)
def test_every_operator_and_sensor_says_it(make: Callable[..., Any]) -> None:
    with pytest.raises(SendosoConfigError, match=r"'ds' is undefined\. This run has no logical date"):
        render(task(make, "gifts_{{ ds }}"), logical_date=None)


def test_the_notifier_says_it() -> None:
    notifier = SendosoNotifier(gift_id="g", recipient={}, message="Thanks", dedupe_scope="gifts/{{ ds }}")
    assert_says_it(notifier, {"dag": DAG("campaign", schedule=None)})


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 has no deadlines")
def test_the_notifier_says_it_of_a_deadline_where_airflow_renders_the_name_as_nothing() -> None:
    notifier = SendosoNotifier(gift_id="g", recipient={}, message="Thanks", dedupe_scope="gifts/{{ ds }}")
    assert_says_it(notifier, {})


def assert_says_it(notifier: SendosoNotifier, context: dict[str, Any]) -> None:
    with pytest.raises(SendosoConfigError, match=r"'ds' is undefined\. This run has no logical date"):
        notifier.render_template_fields({"dag_run": SimpleNamespace(logical_date=None)} | context)


@pytest.mark.parametrize(
    ("dag_run", "day"),
    [
        ({"logical_date": datetime(2026, 1, 5, tzinfo=UTC), "run_after": MONDAY}, "2026-01-05"),
        ({"logical_date": None, "run_after": MONDAY}, "2026-11-23"),
        ({"logical_date": datetime(2026, 1, 5, tzinfo=UTC)}, "2026-01-05"),  # Airflow 2, whose runs all have one
    ],
)
def test_what_it_says_to_write_works_in_both_kinds_of_run(dag_run: dict[str, Any], day: str) -> None:
    operator = task(BatchSendOperator, f"gifts/{{{{ {INSTEAD} }}}}")
    render(operator, **dag_run)
    assert operator.dedupe_scope == f"gifts/{day}"


def test_another_name_that_is_undefined_is_not_blamed_on_the_date() -> None:
    with pytest.raises(SendosoConfigError) as caught:
        render(task(BatchSendOperator, "{{ campagne }}"), logical_date=None)
    assert str(caught.value) == "A template cannot be rendered: 'campagne' is undefined. Nothing was sent."
