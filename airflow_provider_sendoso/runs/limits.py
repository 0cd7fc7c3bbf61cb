"""The limits of a run: those of its arguments and those of its connection, which may change while it runs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from airflow_provider_sendoso.batch.pricing import Prices
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger.records import Batch
from airflow_provider_sendoso.models.spending import Price, SpendingLimits

_LOOK_AGAIN = 60.0
"""Seconds after which the connection is read again: a batch may run for a day, and its owner lower a limit."""


class RunLimits:
    """
    The limits that the ledger keeps for a run; called by the run's own thread, it returns them as they are now.

    :param hook: reads the connection.
    :param spending: the limits that the operator or notifier sets.
    :param log: the logger of the task.
    """

    def __init__(self, hook: SendosoHook, spending: SpendingLimits, log: Any) -> None:
        self._hook = hook
        self._spending = spending
        self._log = log
        self._read_at = time.monotonic()
        self._limits: SpendingLimits | None = None

    def __call__(self) -> SpendingLimits:
        if self._limits is None:
            self._limits = self._with(self._hook.config)
        elif time.monotonic() - self._read_at > _LOOK_AGAIN:
            self._read_at = time.monotonic()
            try:
                now = self._with(self._hook.read_config())
            except Exception as error:  # Airflow's API or secrets backend does not answer, in whatever way
                self._log.warning("The connection could not be read again, so its limits stay as they were: %s", error)
                return self._limits
            if now != self._limits:
                self._log.info("The limits of the connection %r have changed.", self._hook.sendoso_conn_id)
                self._limits = now
        return self._limits

    def _with(self, config: ClientConfig) -> SpendingLimits:
        mine = self._spending
        days = mine.min_days_between_gifts
        return replace(
            config.spending,
            scope_max_sends=mine.scope_max_sends,
            scope_max_cost=mine.scope_max_cost,
            min_days_between_gifts=config.min_days_between_gifts if days is None else days,
        )

    def price_earlier(self, batch: Batch, prices: Prices) -> None:
        """
        Store a price with earlier sends that have none, because no cost was limited when they were made.

        :param batch: the batch, whose scope and account are limited.
        :param prices: the prices, as they are now.
        :raises SendosoError: if the ledger does not answer.
        """
        limits, budget = self(), self._hook.ledger.budget
        for item, sends in budget.unpriced(batch.account, batch.dedupe_scope, limits).items():
            try:
                price: Price | str = prices.of(item)
            except SendosoError as error:
                price = str(error)
            if isinstance(price, Price):
                budget.set_price(batch.account, batch.dedupe_scope, limits, item, price)
            else:
                self._log.warning(
                    "%d earlier sends of the %s have no stored price and count as 0 in the limits on cost: %s.",
                    sends,
                    item,
                    price,
                )
