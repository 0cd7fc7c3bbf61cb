"""
Test a Sendoso connection from a task: what the button *Test Connection* does, where Airflow has it switched off.

Trigger the DAG with the connection's id. The log of the task says who the connection is for Sendoso, what is left to
spend, the rate, and whether the ledger answers; or the task fails and says what is wrong. Nothing is sent.

It also tests what the button cannot: that the machines which run the tasks, and not only the one with the UI, reach
Sendoso and the ledger.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Param, task

with DAG(
    dag_id="sendoso_check",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={"sendoso_conn_id": Param("sendoso_default", type="string", minLength=1, title="Connection")},
):

    @task
    def check(params: Any = None) -> None:
        """Log what the connection is good for, or fail with what is wrong."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        works, words = SendosoHook(params["sendoso_conn_id"]).test_connection()
        if not works:
            raise AirflowFailException(words)
        logging.getLogger(__name__).info("%s", words)

    check()
