"""The world's clocks, locks, threads and queues in place of the standard library's, within the package's modules.

HTTP, the database, the executor and the sleep of a session are passed in. What the package takes from ``time`` and
``threading`` is replaced by name in each of its modules, as Loom replaces ``std::sync``.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import secrets
import sys
import threading
import time
import types
import uuid
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import tenacity

from explorer.scheduler import EPOCH, Killed, Process, Thread, World

PACKAGE = "airflow_provider_sendoso"

Result = TypeVar("Result")


class _Here:
    """The world of the present schedule."""

    world: World | None = None
    names = 0


def enter(world: World | None) -> None:
    """Let the package's clocks and locks be those of this world; ``None`` between two worlds."""
    _Here.world, _Here.names = world, 0


def here() -> World:
    """Return the world of the present schedule."""
    assert _Here.world is not None
    return _Here.world


def _now() -> float:
    return _Here.world.now if _Here.world else 0.0


def _process() -> Process | None:
    return _Here.world.current.process if _Here.world and _Here.world.current else None


class Time:
    """Stands in for the module ``time``: each process has clocks of its own."""

    CLOCK_MONOTONIC, CLOCK_BOOTTIME = 1, 7
    gmtime, strftime = staticmethod(time.gmtime), staticmethod(time.strftime)

    @staticmethod
    def monotonic() -> float:
        """Stand still while the machine is suspended."""
        process = _process()
        return 1000.0 + _now() - (process.suspended if process else 0.0)

    @staticmethod
    def clock_gettime(clock: int) -> float:
        """Return the seconds since boot, for which the machine may have been suspended."""
        return Time.monotonic() if clock == Time.CLOCK_MONOTONIC else 1000.0 + _now()

    @staticmethod
    def time() -> float:
        """Return the wall clock, which somebody may have set."""
        process = _process()
        return EPOCH + _now() + (process.clock_jump if process else 0.0)

    @staticmethod
    def sleep(seconds: float) -> None:
        """Sleep in the world."""
        here().sleep(seconds)


class Lock:
    """Stands in for ``threading.Lock``."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: list[Thread] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it; a dead process acquires what is free, so that it unwinds, and waits for nothing."""
        give_up = None if timeout < 0 else _now() + timeout
        while self._held:
            world = here()
            thread = world.current
            if not blocking or (give_up is not None and world.now >= give_up) or thread is None:
                return False
            self._waiting.append(thread)
            try:
                world.wait(None if give_up is None else give_up - world.now)
            finally:
                if thread in self._waiting:
                    self._waiting.remove(thread)
        self._held = True
        return True

    def release(self) -> None:
        """Release it."""
        self._held = False
        if self._waiting and _Here.world:
            _Here.world.wake(self._waiting.pop(0))

    def locked(self) -> bool:
        """Return whether somebody holds it."""
        return self._held

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Event:
    """Stands in for ``threading.Event``."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Thread] = []

    def set(self) -> None:
        """Set it, and wake who waits for it."""
        self._set = True
        for thread in self._waiting:
            here().wake(thread)
        self._waiting.clear()

    def clear(self) -> None:
        """Reset it."""
        self._set = False

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set."""
        if not self._set:
            thread = here().current
            assert thread is not None
            self._waiting.append(thread)
            here().wait(timeout)
            if thread in self._waiting:
                self._waiting.remove(thread)
        return self._set


class _Thread:
    """Stands in for ``threading.Thread``."""

    def __init__(self, *, target: Callable[..., Any], args: tuple[Any, ...] = (), **more: Any) -> None:
        self._work = lambda: target(*args)

    def start(self) -> None:
        """Start it in the process of the thread that is going."""
        world = here()
        world.spawn(world.process, self._work)


class Threading:
    """Stands in for the module ``threading``."""

    Lock, Thread, Event = Lock, _Thread, Event
    local, Condition = threading.local, threading.Condition

    @staticmethod
    def current_thread() -> object:
        """Never the main thread: the runs of the explorer log nothing."""
        return None

    @staticmethod
    def main_thread() -> object:
        """Return something else."""
        return Threading


class SimpleQueue:
    """Stands in for ``queue.SimpleQueue``."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiting: list[Thread] = []

    def __class_getitem__(cls, item: Any) -> Any:
        return cls

    def put(self, item: Any) -> None:
        """Add an item, and wake who waits for it."""
        self._items.append(item)
        for thread in self._waiting:
            here().wake(thread)
        self._waiting.clear()

    def get_nowait(self) -> Any:
        """Return the first item."""
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the first item."""
        if not self._items:
            thread = here().current
            assert thread is not None
            self._waiting.append(thread)
            here().wait(timeout)
            if thread in self._waiting:
                self._waiting.remove(thread)
        return self.get_nowait()


class Threads(Executor):
    """An executor whose threads are those of the world."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a thread."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                result = fn(*args, **kwargs)
            except Killed:
                raise
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        here().spawn(here().process, work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: the threads end by themselves."""


class _Uuid:
    """Stands in for the module ``uuid``: the same names in the same schedule."""

    @staticmethod
    def uuid4() -> uuid.UUID:
        _Here.names += 1
        return uuid.UUID(int=_Here.names)


class _Secrets:
    """Stands in for the module ``secrets``: the same keys, and so the same order of the sends, in the same schedule."""

    @staticmethod
    def token_hex(size: int) -> str:
        return "5e" * size

    @staticmethod
    def token_urlsafe(size: int) -> str:
        return ("5e" * size)[: size * 4 // 3]


class _Loop:
    """Stands in for the event loop of a process."""

    def create_task(self, coroutine: Coroutine[Any, Any, Any], **more: Any) -> _Task:
        return _Task(coroutine)


class _Task:
    """Stands in for a task of an event loop; it is cancelled in its next sleep."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._thread = here().spawn(here().process, lambda: self._finish(coroutine))

    def cancel(self) -> None:
        self._thread.called_off = True

    def _finish(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        with suppress(asyncio.CancelledError):
            finish(coroutine)


class Asyncio:
    """Stands in for the module ``asyncio``: a coroutine goes on in the thread that began it, and waits in the world."""

    CancelledError = asyncio.CancelledError
    AbstractEventLoop = asyncio.AbstractEventLoop

    class Event(Event):
        """Stands in for ``asyncio.Event``."""

        async def wait(self) -> bool:  # type: ignore[override]
            """Wait until it is set, or until the time of the block around it is over."""
            thread = _current()
            limit = None if thread.gives_up_at is None else max(0.0, thread.gives_up_at - _now())
            if not super().wait(limit):
                raise TimeoutError
            return True

    @staticmethod
    @asynccontextmanager
    async def timeout(seconds: float) -> AsyncIterator[None]:
        """Bound the waits for events in a block."""
        thread = _current()
        before, thread.gives_up_at = thread.gives_up_at, _now() + seconds
        try:
            yield
        finally:
            thread.gives_up_at = before

    @staticmethod
    async def sleep(seconds: float) -> None:
        """Sleep in the world."""
        here().sleep(seconds)
        if _current().called_off:
            raise asyncio.CancelledError

    @staticmethod
    async def to_thread(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Work here: the other coroutines of the process go on meanwhile, as each has a thread of its own."""
        return work(*args, **kwargs)

    @staticmethod
    def get_running_loop() -> _Loop:
        """Return the loop of the process that is going."""
        process = here().process
        return _loops.setdefault(process, _Loop())


_loops: WeakKeyDictionary[Process, _Loop] = WeakKeyDictionary()


def _current() -> Thread:
    thread = here().current
    assert thread is not None
    return thread


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, in the thread that is going."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    raise AssertionError("a coroutine waits for something that is not of the world")


_REPLACED: list[tuple[Any, Any]] = [
    (asyncio, Asyncio),
    (secrets, _Secrets),
    (time, Time),
    (threading, Threading),
    (queue.SimpleQueue, SimpleQueue),
    (uuid, _Uuid),
]


def take_over() -> None:
    """Replace the standard library's clocks, locks and threads in the modules of the package, and in tenacity's."""
    logging.disable(logging.CRITICAL)
    # A task of an event loop whose process is killed first.
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == PACKAGE]
    for module in [*modules, tenacity, tenacity.nap]:
        if isinstance(module, types.ModuleType):
            for name, value in list(vars(module).items()):
                for real, ours in _REPLACED:
                    if value is real:
                        setattr(module, name, ours)
    clocks = sys.modules[f"{PACKAGE}.ledger.clocks"]
    # Each process is on a machine of its own.
    vars(clocks)["_boot"] = lambda: process.name.replace(":", "-") if (process := _process()) else "here"
