"""
Look at the sends whose outcome is not known, and decide about them: the ledger's desk, where there is no shell.

A send is *held* when it was posted and nobody knows what became of it. It is never sent again on a guess; a person
looks for it in Sendoso and says here what they found. Set the connections ``sendoso_default`` and ``sendoso_ledger``,
trigger the DAG with the action *list*, read the log of the task ``list_open``, look in Sendoso, and trigger it again
with the action *resolve*. What was decided, by whom and why is written into the ledger.

The task ``show_budget`` logs, at each run, what was spent of the limits of this day, this month and each scope, and
what is left.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator

SHOWN = 100
"""Sends that the log names before it only counts."""


def optional(title: str, description: str) -> Param:
    """Make a field that may stay empty."""
    return Param(None, type=["null", "string"], title=title, description=description)


with DAG(
    dag_id="sendoso_ledger",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={
        "action": Param(
            "list",
            type="string",
            enum=["list", "resolve"],
            title="Action",
            description="List what is open, or decide about it. Listing decides nothing.",
        ),
        "batch_id": optional("Batch", "Only this batch: the batch_id in a batch task's XCom and log."),
        "dedupe_scope": optional("Scope", "Or only this dedupe_scope."),
        "reason": optional("Reason", "Of the batch or scope only the sends with this reason, like http_500."),
        "send_keys": optional("Send keys", "Or these sends: their keys from the list, with commas between them."),
        "resolution": Param(
            "sent",
            type="string",
            enum=["sent", "not_sent"],
            title="What you found out",
            description="sent: the gifts are in Sendoso. not_sent: they are not, and the next run sends them AGAIN.",
        ),
        "send_id": optional("Send id", "Sendoso's id of the gift that you found, for one send; a sensor needs it."),
        "why": optional("Why", "How you know. It is kept, so name nobody. Required to resolve."),
    },
):

    @task
    def list_open(params: Any = None) -> list[dict[str, Any]]:
        """Log the open sends, and return how many there are by batch and reason; neither says who they are for."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook
        from airflow_provider_sendoso.ledger import decisions

        log = logging.getLogger(__name__)
        hook = SendosoHook()
        where = {name: params[name] or None for name in ("batch_id", "dedupe_scope", "reason")}
        counts: Counter[tuple[str, str, str, str | None]] = Counter()
        for number, record in enumerate(decisions.find(hook.ledger, hook.config.account, **where), 1):
            counts[record.dedupe_scope, record.batch_id, record.state.value, record.reason] += 1
            if number <= SHOWN:
                for line in decisions.as_lines(decisions.describe(hook.ledger, record)):
                    log.info("%s", line)
        log.info("%d sends are open, %d of them shown.", counts.total(), min(counts.total(), SHOWN))
        names = ("dedupe_scope", "batch_id", "state", "reason")
        counted = [dict(zip(names, key, strict=True)) | {"sends": sends} for key, sends in counts.most_common()]
        for count in counted:
            log.info("%s", ", ".join(f"{name} {value}" for name, value in count.items()))
        return counted

    @task
    def show_budget() -> list[dict[str, Any]]:
        """Log what was spent of this day, this month and the scopes that have limits, and return it."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        log = logging.getLogger(__name__)
        hook = SendosoHook()
        lines = hook.ledger.budget.lines(hook.config.account, hook.config.spending)
        for line in lines:
            for said in line.as_lines():
                log.info("%s", said)
        return [line.as_json() for line in lines]

    @task.short_circuit
    def to_be_resolved(params: Any = None) -> bool:
        return bool(params["action"] == "resolve")

    resolve = ResolveHeldOperator(
        task_id="resolve",
        batch_id="{{ params.batch_id }}",
        dedupe_scope="{{ params.dedupe_scope }}",
        reason="{{ params.reason }}",
        send_keys="{{ params.send_keys }}",
        resolution="{{ params.resolution }}",
        send_id="{{ params.send_id }}",
        why="{{ params.why }}",
        # Only what may still be being posted is worth another try, and settles within a minute or two.
        retries=3,
        retry_delay=timedelta(minutes=1),
    )

    list_open() >> to_be_resolved() >> resolve
    show_budget()
