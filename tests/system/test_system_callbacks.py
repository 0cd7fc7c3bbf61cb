"""A gift as a callback, in a real Airflow: of a task, of a run, of a missed deadline, and of one that is killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="A whole Airflow is driven by the REST API and the commands of Airflow 3.3"
    ),
]

SENDS = "/api/v3/sends"


def test_callbacks_of_a_task_and_of_a_run_send_once_each_however_often_they_run(
    stage: Callable[[str], Any],
) -> None:
    with stage("callbacks_send") as here:
        run_id = here.trigger()
        here.wait_until(lambda: len(here.sandbox.sends) == 2, "a gift from each callback")
        assert here.emails() == ["run@example.com", "task@example.com"]
        assert {send.body["message"] for send in here.sandbox.sends} == {"Run callbacks_send"}
        assert here.wait_for_end(run_id) == "success"
        here.clear(run_id)
        here.wait_for_try(run_id, 2)
        here.wait_until(lambda: "Sent earlier: send-" in here.log(run_id), "the task's callback has run again")
        assert here.wait_for_end(run_id) == "success"
        assert len(here.sandbox.sends) == 2
        scopes = here.ask_ledger("SELECT dedupe_scope FROM sendoso_batches ORDER BY dedupe_scope")
        assert scopes == [(f"callbacks_send/{run_id}/callback",), (f"callbacks_send/send/{run_id}/callback",)]


def test_the_send_of_a_killed_callback_is_found_by_the_next_callback_and_not_sent_again(
    stage: Callable[[str], Any],
) -> None:
    with stage("callback_is_killed") as here:
        here.sandbox.fault("slow", method="POST", path=SENDS, delay=60.0)
        run_id = here.trigger()
        here.wait_until(lambda: here.sandbox.sends, "Sendoso has accepted it and not answered")
        assert here.task(run_id)["state"] == "success"
        psutil.Process(here.task(run_id)["pid"]).kill()
        assert here.ask_ledger("SELECT state FROM sendoso_sends") == [("POSTING",)]

        here.ask_ledger("UPDATE sendoso_sends SET lease_until = 0 RETURNING 1")
        assert here.wait_for_end(run_id) == "success"
        here.clear(run_id)
        here.wait_for_try(run_id, 2)
        here.wait_until(lambda: here.ask_ledger("SELECT state FROM sendoso_sends") == [("SENT",)], "it is found")
        here.wait_until(lambda: f"Sent earlier: {here.sandbox.sends[0].id}" in here.log(run_id), "the log says so")
        assert len(here.sandbox.sends) == 1


def test_a_missed_deadline_sends_from_the_triggerer(stage: Callable[[str], Any]) -> None:
    with stage("deadline_is_missed") as here:
        run_id = here.trigger()
        here.wait_until(lambda: here.sandbox.sends, "its gift")
        (send,) = here.sandbox.sends
        assert (send.body["email"], send.body["message"]) == ("ada@example.com", "Run deadline_is_missed")
        scopes = here.ask_ledger("SELECT dedupe_scope FROM sendoso_batches")
        assert scopes == [(f"deadline_is_missed/{run_id}/callback",)]
