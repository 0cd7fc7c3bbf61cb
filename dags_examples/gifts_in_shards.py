"""
A batch in shards: mapped tasks that share one ``dedupe_scope``.

The recipients come from a task, in lists; each list is a batch of its own, with its own counts, retries and log. The
scope is the same for all, so somebody who is in two lists is sent one gift. All shards together keep the account's
rate: more of them make no batch faster, they only keep a bad list from failing the others.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine).
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sendoso.operators.sendoso import BatchSendOperator

with DAG(
    dag_id="gifts_in_shards",
    schedule=None,
    catchup=False,
    params={"campaign": Param("speakers-2026", type="string")},
    tags=["sendoso"],
    doc_md=__doc__,
):

    @task
    def choose_recipients() -> list[list[dict[str, Any]]]:
        """One list for each conference; Grace spoke at both."""
        ada = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}
        grace = {"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com"}
        katherine = {"first_name": "Katherine", "last_name": "Johnson", "email": "katherine@example.com"}
        return [[ada, grace], [grace, katherine]]

    BatchSendOperator.partial(
        task_id="send_gifts",
        gift_id="gift-egift-coffee",
        message="Thank you for your talk, {first_name}.",
        dedupe_scope="{{ params.campaign }}",
    ).expand(recipients=choose_recipients())
