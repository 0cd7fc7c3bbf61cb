"""DAGs whose tasks return texts that look like templates, beside real templates of the DAG's author."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task, task_group

from airflow_provider_sendoso.operators.ledger import ResolveHeldOperator
from airflow_provider_sendoso.operators.sendoso import (
    BatchSendOperator,
    EgiftLinksOperator,
    SendGiftOperator,
    SendosoToSqlOperator,
)
from airflow_provider_sendoso.sensors.sendoso import SendosoEventSensor, SendStatusSensor

STEAL = "{{ conn.get('vault').password }}"
ONCE = "{{ '{' }}{ conn.get('vault').password {{ '}}' }}"
"""A template that renders to the other one, which must not be rendered then."""


def person(name: str, first_name: str = "Ada") -> dict[str, Any]:
    return {"first_name": first_name, "last_name": "Lovelace", "email": f"{name}@example.com"}


def told(name: str) -> dict[str, Any]:
    """Arguments that are data; metadata is not printed on a card, so that it shows what was sent as it is."""
    return {"recipient": person(name), "metadata": {"data": STEAL, "deep": f"{name} {STEAL}"}}


class Thanks(SendGiftOperator):
    """An operator of an author's own, with a template as a default, and one that it makes of what it is given."""

    def __init__(self, *, who: str, message: str = "{{ params.word }} by default", **kwargs: Any) -> None:
        super().__init__(recipient=person("own", who), message=message, **kwargs)


with DAG(
    "mapped",
    schedule=None,
    default_args={"message": "{{ params.word }} by default"},
    params={"word": "Thanks", "conf": ""},
):
    gift = {"gift_id": "gift-egift-books"}

    @task
    def arguments(*names: str) -> list[dict[str, Any]]:
        return [told(name) for name in names]

    @task
    def one(name: str) -> dict[str, Any]:
        return told(name)

    @task
    def people(*names: str, first_name: str = STEAL) -> list[dict[str, Any]]:
        return [person(name, first_name) for name in names]

    @task
    def steal() -> str:
        return STEAL

    @task
    def words(*, of: str) -> list[dict[str, Any]]:
        return [{of: STEAL}]

    authors = {"team_id": "{{ params.word }}"}
    SendGiftOperator.partial(task_id="kwargs", **gift, **authors).expand_kwargs(arguments("kwargs1", "kwargs2"))
    SendGiftOperator.partial(task_id="kwargs_map", **gift).expand_kwargs(
        arguments("map").map(lambda given: given | {"message": given["metadata"]["data"]})
    )
    SendGiftOperator.partial(task_id="kwargs_concat", **gift, message="{{ params.word }}").expand_kwargs(
        arguments("first").concat(arguments("second"))
    )
    SendGiftOperator.partial(task_id="kwargs_list", **gift).expand_kwargs(
        [
            one("element"),
            {"recipient": person("literal", "{{ params.word }}"), "metadata": {"data": ONCE}},
        ]
    )
    SendGiftOperator.partial(task_id="expand", **gift).expand(recipient=people("expand"))
    SendGiftOperator.partial(task_id="expand_metadata", **gift, recipient=person("both", "{{ params.word }}")).expand(
        metadata=arguments("x").map(lambda given: given["metadata"]), team_id=["{{ params.word }}"]
    )
    SendGiftOperator(task_id="output", **gift, recipient=person("output"), metadata=one("output")["metadata"])
    SendGiftOperator(
        task_id="nested",
        **gift,
        recipient=person("nested", "{{ params.word }}"),
        metadata={"data": steal(), "pulled": "{{ ti.xcom_pull(task_ids='steal') }}", "conf": "{{ params.conf }}"},
    )
    Thanks.partial(task_id="own", **gift).expand(who=people("x").map(lambda given: given["first_name"]))
    BatchSendOperator.partial(task_id="batch", **gift, dedupe_scope="{{ params.word }}").expand_kwargs(
        arguments("batch").map(lambda given: {"recipients": [given["recipient"] | {"metadata": given["metadata"]}]})
    )
    BatchSendOperator(task_id="rows", **gift, dedupe_scope="rows", recipients=people("row"))
    BatchSendOperator.partial(
        task_id="sql", **gift, message="Hello", dedupe_scope="sql", sql="SELECT 1", conn_id="warehouse"
    ).expand_kwargs(words(of="results_table"))
    EgiftLinksOperator.partial(
        task_id="links", touch_id=1, dedupe_scope="links", links_table="links", conn_id="warehouse"
    ).expand_kwargs(people("link").map(lambda given: {"recipients": [given], "row_ref": given["first_name"]}))
    SendStatusSensor.partial(task_id="sensor", timeout=1).expand_kwargs(words(of="send_id"))
    SendosoEventSensor.partial(task_id="event", timeout=1).expand_kwargs(words(of="object"))
    ResolveHeldOperator.partial(task_id="resolve", resolution="sent", why="seen").expand_kwargs(
        words(of="dedupe_scope")
    )
    SendosoToSqlOperator.partial(task_id="land", object="users", conn_id="warehouse").expand_kwargs(words(of="table"))

    @task_group
    def group(recipient: dict[str, Any], metadata: dict[str, Any]) -> None:
        SendGiftOperator(task_id="send", **gift, recipient=recipient, metadata=metadata)

    group.expand_kwargs(arguments("group"))
