"""Tries of tasks in a process of their own, which a test freezes and wakes; it has to import them from a module."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout
from trying import FakeTI, batch

from airflow_provider_sendoso.operators import sendoso as operators
from airflow_provider_sendoso.sending import posting
from airflow_provider_sendoso.sensors.sendoso import SendStatusSensor


def batch_of(count: int = 8, **changes: Any) -> Any:
    return batch(count, max_in_flight=3, **changes)


def gift(**changes: Any) -> Any:
    person = {"first_name": "Ada", "last_name": "L0", "email": "ada0@example.com"}
    return operators.SendGiftOperator(
        task_id="gifts",
        gift_id="gift-donation-trees",
        recipient=person,
        message="Thank you",
        dedupe_scope="q4",
        **changes,
    )


def landing(**changes: Any) -> Any:
    return operators.SendosoToSqlOperator(
        task_id="gifts", object="sends", table="landed", conn_id="warehouse", **changes
    )


def sensor(**changes: Any) -> Any:
    return SendStatusSensor(task_id="gifts", dedupe_scope="q4", poke_interval=0.2, timeout=600, **changes)


OPERATORS: dict[str, Callable[..., Any]] = {"batch": batch_of, "gift": gift, "landing": landing, "sensor": sensor}


def _stop_as_airflow_2(operator: Any) -> None:
    operator.on_kill()
    raise AirflowException("Task received SIGTERM signal")


def _time_out() -> None:
    raise AirflowTaskTimeout("Timeout, PID: 1")


def a_try(connections: dict[str, Any], what: str, changes: dict[str, Any], results: Any = None) -> dict[str, Any]:
    """
    Run one try as Airflow does; return what it pushed, raised and logged, and the callbacks that it left.

    :param what: a key of :data:`OPERATORS`.
    :param changes: arguments of the operator.
    :param results: a queue, if it is run in another process.
    """
    logged: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: logged.append(f"{record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    logging.getLogger("airflow_provider_sendoso").addHandler(handler)
    logging.getLogger("airflow_provider_sendoso").setLevel(logging.INFO)
    for conn_id, connection in connections.items():
        os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)
    ti = FakeTI(changes.pop("run_id", "run-1"))
    callbacks = {name: lambda context: None for name in ("on_failure_callback", "on_retry_callback")}
    operator = OPERATORS[what](**callbacks, **changes)
    if results is not None:
        posting._MARGIN = 0.1
        signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())  # as Airflow 3 does
        signal.signal(signal.SIGUSR1, lambda *_: _stop_as_airflow_2(operator))
        signal.signal(signal.SIGALRM, lambda *_: _time_out())
    outcome: dict[str, Any] = {"error": "", "returned": None}
    try:
        outcome["returned"] = operator.execute({"ti": ti})
    except BaseException as error:
        outcome["error"] = type(error).__name__
        outcome["words"] = str(error)
    outcome |= {"xcom": ti.xcom, "log": logged}
    outcome["callbacks"] = [name for name in callbacks if getattr(operator, name)]
    logging.getLogger("airflow_provider_sendoso").removeHandler(handler)
    if results is not None:
        results.put(outcome)
    return outcome
