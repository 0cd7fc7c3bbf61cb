"""Airflow with the retry policy: the pauses differ, and the result is the same as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow before 3.3 has no retry policies"),
]

SENDS = "/api/v3/sends"


def planned(here: Any, run_id: str) -> tuple[str, float | None, str | None]:
    """The task's state, and the pause and its reason that Airflow has written down."""
    database = here.airflow.metadata
    with psycopg.connect(host=database.socket_dir, user="postgres", dbname=database.name) as connection:
        columns = "state, retry_delay_override, retry_reason"
        query = f"SELECT {columns} FROM task_instance WHERE dag_id = %s AND run_id = %s"
        return connection.execute(query, (here.dag_id, run_id)).fetchone()


def after_a_try(here: Any, state: str) -> tuple[str, float | None, str | None]:
    run_id = here.trigger()
    here.wait_until(lambda: planned(here, run_id)[0] == state, f"the task is {state}")
    return planned(here, run_id)


@pytest.mark.parametrize(
    ("dag_id", "pause", "reason"),
    [
        ("retried_by_policy", 2000.0, "Sendoso asked to wait 2000 s (429)."),
        ("retried_without_policy", None, None),
    ],
)
def test_the_pause_after_a_429_is_what_sendoso_asked_for(
    stage: Callable[[str], Any], dag_id: str, pause: float | None, reason: str | None
) -> None:
    with stage(dag_id) as here:
        here.sandbox.fault("throttle", times=10**6, method="POST", path=SENDS, retry_after=2000)
        assert after_a_try(here, "up_for_retry") == ("up_for_retry", pause, reason)
        assert here.sandbox.sends == []
    # What retrying cannot mend is over after one try, with the policy and without. It has a ledger of its own: by the
    # first one, nobody of the account calls for the two minutes that are waited out of what a 429 asks for.
    with stage(dag_id) as here:
        here.sandbox.fault("status", method="POST", path=SENDS, status=422)
        assert after_a_try(here, "failed") == ("failed", None, None)
        assert here.sandbox.sends == []
