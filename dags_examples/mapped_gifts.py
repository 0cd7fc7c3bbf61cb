"""
Different gifts for a few people, one mapped task each, from a list that is made at run time.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine).

Mapping shows every person as a task of its own, to be retried or cleared alone. Airflow starts two or three mapped
tasks a second, so send more than a few dozen gifts with ``BatchSendOperator``: see ``champions_campaign.py``.

What the first task returns is data: the operator does not render templates in it, so that a person who is called
``{{ conn.get('sendoso_default').password }}`` is refused, and not sent a secret. Templates belong into ``partial()``.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator

with DAG(dag_id="mapped_gifts", schedule=None, catchup=False, tags=["sendoso"], doc_md=__doc__):

    @task
    def choose_gifts() -> list[dict[str, Any]]:
        """A placeholder for your own source of recipients and gifts; each dict holds arguments of the operator."""
        return [
            {
                "gift_id": "gift-egift-books",
                "recipient": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
            },
            {
                "gift_id": "gift-egift-coffee",
                "recipient": {"first_name": "Alan", "last_name": "Turing", "email": "alan@example.com"},
            },
            {
                "gift_id": "gift-donation-trees",
                "recipient": {"first_name": "Wangari", "last_name": "Maathai", "email": "wangari@example.org"},
            },
        ]

    SendGiftOperator.partial(
        task_id="send",
        # Rendered for each mapped task; what it takes from the data is not rendered again.
        message="Thank you, {{ task.recipient.first_name }}.",
        # The default scope is this task in this run, whatever the map index: someone who is in the list twice is
        # sent one gift.
    ).expand_kwargs(choose_gifts())
