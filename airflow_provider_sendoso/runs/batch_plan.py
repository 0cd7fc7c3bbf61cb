"""The parsed arguments of an operator for many rows. A plan validates itself: one that can be built can be run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sendoso.batch.limits import Limits
from airflow_provider_sendoso.batch.row_reader import Layout
from airflow_provider_sendoso.exceptions import SendosoConfigError
from airflow_provider_sendoso.models import ITEM_FIELDS, Item
from airflow_provider_sendoso.models.words import ANY_PRICE
from airflow_provider_sendoso.runs.base import SendPlan


@dataclass(frozen=True, kw_only=True)
class BatchPlan(SendPlan):
    """
    The plan of a batch: a gift for each row.

    :param layout: how the rows become sends.
    :param sql: the query for the rows; ``None`` if ``recipients`` are given.
    :param recipients: the rows, instead of a query.
    :param conn_id: the connection of the database that is queried and that the tables are written to.
    :param parameters: the query's parameters.
    :param hook_params: keyword arguments of the database's hook.
    :param fail_on_invalid: whether nothing is sent if one row is invalid.
    :param max_invalid: the most invalid rows: a count (``int``), or a share from 0 to 1 (``float``).
    :param fail_on_held: whether the task fails if sends are held.
    :param dry_run: whether nothing is sent.
    :param limits: the limits of the batch.
    :param max_in_flight: concurrent POSTs.
    :param results_table: the table that gets one row for each row that was read.
    """

    layout: Layout = field(repr=False)
    sql: str | None = None
    recipients: Iterable[Mapping[str, Any]] | None = field(default=None, repr=False)
    conn_id: str | None = None
    parameters: Mapping[str, Any] | Sequence[Any] | None = field(default=None, repr=False)
    hook_params: Mapping[str, Any] | None = field(default=None, repr=False)
    fail_on_invalid: bool = False
    max_invalid: float | None = None
    fail_on_held: bool = True
    dry_run: bool = False
    limits: Limits = field(default_factory=Limits)
    max_in_flight: int | None = None
    results_table: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.recipients is None) == (self.sql is None):
            raise SendosoConfigError("Give either sql and conn_id, or recipients; nothing was sent.")
        if self.sql is not None and not self.conn_id:
            raise SendosoConfigError("sql needs conn_id, the connection of the warehouse; nothing was sent.")
        if self.results_table is not None and not self.conn_id:
            raise SendosoConfigError("results_table needs conn_id, the connection of its database; nothing was sent.")

    def owns(self, name: str) -> bool:
        """
        Return whether all rows have the batch's own gift, campaign or variant.

        :param name: of the argument that names it, like ``gift_id``.
        """
        return self.layout.arguments.get(name) is not None

    @property
    def own_item(self) -> Item | None:
        """What all rows are sent; ``None`` if each row names it, or a part of it."""
        given = self.layout.arguments
        named = {name: str(given[name]) for name in ITEM_FIELDS if given.get(name) is not None}
        if "smart_send" in named:
            most = given.get("price_lte_usd")
            named["smart_send"] = ANY_PRICE if most is None else str(most)
        return Item(**named) if named else None

    @property
    def in_words(self) -> str:
        """What the batch sends to whom, in a few words."""
        whom = "recipients" if self.sql is None else f"the rows of sql through {self.conn_id}"
        return f"{self.own_item or 'the gifts that the rows name'} to {whom}"
