"""Waits that webhooks wake: the real trigger of the status sensor, over a hook of the world's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

from airflow_provider_sendoso.client.answers import Answer
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.session import SendosoSession
from airflow_provider_sendoso.hooks.recorded import Recorded
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.triggers import sendoso as triggers
from explorer.scheduler import Broken, Process
from explorer.stdlib import finish, here


class Hook(Recorded):
    """
    Stands in for the hook of one process.

    :param config: of the connection.
    :param ledger: of the process.
    :param session: of the process.
    """

    def __init__(self, config: ClientConfig, ledger: Ledger, session: SendosoSession) -> None:
        self._config, self._own, self.session = config, ledger, session

    @property
    def config(self) -> ClientConfig:
        """The connection."""
        return self._config

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self._own

    @property
    def _ledger(self) -> Ledger | None:
        return self._own

    async def aprepare(self) -> None:
        """Do nothing: there is no connection to look up."""


class _Session:
    """Stands in for the session over ``aiohttp``: each coroutine has a thread of the world, which may block."""

    def __init__(self, session: SendosoSession) -> None:
        self._session = session

    async def walk(self, steps: Generator[Request, Answer, Any], after: Callable[[], Coroutine[Any, Any, None]]) -> Any:
        return self._session.walk(steps, lambda: finish(after()))


_hooks: dict[Process, Hook] = {}
"""Of the processes that wait in the present schedule."""


@asynccontextmanager
async def _shared_session(session: SendosoSession) -> AsyncIterator[_Session]:
    yield _Session(session)


def wait(hook: Hook, every: float, **which: Any) -> dict[str, Any]:
    """
    Wait as a triggerer does, in the process that is going.

    :param hook: of this process.
    :param every: seconds between two polls.
    :param which: the sends, as for the trigger.
    :return: the trigger's event.
    :raises Broken: if the trigger has a defect.
    """
    vars(triggers)["SendosoHook"] = lambda conn_id: _hooks[here().process]
    vars(triggers)["shared_session"] = _shared_session
    _hooks[here().process] = hook
    try:
        trigger = triggers.SendStatusTrigger(**which, poke_interval=every, deadline=1e12, sendoso_conn_id="sendoso")
        event: dict[str, Any] = finish(trigger.run().__anext__()).payload  # type: ignore[arg-type]
    finally:
        del _hooks[here().process]
    if event["status"] == "error" and str(event["message"]).isidentifier():
        raise Broken(f"crash: a wait ended with {event['message']}")
    return event
