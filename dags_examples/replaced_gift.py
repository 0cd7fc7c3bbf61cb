"""
A gift that failed or came back is replaced, once.

Trigger it with the id of the send that came back, as Sendoso, a results table or a failed sensor names it, and with the
customer's id; the warehouse has the address that is right now. The replacement is allowed only for a send that the
ledger knows as failed or returned, and there is at most one of it, however often the DAG is run.

Set the connections ``sendoso_default`` (client ID and client secret), ``sendoso_ledger`` (the same ledger that the
first send was made with) and ``warehouse`` (a database with a table ``champions``).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, Param

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator


@cache
def customer(customer_id: str) -> dict[str, str]:
    """
    Look a customer up in the task, once for all of its templates.

    What a run is triggered with stays in its conf and in Airflow's audit log, so that is the id alone.
    """
    warehouse: Any = BaseHook.get_hook("warehouse")
    columns = "given_name, family_name, email, address_line1, address_city, address_postal_code, address_country"
    query = f"SELECT {columns} FROM champions WHERE customer_id = {warehouse.placeholder}"  # noqa: S608
    row = warehouse.get_first(query, parameters=[customer_id])
    if row is None:
        raise LookupError(f"There is no customer {customer_id}.")
    return dict(zip(("first_name", "last_name", "email", "line1", "city", "postal_code", "country"), row, strict=True))


with DAG(
    dag_id="replaced_gift",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    user_defined_macros={"customer": customer},
    params={
        "resend_of": Param("", type="string", minLength=1, title="Send", description="The id of what came back"),
        "customer_id": Param("C-1", type="string", minLength=1),
    },
):
    SendGiftOperator(
        task_id="send_again",
        resend_of="{{ params.resend_of }}",
        gift_id="gift-mug",
        recipient={
            "first_name": "{{ customer(params.customer_id).first_name }}",
            "last_name": "{{ customer(params.customer_id).last_name }}",
            "email": "{{ customer(params.customer_id).email }}",
            "address": {
                "line1": "{{ customer(params.customer_id).line1 }}",
                "city": "{{ customer(params.customer_id).city }}",
                "postal_code": "{{ customer(params.customer_id).postal_code }}",
                "country": "{{ customer(params.customer_id).country }}",
            },
        },
        message="The post brought the first one back, {{ customer(params.customer_id).first_name }}. Once more:",
    )
