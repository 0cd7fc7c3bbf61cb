"""The triggers for events: one for asset watchers, which never ends, and one behind the sensor."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_sendoso import DEFAULT_CONN_ID
from airflow_provider_sendoso.arguments.values import moment
from airflow_provider_sendoso.events.words import SENDS, check_words, listed
from airflow_provider_sendoso.exceptions import TRANSIENT_ERRORS, SendosoError

if TYPE_CHECKING:
    from airflow_provider_sendoso.client.async_session import AsyncSendosoSession
    from airflow_provider_sendoso.events.differences import Cursor, Question, Reading
    from airflow_provider_sendoso.hooks.sendoso import SendosoHook
    from airflow_provider_sendoso.waiting.wakeups import Subscription

# Heavy imports are in the methods that need them, because a DAG file with an asset watcher imports this module.

log = logging.getLogger(__name__)

_SHORTEST_PAUSE = 1.0
"""Shortest time between two polls, in seconds, even if ``poke_interval`` is less."""

_LAST_POLL = 10.0
"""Seconds that the last poll may take beyond the deadline."""

_IN_THE_DATABASE = 30.0
"""Seconds after which a fired event counts as stored: the triggerer stores its events about once a second."""


class SendosoEventTrigger(BaseEventTrigger):
    """
    Fire whenever Sendoso has something new, for the ``AssetWatcher`` of Airflow 3.

    The event's payload is the return value of ``SendosoEventSensor``; Airflow stores it in the asset event's
    ``extra["payload"]``. A poll that finds more than 100 events fires several times.

    The trigger never ends and never fails: errors are logged, and the next poll resumes from the last successful one.

    An event is fired **at least once**: the cursor is saved half a minute after the event (or half a ``poke_interval``,
    if that is less), when Airflow has stored the event. A triggerer that dies within that time fires the same event
    again.

    On Airflow 3.3 and newer, the cursor is in the asset's state store, and triggers with the same connection, object
    and ``poke_interval`` share one poll; triggers that ask for ``status_changed``, which reads further back, share
    another. Before 3.3, and if one trigger watches several assets, the cursor is in the ledger.

    :param object: as in ``SendosoEventSensor``.
    :param events: as in ``SendosoEventSensor``.
    :param statuses: as in ``SendosoEventSensor``.
    :param since: as in ``SendosoEventSensor``.
    :param cursor_name: name of the cursor; by default derived from ``events`` and ``statuses``.
    :param poke_interval: seconds between two polls.
    :param sendoso_conn_id: the connection.
    :raises SendosoConfigError: if an argument is wrong; raised while the DAG file is parsed.
    """

    def __init__(
        self,
        *,
        object: str,
        events: Sequence[str] = ("created",),
        statuses: Sequence[str] | None = None,
        since: datetime | str | float | None = None,
        cursor_name: str | None = None,
        poke_interval: float = 300.0,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.object = object
        self.events = list(listed("events", events))
        self.statuses = list(listed("statuses", statuses))
        check_words(object, self.events, self.statuses)
        began = moment("since", since)  # text is kept as it is: an asset watcher is known by its arguments
        self.since = since if isinstance(since, str | int | float) or began is None else began.isoformat()
        self.cursor_name = cursor_name
        self.poke_interval = poke_interval
        self.sendoso_conn_id = sendoso_conn_id
        self._kept: tuple[Any, _Place] | None = None
        self._pages: int | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which another process rebuilds the trigger."""
        arguments = ("object", "events", "statuses", "since", "cursor_name", "poke_interval", "sendoso_conn_id")
        path = f"{SendosoEventTrigger.__module__}.{SendosoEventTrigger.__qualname__}"
        return path, {name: getattr(self, name) for name in arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll forever, without sharing the poll."""
        pauses = _Pauses(self)
        try:
            while True:
                await pauses.begin()
                self._pages = None
                async for event in self._poll(None):
                    yield event
                await pauses.sleep(self._pages)
        finally:
            await pauses.end()

    # -- one poll for many triggers, on Airflow 3.3 and newer ---------------------------------------------------------

    def shared_stream_key(self) -> Hashable | None:
        """Return the key of the poll that this trigger can share with others."""
        follows = "status_changed" in self.events
        return ("sendoso", self.sendoso_conn_id, self.object, follows, self._every)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Reading]:
        """
        Poll forever for all triggers of a group, and yield the readings.

        The shared poll resumes from its own last reading; each trigger checks with its own cursor whether a reading
        suffices.

        :param kwargs: one trigger's arguments.
        """
        from airflow_provider_sendoso.events.differences import Cursor, Question

        trigger = cls(**kwargs)
        cursor = Cursor()
        pauses = _Pauses(trigger)
        try:
            while True:
                await pauses.begin()
                pages = None
                try:
                    kinds = ["created", "status_changed"] if "status_changed" in trigger.events else ["created"]
                    question = Question.parse(trigger.object, kinds)
                    async with _session(trigger.sendoso_conn_id) as (_, session):
                        reading = await _read(session, cursor, question)
                    pages = reading.pages
                    everything = max(2, 2 * len(reading.rows))
                    cursor = (await asyncio.to_thread(cursor.take, question, reading, time.time(), everything)).cursor
                except Exception as error:
                    _complain(trigger, error)
                else:
                    yield reading
                await pauses.sleep(pages)
        finally:
            await pauses.end()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Reading]) -> AsyncIterator[TriggerEvent]:
        """
        Fire for the events that are new to this trigger.

        :param shared_stream: the group's readings.
        """
        async for reading in shared_stream:
            async for event in self._poll(reading):
                yield event

    # -- one poll ------------------------------------------------------------------------------------------------------

    @property
    def _every(self) -> float:
        return max(float(self.poke_interval), _SHORTEST_PAUSE)

    async def _poll(self, reading: Reading | None) -> AsyncIterator[TriggerEvent]:
        """Fire for the new events of a reading; if the reading does not reach back to the cursor, poll alone."""
        from airflow_provider_sendoso.events.differences import Question
        from airflow_provider_sendoso.events.polling import check_host, complain

        try:
            question = Question.parse(self.object, self.events, self.statuses, self.since)
            async with _session(self.sendoso_conn_id) as (hook, session):
                check_host(question, hook.config.base_url)
                place = await self._place(hook, question)
                cursor = place.cursor
                if reading is None or not cursor.is_answered(question, reading, time.time()):
                    reading = await _read(session, cursor, question)
                    self._pages = reading.pages
        except Exception as error:
            _complain(self, error)
            return
        fired, left = False, 1
        while left:
            try:
                taken = await asyncio.to_thread(cursor.take, question, reading, time.time())
            except Exception as error:
                _complain(self, error)
                break
            complain(question, taken)
            cursor, left = taken.cursor, taken.left
            if taken.events:
                fired = True
                yield TriggerEvent(taken.report(question))  # type: ignore[no-untyped-call]
        if fired:
            # Shorter than an interval, or else shared readings would arrive faster than they are processed.
            await asyncio.sleep(min(self._every / 2, _IN_THE_DATABASE))
        try:
            await place.keep(cursor)
        except Exception as error:
            _complain(self, error)

    async def _place(self, hook: SendosoHook, question: Question) -> _Place:
        """Return the place that stores the cursor, with the cursor read."""
        # A changed connection may be another account, which needs a cursor of its own.
        if self._kept is None or self._kept[0] != hook.config:
            name = self.cursor_name or _name_of(self.events, self.statuses)
            store = getattr(self, "asset_state_store", None)
            place: _Place = _InAsset(store, question, hook.config.account, name)
            if store is None or not await place.open():
                place = _InLedger(hook, question, name)
                await place.open()
            self._kept = hook.config, place
        return self._kept[1]


class _Place:
    """The place where a cursor is stored; it also caches the cursor."""

    cursor: Cursor

    async def open(self) -> bool:
        """Read the cursor; return whether this place can store it."""
        raise NotImplementedError

    async def keep(self, cursor: Cursor) -> None:
        """Cache the cursor and store it."""
        raise NotImplementedError


class _InAsset(_Place):
    """Stores the cursor in the asset's state store (Airflow 3.3 and newer)."""

    def __init__(self, store: Any, question: Question, account: str, name: str) -> None:
        self._store = store
        digest = hashlib.sha256(json.dumps([account, name]).encode()).hexdigest()[:16]
        self._key = f"sendoso_{question.object}_{digest}"
        self._written: Any = None

    async def open(self) -> bool:
        from airflow_provider_sendoso.events.differences import Cursor

        try:
            self._written = await self._store.aget(self._key)
        except ValueError:
            return False  # the trigger watches several assets, so none of their stores is unambiguous
        self.cursor = Cursor.from_json(self._written)
        return True

    async def keep(self, cursor: Cursor) -> None:
        self.cursor = cursor
        value = await asyncio.to_thread(cursor.as_json)
        if value != self._written:
            await self._store.aset(self._key, value)
            self._written = value


class _InLedger(_Place):
    """Stores the cursor in the ledger, if the asset has no store."""

    def __init__(self, hook: SendosoHook, question: Question, name: str) -> None:
        from airflow_provider_sendoso.events.polling import cursor_key

        self._cursors = hook.ledger.cursors
        self._key = cursor_key(question.object, hook.config.account, name)
        self._version = 0
        self._written: str | None = None

    async def open(self) -> bool:
        from airflow_provider_sendoso.events.polling import Position

        kept = await asyncio.to_thread(self._cursors.read, self._key)
        self._version, self._written = kept.version, kept.text
        self.cursor = (await asyncio.to_thread(Position.from_text, kept.text)).cursor
        return True

    async def keep(self, cursor: Cursor) -> None:
        from airflow_provider_sendoso.events.polling import Position

        self.cursor = cursor
        text = await asyncio.to_thread(Position(cursor).as_text)
        if text == self._written:
            return
        if await asyncio.to_thread(self._cursors.write, self._key, self._version, text):
            self._version, self._written = self._version + 1, text
        else:
            log.warning("Another trigger has moved the cursor %s on meanwhile; this one goes on from there.", self._key)
            await self.open()


class SendosoEventWaitTrigger(BaseTrigger):
    """
    Poll for ``SendosoEventSensor`` until there is something new; fires once.

    The event's ``status`` is ``events`` with a ``report``, ``timeout``, or ``error`` with ``message`` and
    ``retryable``.

    :param object: as in the sensor.
    :param events: as in the sensor.
    :param statuses: as in the sensor.
    :param since: epoch seconds; as in the sensor.
    :param cursor_name: name of the cursor.
    :param run: name of the task's run, to which the events are given.
    :param poke_interval: seconds between two polls.
    :param deadline: epoch seconds; absolute, so that a restart of the triggerer does not extend the wait.
    :param sendoso_conn_id: the connection.
    """

    def __init__(
        self,
        *,
        object: str,
        events: Sequence[str],
        statuses: Sequence[str] = (),
        since: float | None = None,
        cursor_name: str,
        run: str,
        poke_interval: float = 300.0,
        deadline: float,
        sendoso_conn_id: str = DEFAULT_CONN_ID,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.object = object
        self.events = [str(word) for word in events]
        self.statuses = [str(word) for word in statuses]
        self.since = since
        self.cursor_name = cursor_name
        self.run_name = run
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.sendoso_conn_id = sendoso_conn_id
        self._pages = 1

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which another process rebuilds the trigger."""
        arguments = (
            "object",
            "events",
            "statuses",
            "since",
            "cursor_name",
            "poke_interval",
            "deadline",
            "sendoso_conn_id",
        )
        path = f"{SendosoEventWaitTrigger.__module__}.{SendosoEventWaitTrigger.__qualname__}"
        return path, {name: getattr(self, name) for name in arguments} | {"run": self.run_name}

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
        from airflow_provider_sendoso.events.differences import Question
        from airflow_provider_sendoso.events.polling import EventWait
        from airflow_provider_sendoso.ledger.clocks import since_boot
        from airflow_provider_sendoso.waiting.wakeups import sleep_until_poll, subscribe
        from airflow_provider_sendoso.waiting.watch import TRANSIENT_FAILURES

        question = replace(Question.parse(self.object, self.events, self.statuses), since=self.since)
        failures = 0
        async with _session(self.sendoso_conn_id) as (hook, session), subscribe(hook) as subscription:
            every = _every(hook, self.object, self.poke_interval)
            wait = EventWait(hook, question, self.cursor_name, self.run_name)
            while True:
                began, self._pages = since_boot(), 1
                try:
                    report = await self._poll(wait, session)
                except TRANSIENT_ERRORS as error:
                    failures += 1
                    if failures > TRANSIENT_FAILURES:
                        raise
                    log.warning("Could not poll for events, %d times in a row: %s", failures, error)
                else:
                    failures = 0
                    if report is not None:
                        return {"status": "events", "report": report}
                left = self.deadline - time.time()
                if left <= 0:
                    return {"status": "timeout"}
                if failures or self.object not in SENDS:
                    await asyncio.sleep(min(max(self.poke_interval, _SHORTEST_PAUSE), left))
                else:
                    await sleep_until_poll(subscription, began, self._pages, min(every, left))

    async def _poll(self, wait: Any, session: AsyncSendosoSession) -> dict[str, Any] | None:
        report: dict[str, Any] | None = await asyncio.to_thread(wait.recall)
        if report is not None:
            return report
        left = self.deadline - time.time()
        try:
            async with asyncio.timeout(left if left > 0 else _LAST_POLL):
                reading = await session.walk(wait.begin())
                self._pages = reading.pages
        except TimeoutError:
            return None
        found: dict[str, Any] | None = await asyncio.to_thread(wait.conclude, reading)
        return found


class _Pauses:
    """
    The pauses of a trigger that polls for ever: they end with time, or where there are webhooks, when one comes.

    :param trigger: the trigger, whose connection may change at any time.
    """

    def __init__(self, trigger: SendosoEventTrigger) -> None:
        self._trigger = trigger
        self._began = 0.0
        self._of: Any = None
        self._subscription: Subscription | None = None
        self._every: float | None = None
        self._open = AsyncExitStack()

    async def begin(self) -> None:
        """Begin a poll: from now on webhooks call for the next one."""
        from airflow_provider_sendoso.ledger.clocks import since_boot

        self._began = since_boot()
        if self._trigger.object not in SENDS:
            return
        from airflow_provider_sendoso.hooks.sendoso import SendosoHook
        from airflow_provider_sendoso.waiting.wakeups import subscribe

        try:
            hook = SendosoHook(self._trigger.sendoso_conn_id)
            await hook.aprepare()
            if hook.config != self._of or self._subscription is None:
                await self.end()
                self._subscription = await self._open.enter_async_context(subscribe(hook))
                self._of = hook.config
            rare = hook.rare_poll
            self._every = None if rare is None else _every(hook, self._trigger.object, self._trigger._every)
        except Exception:
            self._every = None  # the poll has the same problem, and tells of it

    async def sleep(self, pages: int | None) -> None:
        """
        Sleep until the next poll.

        :param pages: the requests of the last one; ``None`` if it has failed, and is to be repeated soon.
        """
        if pages is None or self._every is None or self._subscription is None:
            await asyncio.sleep(self._trigger._every)
            return
        from airflow_provider_sendoso.waiting.wakeups import sleep_until_poll

        await sleep_until_poll(self._subscription, self._began, pages, self._every)

    async def end(self) -> None:
        """Stop to hear of webhooks."""
        self._subscription = None
        await self._open.aclose()


def _every(hook: SendosoHook, object: str, poke_interval: float) -> float:
    """Return the seconds between two polls of a list of which no webhook has told."""
    rare = hook.rare_poll if object in SENDS else None
    return max(poke_interval, _SHORTEST_PAUSE, rare or 0.0)


@asynccontextmanager
async def _session(conn_id: str) -> AsyncIterator[tuple[SendosoHook, AsyncSendosoSession]]:
    """Resolve a connection, which may have changed since the last poll, and use this event loop's session for it."""
    from airflow_provider_sendoso.client.async_session import shared_session
    from airflow_provider_sendoso.hooks.sendoso import SendosoHook

    hook = SendosoHook(conn_id)
    await hook.aprepare()
    async with shared_session(hook.session) as session:
        yield hook, session


async def _read(session: AsyncSendosoSession, cursor: Cursor, question: Question) -> Reading:
    from airflow_provider_sendoso.events.differences import poll

    return await session.walk(poll(cursor, question))


def _name_of(events: Sequence[str], statuses: Sequence[str]) -> str:
    """Derive a cursor's name from what the trigger asks for, so that different triggers have different cursors."""
    return "watcher " + " ".join([*sorted(events), *sorted(statuses)])


def _complain(trigger: SendosoEventTrigger, error: Exception) -> None:
    """Log why a poll failed; of a foreign error only the class, because its text could hold a secret."""
    words = str(error) if isinstance(error, SendosoError) else type(error).__name__
    log.error(
        "Could not poll %s of %r for events; the next poll is in %g s, and goes on from the last one that worked: %s",
        trigger.object,
        trigger.sendoso_conn_id,
        trigger._every,
        words,
    )
