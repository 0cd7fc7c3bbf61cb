"""Helpers that run triggers and watch the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger


def trigger(seconds: float = 600, **arguments: Any) -> SendStatusTrigger:
    return SendStatusTrigger(**({"deadline": time.time() + seconds, "poke_interval": 0.02} | arguments))


async def fire(waiting: SendStatusTrigger) -> dict[str, Any]:
    """Run it to its end; it fires exactly once, with what JSON can carry."""
    events = [event async for event in waiting.run()]
    assert len(events) == 1
    assert isinstance(events[0], TriggerEvent)
    assert json.loads(json.dumps(events[0].payload)) == events[0].payload
    payload: dict[str, Any] = events[0].payload
    return payload


def gets(sandbox: Sandbox) -> int:
    return sum(request.method == "GET" for request in sandbox.requests)


async def largest_gap(work: Any) -> float:
    """The longest time for which the loop could not do anything else while it did some work."""
    return await _longest_turn(work, time.monotonic, 0.005)


async def largest_effort(work: Any) -> float:
    """The most of the processor's time that the loop has used at once while it did some work."""
    return await _longest_turn(work, time.thread_time, 0)


async def _longest_turn(work: Any, clock: Callable[[], float], pause: float) -> float:
    task, longest, last = asyncio.ensure_future(work), 0.0, clock()
    while not task.done():
        await asyncio.sleep(pause)
        now = clock()
        longest, last = max(longest, now - last), now
    await task
    return longest


class Onlooker:
    """
    Sees from other threads whether the loop that runs here goes on, however slow the machine is.

    ``seen`` says of each method that was called whether it always did.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.seen: dict[str, bool] = {}

    def look(self, name: str) -> None:
        """Block until the loop has done something else; it never does where this is called in the loop."""
        went_on = threading.Event()
        self._loop.call_soon_threadsafe(went_on.set)
        self.seen[name] = went_on.wait(30) and self.seen.get(name, True)

    def watch(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        """Look in every call of a method."""
        method = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            self.look(name)
            return method(*arguments, **named)

        patch.setattr(owner, name, watched)
