"""
The hook in a task of one's own: the catalogue decides which gift is sent.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger`` (a PostgreSQL or MySQL
database, or a SQLite file for a single machine). The catalogue is read each time the task runs, never when the DAG is
parsed.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Param, task

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator

with DAG(
    dag_id="choose_a_gift",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={"max_price": Param(25, type="number", minimum=0, description="In the currency of the catalogue")},
):

    @task
    def dearest_egift(params: dict | None = None) -> str:
        """Return the id of the dearest eGift that may be sent; an eGift needs no address."""
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook

        most = params["max_price"]
        gifts = SendosoHook().list_gifts(category="egift", max_price=most)
        prices = {gift.id: gift.price for gift in gifts if gift.price is not None and gift.price <= most}
        if not prices:
            raise AirflowFailException(f"The catalogue has no eGift for {most} or less. Nothing was sent.")
        return max(prices, key=prices.__getitem__)

    SendGiftOperator(
        task_id="thank",
        gift_id=dearest_egift(),
        recipient={"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        message="Thank you, Ada.",
    )
