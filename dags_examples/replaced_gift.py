"""
A gift that failed or came back is replaced, once.

Trigger it with the id of the send that came back, as Sendoso, a results table or a failed sensor names it, and with the
address that is right now. The replacement is allowed only for a send that the ledger knows as failed or returned, and
there is at most one of it, however often the DAG is run.

Set the connections ``sendoso_default`` (client ID and client secret) and ``sendoso_ledger``, the same ledger that the
first send was made with.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_sendoso.operators.sendoso import SendGiftOperator

with DAG(
    dag_id="replaced_gift",
    schedule=None,
    catchup=False,
    tags=["sendoso"],
    doc_md=__doc__,
    params={
        "resend_of": Param("", type="string", minLength=1, title="Send", description="The id of what came back"),
        "first_name": Param("Ada", type="string", minLength=1),
        "last_name": Param("Lovelace", type="string", minLength=1),
        "email": Param("ada@example.com", type="string", format="email"),
        "line1": Param("12 St James's Square", type="string", minLength=1),
        "city": Param("London", type="string", minLength=1),
        "postal_code": Param("SW1Y 4JH", type="string", minLength=1),
        "country": Param("GB", type="string", minLength=2, maxLength=2),
    },
):
    SendGiftOperator(
        task_id="send_again",
        resend_of="{{ params.resend_of }}",
        gift_id="gift-mug",
        recipient={
            "first_name": "{{ params.first_name }}",
            "last_name": "{{ params.last_name }}",
            "email": "{{ params.email }}",
            "address": {
                "line1": "{{ params.line1 }}",
                "city": "{{ params.city }}",
                "postal_code": "{{ params.postal_code }}",
                "country": "{{ params.country }}",
            },
        },
        message="The post brought the first one back, {{ params.first_name }}. Here it is once more.",
    )
