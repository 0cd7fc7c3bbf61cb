"""The trigger behind the status sensor; it runs in the triggerer, where nothing may block the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_sendoso.client.async_session import AsyncSendosoSession, shared_session
from airflow_provider_sendoso.exceptions import TRANSIENT_ERRORS, SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.triggers.events import SendosoEventTrigger
from airflow_provider_sendoso.waiting.goal import Goal, status_line
from airflow_provider_sendoso.waiting.wait import Wait
from airflow_provider_sendoso.waiting.wakeups import Subscription, subscribe

if TYPE_CHECKING:
    from airflow_provider_sendoso.ledger.wakeups import Wakeup
    from airflow_provider_sendoso.runs.results_refresh import ResultsRefresh

__all__ = ["SendStatusTrigger", "SendosoEventTrigger"]

log = logging.getLogger(__name__)

_SHORTEST_PAUSE = 1.0
"""Shortest time between two rounds, in seconds, even if ``poke_interval`` is less."""

_SILENCE = 3600.0
"""Longest time between two lines in the log, in seconds, if no status changes."""

_LAST_LOOK = 10.0
"""Seconds that the last round may take beyond the deadline."""


class SendStatusTrigger(BaseTrigger):
    """
    Wait until each send has reached a target status or can no longer reach one; fires once.

    The event's ``status`` is ``settled`` or ``timeout`` with a ``report``, or ``error`` with ``message`` and
    ``retryable``.

    A round checks only the sends that are due (see ``SendStatusSensor``). With webhooks there is a round between, for
    the sends that one has named. Give exactly one of the first four parameters.

    :param send_ids: the sends' ids.
    :param list_id: id of a list of sends that the hook has stored in the ledger; used if the sends are many.
    :param batch_id: a batch, whose sends are read from the ledger.
    :param dedupe_scope: a scope, whose sends are read from the ledger.
    :param target_statuses: a status at or beyond one of them counts as reached.
    :param failed_statuses: statuses that count as failures.
    :param poke_interval: seconds between two rounds.
    :param results_table: the results table whose statuses are updated on the way; ``None``: none is.
    :param conn_id: the connection of that table.
    :param deadline: epoch seconds; absolute, so that a restart of the triggerer does not extend the wait.
    :param sendoso_conn_id: the connection.
    """

    def __init__(
        self,
        *,
        send_ids: Sequence[str] | None = None,
        list_id: str | None = None,
        batch_id: str | None = None,
        dedupe_scope: str | None = None,
        target_statuses: Sequence[str] = ("delivered",),
        failed_statuses: Sequence[str] = ("failed", "returned"),
        poke_interval: float = 300.0,
        deadline: float,
        results_table: str | None = None,
        conn_id: str | None = None,
        sendoso_conn_id: str = SendosoHook.default_conn_name,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.send_ids = None if send_ids is None else list(send_ids)
        self.list_id = list_id
        self.batch_id = batch_id
        self.dedupe_scope = dedupe_scope
        self.target_statuses = list(target_statuses)
        self.failed_statuses = list(failed_statuses)
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.results_table = results_table
        self.conn_id = conn_id
        self.sendoso_conn_id = sendoso_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which another process rebuilds the trigger."""
        arguments = (
            "send_ids",
            "list_id",
            "batch_id",
            "dedupe_scope",
            "target_statuses",
            "failed_statuses",
            "poke_interval",
            "deadline",
            "sendoso_conn_id",
            # A triggerer of the release before does not know these.
            *(() if self.results_table is None else ("results_table", "conn_id")),
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
            # A defect, or an error of Airflow's own: its text could hold a secret, its class cannot.
            event = {"status": "error", "message": type(error).__name__, "retryable": True}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        goal = Goal.parse(self.target_statuses, self.failed_statuses)
        hook = SendosoHook(self.sendoso_conn_id)
        await hook.aprepare()
        goal.check_host(hook.config.base_url)
        wait = Wait(
            hook,
            goal,
            max(self.poke_interval, _SHORTEST_PAUSE),
            send_ids=self.send_ids,
            list_id=self.list_id,
            batch_id=self.batch_id,
            dedupe_scope=self.dedupe_scope,
        )
        results = self._results(hook)
        told, told_at = "", 0.0
        heard: list[Wakeup] | None = None
        every_send_at = 0.0
        async with shared_session(hook.session) as session, subscribe(hook) as subscription:
            while True:
                if heard is None:
                    every_send_at = time.monotonic() + wait.every
                await self._round(wait, session, heard)
                if heard is not None and not wait.has_open:
                    heard = None  # what the ledger knows of is over: has it more sends by now?
                    continue
                wait.complain()
                # In a thread, because a round of thousands of sends would hold up the other triggers.
                report = await asyncio.to_thread(wait.watch.report, goal, named=wait.named)
                if wait.is_over():
                    return {"status": "settled", "report": report}
                left = self.deadline - time.time()
                if left <= 0:
                    return {"status": "timeout", "report": report}
                line = status_line(report)
                if line != told or time.monotonic() - told_at > _SILENCE:
                    log.info("Sends by status: %s.", line)
                    told, told_at = line, time.monotonic()
                if results is not None:
                    await asyncio.to_thread(results.write_on_the_way, report, wait.watch.changes)
                    left = max(0.0, self.deadline - time.time())
                heard = await self._pause(wait, subscription, min(every_send_at - time.monotonic(), left))

    def _results(self, hook: SendosoHook) -> ResultsRefresh | None:
        # Imported here, because a DAG file may import this module, and few waits have such a table.
        from airflow_provider_sendoso.runs.results_refresh import ResultsRefresh

        if self.results_table is None:
            return None
        return ResultsRefresh(hook, self.results_table, str(self.conn_id), self.batch_id, self.dedupe_scope)

    async def _pause(self, wait: Wait, subscription: Subscription, seconds: float) -> list[Wakeup] | None:
        """
        Wait until it is time to look at every send, or until webhooks have named some.

        :return: what was heard, for a round of these sends alone; ``None`` if the time is over.
        """
        if wait.watch.dead_rounds:
            # While Sendoso does not answer, webhooks must not make the wait give up sooner than without them.
            await asyncio.sleep(seconds)
            return None
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            walk_in = wait.watch.wait_for_walk(time.time())
            soon = walk_in is not None and walk_in < left
            heard = await subscription.wait(min(left, walk_in or 0.0) if soon else left)
            if heard or soon:
                return heard
        return None

    async def _round(self, wait: Wait, session: AsyncSendosoSession, heard: Sequence[Wakeup] | None = None) -> None:
        """
        Check the sends that are due, and stop at the deadline; write to the ledger the statuses read by then.

        :param heard: what webhooks have said, for a round of these sends alone; ``None``: of all that are due.
        """
        try:
            due = await asyncio.to_thread(wait.recall if heard is None else partial(wait.recall_woken, heard))
            if heard is not None and not due:
                return  # they named sends of others
        except TRANSIENT_ERRORS as error:
            wait.watch.fail_round(error)
            return
        left = self.deadline - time.time()
        try:
            async with asyncio.timeout(left if left > 0 else _LAST_LOOK):
                await self._look(wait, session)
        except TimeoutError:
            pass
        finally:
            await asyncio.to_thread(wait.write)

    async def _look(self, wait: Wait, session: AsyncSendosoSession) -> None:
        async def keep() -> None:
            if wait.has_news:
                await asyncio.to_thread(wait.write)

        await session.walk(wait.begin(), keep)
