"""Hears of wake-ups: looks into the ledger for the webhooks that were received, every few seconds.

In a triggerer one look serves all its triggers of a ledger, however many they are.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from weakref import WeakKeyDictionary

from airflow_provider_sendoso.exceptions import SendosoError
from airflow_provider_sendoso.hooks.sendoso import SendosoHook
from airflow_provider_sendoso.ledger import Ledger
from airflow_provider_sendoso.ledger.clocks import since_boot
from airflow_provider_sendoso.ledger.wakeups import Wakeup
from airflow_provider_sendoso.waiting.watch import walk_pause

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks."""

_OVERLAP = 30.0
"""Seconds before the last look that the next one reads again: a wake-up bears the moment at which its transaction
began, and may be committed after others that are younger."""

_LONGEST_REACH = 86_400.0
"""Seconds that a look reaches back at the most, after a ledger was away: by then every send was looked at without
it."""

_MEANWHILE = 5.0
"""Seconds by which a wake-up may be older than the poll that it calls for: Sendoso may answer a moment behind
itself."""


class Ear:
    """
    Reads the wake-ups that are new, each once.

    :param ledger: where they are.
    :param account: whose they are; ``None``: all accounts'.
    :param reach: seconds that the first look reaches back.
    :param clock: seconds that run on while the machine is suspended, as a wake-up's do.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str | None = None,
        reach: float = 0.0,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._clock = clock
        self._last = clock() - reach
        self._seen: set[tuple[str, str]] = set()

    def listen(self) -> list[Wakeup]:
        """
        Read what is new; blocks.

        :raises SendosoLedgerError: if the ledger could not be read; the next look reaches back to the last one.
        """
        now = self._clock()
        reach = min(now - self._last + _OVERLAP, _LONGEST_REACH)
        found = self._ledger.wakeups.recent(reach, self._account)
        new = [wakeup for wakeup in found if (wakeup.account, wakeup.svix_id) not in self._seen]
        self._last, self._seen = now, {(wakeup.account, wakeup.svix_id) for wakeup in found}
        return new


class Subscription:
    """
    The wake-ups of one account, for one trigger.

    :param account: the account.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self._wakeups: list[Wakeup] = []
        self._some = asyncio.Event()

    def put(self, wakeups: list[Wakeup]) -> None:
        """Hand over what was heard."""
        if wakeups:
            self._wakeups += wakeups
            self._some.set()

    async def wait(self, seconds: float) -> list[Wakeup]:
        """
        Wait for a wake-up.

        :param seconds: for how long at most.
        :return: what was heard since the last call; empty if the time is over.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._some.wait()
        self._some.clear()
        heard, self._wakeups = self._wakeups, []
        return heard


class _Hub:
    """Looks into one ledger for all subscriptions of an event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.subscriptions: set[Subscription] = set()
        self._ear = Ear(ledger)
        # Without a context of its own, its lines would be in the log of the task whose trigger came first.
        self.task = asyncio.get_running_loop().create_task(self._look(), context=contextvars.Context())

    async def _look(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                heard = await asyncio.to_thread(self._ear.listen)
            except SendosoError as error:
                if not failing:
                    log.warning("Could not look for webhooks; until the ledger answers, sends are polled: %s", error)
                failing = True
                continue
            except Exception as error:
                # A defect must not end the looks of all triggers; of its text nobody knows what it holds.
                log.error("Could not look for webhooks, because of a defect: %s", type(error).__name__)
                continue
            failing = False
            for subscription in self.subscriptions:
                subscription.put([wakeup for wakeup in heard if wakeup.account == subscription.account])


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Ledger, _Hub]] = WeakKeyDictionary()


@asynccontextmanager
async def subscribe(hook: SendosoHook) -> AsyncIterator[Subscription]:
    """
    Hear of the wake-ups of a connection's account; where it receives no webhooks, nothing is ever heard.

    :param hook: the hook, with its connections resolved.
    """
    subscription = Subscription(hook.config.account)
    if hook.rare_poll is None:
        yield subscription
        return
    ledger, hubs = hook.ledger, _hubs.setdefault(asyncio.get_running_loop(), {})
    if ledger not in hubs:
        hubs[ledger] = _Hub(ledger)
    hub = hubs[ledger]
    hub.subscriptions.add(subscription)
    try:
        yield subscription
    finally:
        hub.subscriptions.discard(subscription)
        if not hub.subscriptions:
            hubs.pop(ledger, None)
            hub.task.cancel()


async def sleep_until_poll(
    subscription: Subscription, began: float, pages: int, every: float, clock: Callable[[], float] = since_boot
) -> None:
    """
    Sleep until a list is to be polled again: when the time has come, or when a send of the account has changed.

    A list costs a request a page, so a long one is not read at every wake-up; see
    :func:`~airflow_provider_sendoso.waiting.watch.walk_pause`.

    :param subscription: of the list's account.
    :param began: when the last poll began, by ``clock``.
    :param pages: the requests of the last poll.
    :param every: seconds from now until the next poll without any wake-up.
    :param clock: seconds that run on while the machine is suspended, as a wake-up's do.
    """
    until = clock() + every
    while (left := until - clock()) > 0:
        heard = await subscription.wait(left)
        if any(clock() - wakeup.ago > began - _MEANWHILE for wakeup in heard):
            until = min(until, began + walk_pause(pages))
