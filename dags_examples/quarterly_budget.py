"""
One budget for a quarter, whatever sends: batches, single gifts, and a gift only to who has had none for 90 days.

The tasks share a ``dedupe_scope`` named after the quarter, and each sets the same limits on it. The ledger keeps them:
ten tasks at once do not pass them, and what does not fit is not sent. Who was sent anything of the account within 90
days, in whatever scope, is left out as *capped*. ``airflow sendoso ledger budget`` shows what is left, and so does the
DAG ``sendoso_ledger``.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine).
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator, SendGiftOperator

BUDGET: dict[str, Any] = {
    "dedupe_scope": "{{ params.quarter }}",
    "scope_max_cost": "{{ params.budget }}",
    "scope_max_sends": 200,
    "min_days_between_gifts": 90,
}

with DAG(
    dag_id="quarterly_budget",
    schedule=None,
    catchup=False,
    params={
        "quarter": Param("2026-q4", type="string"),
        "budget": Param(2500, type="number", minimum=0, title="Budget", description="Of the whole quarter, in USD."),
    },
    tags=["sendoso"],
    doc_md=__doc__,
):

    @task
    def choose_recipients() -> list[list[dict[str, Any]]]:
        """One list for each team; Grace is on both, and is sent one gift."""
        ada = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
        grace = {"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com"}
        katherine = {"first_name": "Katherine", "last_name": "Johnson", "email": "katherine@example.com"}
        return [[ada, grace], [grace, katherine]]

    teams = BatchSendOperator.partial(
        task_id="teams", gift_id="gift-egift-coffee", message="Thank you, {first_name}.", **BUDGET
    ).expand(recipients=choose_recipients())

    chair = SendGiftOperator(
        task_id="chair",
        gift_id="gift-egift-dinner",
        recipient={"first_name": "Mary", "last_name": "Jackson", "email": "mary@example.com"},
        message="Thank you, Mary.",
        **BUDGET,
    )

    teams >> chair
