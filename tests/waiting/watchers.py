"""What tests of triggers do with them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_sendoso.sandbox import Sandbox
from airflow_provider_sendoso.triggers.sendoso import SendStatusTrigger


def trigger(seconds: float = 20, **arguments: Any) -> SendStatusTrigger:
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
    task, largest, last = asyncio.ensure_future(work), 0.0, time.monotonic()
    while not task.done():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        largest, last = max(largest, now - last), now
    await task
    return largest
