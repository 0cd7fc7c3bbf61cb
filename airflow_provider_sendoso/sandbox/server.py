"""Runs the sandbox in a thread: for a test's ``with`` block, and for the command line."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from airflow_provider_sendoso.sandbox.account import Account, Send
from airflow_provider_sendoso.sandbox.app import App
from airflow_provider_sendoso.sandbox.campaigns import Campaigns
from airflow_provider_sendoso.sandbox.journal import Journal
from airflow_provider_sendoso.sandbox.pace import Pace
from airflow_provider_sendoso.sandbox.tokens import Tokens
from airflow_provider_sendoso.sandbox.tracker import CampaignSend
from airflow_provider_sendoso.sandbox.traffic import Received
from airflow_provider_sendoso.sandbox.webhooks import RETRIES, SECRET, Attempt

_T = TypeVar("_T")

# Short, because an answer that a fault delays must not keep the sandbox from stopping.
_SHUTDOWN_SECONDS = 0.2


class Sandbox:
    """
    A local Sendoso that sends nothing to anyone.

    It is a context manager. After :meth:`stop`, its records can still be read, and :meth:`start` starts it again on the
    same port, as after an outage.

    :param host: the interface to listen on
    :param port: the port; 0 for any free port
    :param step: seconds from one status of a send to the next; with 0 every send has its last status at once
    :param rate: requests per client in any sliding second (published: 10); 0 for no limit
    :param marketplace_rate: requests per client to the marketplace and SmartSend in any sliding minute (published:
        100); 0 for no limit
    :param retry_after: seconds in the ``Retry-After`` of a 429; ``None`` leaves the header out
    :param state: the file that stores the sends over a restart
    :param client_id: the id of the only client
    :param client_secret: the secret of that client
    :param token_lifetime: seconds for which an access token is valid (seed, published: 7200)
    :param order: the order of the Send Tracker's list, ``newest_first`` (inferred) or ``oldest_first``
    :param webhook_url: the address to which webhooks are posted; ``None`` for none
    :param webhook_secret: the secret with which they are signed, ``whsec_`` and a key as base64
    :param webhook_retries: seconds before each try to deliver one
    :raises OSError: if the state file cannot be opened
    :raises ValueError: if the state file holds something else, there is no such order, or address or secret of the
        webhooks are wrong
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        step: float = 5.0,
        rate: int = 10,
        marketplace_rate: int = 100,
        retry_after: int | None = 1,
        state: str | Path | None = None,
        client_id: str = "sandbox",
        client_secret: str = "sandbox",  # noqa: S107  (it guards nothing)
        token_lifetime: float = 7200.0,
        order: str = "newest_first",
        webhook_url: str | None = None,
        webhook_secret: str = SECRET,
        webhook_retries: Sequence[float] = RETRIES,
    ) -> None:
        self.host = host
        self.port = port
        journal = Journal(Path(state)) if state else None
        self._app = App(
            account=Account(step, time.time, journal),
            campaigns=Campaigns(step, time.time, journal, order),
            tokens=Tokens(client_id, client_secret, token_lifetime, time.time),
            pace=Pace(rate),
            marketplace_pace=Pace(marketplace_rate, 60.0),
            retry_after=retry_after,
            host=host,
            webhook_url=webhook_url,
            webhook_secret=webhook_secret,
            webhook_retries=webhook_retries,
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """
        Start the sandbox, and return once it answers requests.

        :raises OSError: if the port is not free
        """
        started: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="sendoso-sandbox", daemon=True
        )
        self._thread.start()
        started.result()

    def stop(self) -> None:
        """Close every connection and stop answering."""
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def sends(self) -> list[Send]:
        """Every accepted gift send, oldest first."""
        return self._ask(self._app.account.sends)

    def campaign_sends(self) -> list[CampaignSend]:
        """Return every accepted campaign send, oldest first, each with its present status."""
        return self._ask(self._app.campaigns.sends)

    @property
    def order(self) -> str:
        """The order of the Send Tracker's list, ``newest_first`` or ``oldest_first``; it can be set."""
        return self._ask(lambda: self._app.campaigns.order)

    @order.setter
    def order(self, order: str) -> None:
        self._ask(lambda: setattr(self._app.campaigns, "order", order))

    @property
    def shows_products(self) -> bool:
        """Whether the Send Tracker lists the sends of the marketplace and of SmartSend (inferred); it can be set."""
        return self._ask(lambda: self._app.campaigns.shows_products)

    @shows_products.setter
    def shows_products(self, shows: bool) -> None:
        self._ask(lambda: setattr(self._app.campaigns, "shows_products", shows))

    def preload(
        self,
        count: int,
        touch_ids: Sequence[str | int] = (101,),
        email: str = "old{}@example.com",
        spacing: float = 60.0,
    ) -> None:
        """
        Make the Send Tracker list many old sends, in the place of those that an earlier call made.

        Each is made up when it is read, so that a hundred thousand need no memory. Old sends are in no count and in no
        state file, and a reset deletes them.

        :param count: the number of old sends
        :param touch_ids: the campaigns of the sends, in turn
        :param email: the recipients' e-mail address, with ``{}`` for the number of the send; the oldest has number 0
        :param spacing: seconds from one send to the next; the newest is made now
        :raises ValueError: if an argument is not valid
        :raises KeyError: if there is no such campaign
        """
        self._ask(lambda: self._app.preload(count, touch_ids, email, spacing))

    @property
    def requests(self) -> list[Received]:
        """Every request to the API, oldest first."""
        return self._ask(self._app.traffic.requests)

    def state(self) -> dict[str, Any]:
        """Return the answer of ``GET /sandbox/state``."""
        return self._ask(self._app.state)

    def duplicates(self) -> dict[tuple[str, str], int]:
        """Count the sends that share (gift or touch id, case-folded e-mail), where there is more than one."""
        return self._ask(self._app.duplicates)

    def fault(
        self,
        name: str,
        times: int = 1,
        seconds: float | None = None,
        method: str | None = None,
        path: str | None = None,
        **options: Any,
    ) -> None:
        """
        Set a fault; ``faults.OPTIONS`` has the names and their options, ``faults.WEBHOOK_OPTIONS`` those of webhooks.

        :param name: the name of the fault
        :param times: the number of matching requests to which the fault applies
        :param seconds: seconds from now for which the fault applies, instead of a number of requests
        :param method: the only method to which the fault applies
        :param path: the only path, with those below it, to which the fault applies
        :param options: the options of the fault
        :raises ValueError: if an argument is not valid
        """
        self._ask(lambda: self._app.add_fault(name, times=times, seconds=seconds, method=method, path=path, **options))

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._ask(self._app.faults.clear)
        self._ask(self._app.webhook_faults.clear)

    def subscribe(self, url: str | None, secret: str | None = None) -> None:
        """
        Post a webhook for every change of a send from now on.

        :param url: the address; ``None`` ends the subscription
        :param secret: the secret with which they are signed; ``None``: the present one
        :raises ValueError: if address or secret are wrong
        """
        self._ask(lambda: self._app.webhooks.subscribe(url, secret))

    def replay_webhooks(self) -> None:
        """Deliver every webhook once more, under its id and signed now, as a person does in Svix's portal."""
        self._ask(self._app.webhooks.replay)

    @property
    def webhooks(self) -> list[Attempt]:
        """Every delivery of a webhook that was tried, oldest first."""
        return self._ask(lambda: list(self._app.webhooks.attempts))

    def revoke_tokens(self) -> None:
        """Make every access token invalid."""
        self._ask(self._app.tokens.revoke_all)

    def issue_refresh_token(self) -> str:
        """Make a refresh token, as if a person had just authorised the client; it can be used once."""
        return self._ask(self._app.tokens.issue_refresh_token)

    def finish(self, send_id: str | int, status: str) -> None:
        """
        Force a send's status.

        :param send_id: the id of an accepted gift send, or the id or tracking code of a campaign send
        :param status: one of the six; any word for a campaign send
        :raises ValueError: if there is no such status
        :raises KeyError: if there is no such send
        """
        self._ask(lambda: self._app.finish(send_id, status))

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """
        Add a row to a list as the newest, or replace the row that has the same id.

        :param name: ``touches``, ``groups``, ``users`` or ``return-addresses``
        :param row: the row as the API shows it, with an ``id``
        :raises KeyError: if there is no such list, or the row has no ``id``
        """
        self._ask(lambda: self._app.organisation.add(name, row))

    def remove(self, name: str, object_id: str | int) -> None:
        """
        Remove a row from a list.

        :param name: ``touches``, ``groups``, ``users`` or ``return-addresses``
        :param object_id: the id of the row
        :raises KeyError: if there is no such list or row
        """
        self._ask(lambda: self._app.organisation.remove(name, str(object_id)))

    def reset(self) -> None:
        """Reset the sandbox to its initial state."""
        self._ask(self._app.reset)

    def _ask(self, question: Callable[[], _T]) -> _T:
        """Call a function in the event loop's thread, the only one that may use the app while it runs."""
        if self._loop is None:
            return question()

        async def ask() -> _T:
            return question()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()

    async def _serve(self, started: Future[None]) -> None:
        runner = web.AppRunner(self._app.build(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            started.set_exception(error)
            return
        self.port = runner.addresses[0][1]
        self._loop = asyncio.get_running_loop()
        started.set_result(None)
        await self._stopping.wait()
        await runner.cleanup()
        self._loop = None
