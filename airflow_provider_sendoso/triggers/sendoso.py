"""The trigger behind the sensor: waits in the triggerer, where nothing may block the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_sendoso.client.async_session import shared_session
from airflow_provider_sendoso.client.endpoints import get_send_request
from airflow_provider_sendoso.exceptions import TRANSIENT_ERRORS, SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook, read_send_answer
from airflow_provider_sendoso.waiting import TRANSIENT_FAILURES, Goal, Watch

_SHORTEST_PAUSE = 1.0
"""Seconds between two rounds at the least, whatever ``poke_interval`` says."""


class SendStatusTrigger(BaseTrigger):
    """
    Wait until sends have reached a status, or cannot any more; fires once.

    The event's ``status`` is ``settled`` or ``timeout``, with the ``report`` of the wait, or ``error``, with
    ``message`` and whether it is ``retryable``.

    :param send_ids: the sends, or
    :param batch_id: a batch, whose sends are read from the ledger, or
    :param dedupe_scope: a scope, likewise.
    :param target_statuses: at or beyond one of them counts as reached.
    :param failed_statuses: failures.
    :param poke_interval: seconds between two rounds.
    :param deadline: absolute, epoch seconds: a restart of the triggerer does not extend it.
    :param sendoso_conn_id: the connection.
    """

    def __init__(
        self,
        *,
        send_ids: Sequence[str] | None = None,
        batch_id: str | None = None,
        dedupe_scope: str | None = None,
        target_statuses: Sequence[str] = ("delivered",),
        failed_statuses: Sequence[str] = ("failed", "returned"),
        poke_interval: float = 300.0,
        deadline: float,
        sendoso_conn_id: str = SendosoHook.default_conn_name,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.send_ids = None if send_ids is None else list(send_ids)
        self.batch_id = batch_id
        self.dedupe_scope = dedupe_scope
        self.target_statuses = list(target_statuses)
        self.failed_statuses = list(failed_statuses)
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.sendoso_conn_id = sendoso_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the trigger is made again from, in another process."""
        arguments = (
            "send_ids",
            "batch_id",
            "dedupe_scope",
            "target_statuses",
            "failed_statuses",
            "poke_interval",
            "deadline",
            "sendoso_conn_id",
        )
        path = f"{SendStatusTrigger.__module__}.{SendStatusTrigger.__qualname__}"
        return path, {name: getattr(self, name) for name in arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        try:
            event = await self._wait()
        except SendosoError as error:
            retryable = isinstance(error, TRANSIENT_ERRORS)
            event = {"status": "error", "message": str(error), "retryable": retryable}
        except Exception as error:
            # A defect, or an error of Airflow's own: its text could hold what must not be logged, its class cannot.
            event = {"status": "error", "message": type(error).__name__, "retryable": True}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        goal = Goal.parse(self.target_statuses, self.failed_statuses)
        hook = SendosoHook(self.sendoso_conn_id)
        await hook.aprepare()
        goal.check_host(hook.config.base_url)
        watch = Watch()
        failures = 0
        async with shared_session(hook.session) as session:
            while True:
                try:
                    watch.add(await self._send_ids(hook))
                    for send_id in watch.unsettled(goal):
                        answer = await session.read(get_send_request(send_id))
                        watch.statuses[send_id] = read_send_answer(send_id, answer.json).status
                    failures = 0
                except TRANSIENT_ERRORS as error:
                    failures += 1
                    if failures > TRANSIENT_FAILURES:
                        raise
                    self.log.warning("Could not look at the sends, %d times in a row: %s", failures, error)
                report = watch.report(goal, named=self.send_ids is not None)
                if not failures and not watch.unsettled(goal):
                    return {"status": "settled", "report": report}
                left = self.deadline - time.time()
                if left <= 0:
                    return {"status": "timeout", "report": report}
                await asyncio.sleep(min(max(self.poke_interval, _SHORTEST_PAUSE), left))

    async def _send_ids(self, hook: SendosoHook) -> list[str]:
        if self.send_ids is not None:
            return self.send_ids
        return await asyncio.to_thread(hook.recorded_send_ids, batch_id=self.batch_id, dedupe_scope=self.dedupe_scope)
