"""One world: processes whose threads are greenlets, of which exactly one goes on at a time, on a clock of its own.

A thread hands over at seams: before a transaction, after a commit, before and after a request, in a sleep, at a lock.
At each seam of the first four the world asks its strategy twice: who goes on, and whether a fault happens here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

EPOCH = 1_900_000_000.0
"""Seconds since 1970 at which each world begins."""

_IDLE = 6
_LONGEST_NAP = 5.0
"""Sleeps without a change after which a thread's naps grow, and what they grow to in seconds: a waiting thread looks
less often, which a slow machine may do as well."""

SLOWEST = 20.0
"""The longest that a thread waits at a seam because it is slow, in seconds; what is longer is a freeze, and a fault."""

MOST_STEPS = 20_000
MOST_BEFORE_A_POST = 100.0
"""Seconds for which a process is frozen at most between its last look and the first byte of a POST: the look at its
slot, or at its lease where its machine sleeps or no slot is looked at. For longer than lease and settle time it would
post what another has proven absent: the one hole that is known (docs/guarantees.md)."""

LONGEST = 7 * 86_400.0
"""Hand-overs, and seconds of the world's clock, after which a schedule counts as one that never ends."""


class Killed(BaseException):
    """The process of this thread is dead: the thread unwinds, and nothing that it still does has any effect."""


class Broken(Exception):
    """An invariant is broken."""


class Strategy(Protocol):
    """Makes the choices of a schedule."""

    def choose(self, kind: str, options: Sequence[Any]) -> int:
        """
        Choose one of the options; the first is what happens where nothing is done to anyone.

        :param kind: ``switch`` for the threads that can go on, ``fault`` for the names of faults.
        """


class Process:
    """
    One process on a machine of its own.

    :param name: shown in the story.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.stopped = False
        """Whether it was killed or frozen at any time."""
        self.frozen_until = 0.0
        self.suspended = 0.0
        """Seconds for which its machine was suspended: its monotonic clock has stood still for so long."""
        self.clock_jump = 0.0
        """Seconds by which somebody has set the machine's wall clock forward."""
        self.threads: list[Thread] = []


class Thread:
    """One thread of a process, as a greenlet."""

    def __init__(self, process: Process, number: int, work: Callable[[], Any]) -> None:
        self.process, self.number, self.work = process, number, work
        self.wakes_at: float | None = 0.0
        """When it goes on; ``None`` while it waits for another thread."""
        self.over = False
        self.greenlet: Any = None
        self.seen = 0
        self.idle = 0
        """How often it has slept since anything in the world changed: it waits for another one."""
        self.posts_next = False
        """Whether the next thing that it does is the first byte of a send's POST."""
        self.has_slot = False
        """Whether it looks at its slot before that, on a clock that stands still while its machine sleeps."""
        self.called_off = False
        """Whether it is a task of an event loop that was cancelled."""
        self.gives_up_at: float | None = None
        """When it stops waiting for an event."""
        self.last_transaction = 0.0
        """When its last transaction began: it could know what was stored by then."""

    @property
    def due(self) -> float | None:
        """The first moment at which it can go on."""
        return None if self.wakes_at is None else max(self.wakes_at, self.process.frozen_until)


class World:
    """
    Everything of one schedule.

    :param strategy: makes the choices.
    :param only: the names of the faults that can happen; all of them, if it is empty.
    """

    def __init__(self, strategy: Strategy, only: Collection[str] = ()) -> None:
        self.strategy = strategy
        self._only = only
        self.now = 0.0
        self.db_jump = 0.0
        self.faults: list[str] = []
        self.switches = 0
        self.allows_faults = True
        self.impossible: set[str] = set()
        """Faults that do not happen any more."""
        self.database_away_until = 0.0
        self.transaction = 0.0
        """Seconds that a transaction takes: what other threads of its process want to commit meanwhile comes together.
        Where it is 0, the database restarts between two transactions alone."""
        self.story: list[tuple[float, str, str]] = []
        self.on_lost: Callable[[Process], None] = lambda process: None
        """Called for a process that is killed or frozen: Airflow starts the next try."""
        self.on_commit: Callable[[], None] = lambda: None
        """Called once a transaction that has written is committed."""
        self.changes = 0
        """How often the database or the server has changed."""
        self._threads: list[Thread] = []
        self._numbers = 0
        self._steps = 0
        self._hub = getcurrent()
        self.current: Thread | None = None

    # -- what threads call -----------------------------------------------------------------------------------------

    @property
    def process(self) -> Process:
        """The process of the thread that is going."""
        assert self.current is not None
        return self.current.process

    def tell(self, what: str, who: str | None = None) -> None:
        """Add a line to the story."""
        self.story.append((self.now, who or (self.current.process.name if self.current else ""), what))

    def spawn(self, process: Process, work: Callable[[], Any], delay: float = 0.0) -> Thread:
        """Start a thread, so many seconds from now."""
        self._numbers += 1
        thread = Thread(process, self._numbers, work)
        thread.wakes_at = self.now + delay
        thread.greenlet = greenlet(lambda: self._run(thread), self._hub)
        process.threads.append(thread)
        self._threads.append(thread)
        return thread

    def sleep(self, seconds: float) -> None:
        """Let the thread that is going wait."""
        thread = self._alive()
        thread.idle = thread.idle + 1 if thread.seen == self.changes else 0
        thread.seen = self.changes
        if 0 < seconds < _LONGEST_NAP and thread.idle > _IDLE:
            seconds = min(_LONGEST_NAP, seconds * 2 ** (thread.idle - _IDLE))
        self._leave(self.now + max(0.0, seconds))

    def wait(self, timeout: float | None = None) -> None:
        """Let the thread that is going wait until another one wakes it."""
        self._leave(None if timeout is None else self.now + timeout)

    def wake(self, thread: Thread) -> None:
        """Let a waiting thread go on."""
        thread.wakes_at = self.now

    def seam(self, where: str, faults: Sequence[str], *, hands_over: bool = True) -> str:
        """
        Hand over, perhaps, and then say which fault happens here; ``""`` for none.

        :param where: what is about to happen, for the story.
        :param faults: the faults that can happen here, but for those that happen to a process anywhere.
        :param hands_over: whether another thread may go on first; otherwise only faults happen here.
        """
        thread = self._alive()
        if thread.idle > 2 and thread.seen == self.changes:
            return ""  # it looks once more at what has not changed: what happens here could as well happen before
        options = [thread, *(self._others(thread) if hands_over else ())]
        if len(options) > 1:
            chosen = self.strategy.choose("switch", options)
            if chosen:
                self.switches += 1
                self.tell(f"is slow: {options[chosen].process.name} goes on before {where}")
                self.now = max(self.now, options[chosen].due or 0.0)
                self._next = options[chosen]
                self._leave(self.now)
        faults = [fault for fault in faults if self._can_happen(fault)]
        if not faults:
            return ""
        fault = faults[chosen - 1] if (chosen := self.strategy.choose("fault", ["", *faults])) else ""
        if fault:
            self.faults.append(fault)
            self.tell(f"** {fault}, at: {where}")
        return fault

    def _can_happen(self, fault: str) -> bool:
        return self.allows_faults and fault not in self.impossible and (not self._only or fault in self._only)

    def kill(self, process: Process) -> None:
        """Kill a process; the thread that is going unwinds if it is one of its own."""
        process.dead = process.stopped = True
        self.on_lost(process)
        if self.current is not None and self.current.process is process:
            raise Killed

    def freeze(self, seconds: float, *, suspend: bool) -> None:
        """
        Stop the process of the thread that is going, which thinks afterwards that no time has passed.

        :param suspend: whether its machine sleeps, so that the monotonic clock stands still, too.
        """
        process = self.process
        if any(thread.posts_next and (suspend or not thread.has_slot) for thread in process.threads):
            seconds = min(seconds, MOST_BEFORE_A_POST)
        process.stopped = True
        process.frozen_until = self.now + seconds
        process.suspended += seconds if suspend else 0.0
        self.on_lost(process)
        self._leave(self.now)
        self.tell("goes on")

    # -- the loop --------------------------------------------------------------------------------------------------

    _next: Thread | None = None

    def run(self) -> None:
        """
        Let all threads go on until all are over.

        :raises Broken: if they never end, or wait for each other.
        """
        while self._threads:
            self._bury()
            thread, self._next = self._next or self._first(), None
            if thread is None:
                if self._threads:
                    raise Broken("progress: all threads wait for each other")
                return
            self._steps += 1
            self.now = max(self.now, thread.due or 0.0)
            if self._steps > MOST_STEPS or self.now > LONGEST:
                raise Broken("progress: the runs do not end")
            self._go_on(thread)

    def end(self) -> None:
        """Kill what is left, so that nothing of this world lives on."""
        for thread in self._threads:
            thread.process.dead = True
        self._bury()

    def _go_on(self, thread: Thread, *error: Any) -> None:
        self.current = thread
        try:
            thread.greenlet.throw(*error) if error else thread.greenlet.switch()
        finally:
            self.current = None
        if thread.over:
            self._threads.remove(thread)
            thread.process.threads.remove(thread)

    def _bury(self) -> None:
        for thread in [thread for thread in self._threads if thread.process.dead]:
            if thread.greenlet:
                self._go_on(thread, Killed)
            if not thread.over:
                thread.over = True
                self._threads.remove(thread)

    def _run(self, thread: Thread) -> None:
        try:
            thread.work()
        except Killed:
            pass
        finally:
            thread.over = True

    def _alive(self) -> Thread:
        thread = self.current
        assert thread is not None
        if thread.process.dead:
            raise Killed
        return thread

    def _leave(self, wakes_at: float | None) -> None:
        thread = self._alive()
        thread.wakes_at = wakes_at
        self._hub.switch()
        self._alive()

    def _first(self) -> Thread | None:
        """The thread that goes on where nobody chooses: the first that can, else the first to wake."""
        due = [
            (max(due, self.now), thread.number, thread) for thread in self._threads if (due := thread.due) is not None
        ]
        return min(due)[2] if due else None

    def _others(self, current: Thread) -> list[Thread]:
        """The threads that could go on instead of this one, and the one that wakes next."""
        due = [
            (due, thread.number, thread)
            for thread in self._threads
            if thread is not current and not thread.process.dead and (due := thread.due) is not None
        ]
        ready = [thread for moment, _, thread in due if moment <= self.now]
        later = [entry for entry in due if self.now < entry[0] <= self.now + SLOWEST]
        return sorted(ready, key=lambda thread: thread.number) + ([min(later)[2]] if later else [])
