"""What is done to the cluster, in an order that the seed decides; each harm is said as it is done."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress

import psutil

from cluster.deployment import TRIGGERERS, WORKERS, Deployment
from cluster.services import Ledger, Redis, wait_for_port
from cluster.settings import FREEZE

_WARM_SHUTDOWN = 60.0
"""Seconds that a worker gets to end after SIGTERM, before SIGKILL follows."""

_PATIENCE = 120.0
"""Seconds to wait for somebody at work, before a harm is done to whoever there is."""


class Harms:
    """
    Does everything once or more.

    :param airflow: the deployment.
    :param broker: its Redis.
    :param ledger: the ledger's server.
    :param are_sent: says whether gifts are being sent just now: what nobody is at work on cannot be harmed.
    :param chance: decides in which order, and to whom.
    :param seconds: in which all of it is done, after the freeze, with which it begins.
    """

    def __init__(
        self,
        airflow: Deployment,
        broker: Redis,
        ledger: Ledger,
        are_sent: Callable[[], bool],
        chance: random.Random,
        seconds: float,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.warm_shutdowns: list[float] = []
        self._airflow = airflow
        self._broker = broker
        self._ledger = ledger
        self._are_sent = are_sent
        self._chance = chance
        self._began = time.monotonic()
        self._harmed = set[str]()
        first, second = chance.sample(TRIGGERERS, 2)
        harms: list[Callable[[], Iterator[float]]] = [
            *(self._kill_worker for _ in range(2)),
            self._kill_celery,
            self._end_worker,
            lambda: self._kill_triggerer(first),
            lambda: self._kill_triggerer(second),
            lambda: self._restart_ledger("fast"),
            lambda: self._restart_ledger("immediate"),
            lambda: self._restart_redis(signal.SIGTERM),
            lambda: self._restart_redis(signal.SIGKILL),
            *(self._deliver_again for _ in range(4)),
        ]
        chance.shuffle(harms)
        between = seconds / len(harms)
        self._after_the_freeze = [(between * (place + chance.random()), harm) for place, harm in enumerate(harms)]
        # Each harm is a generator: it yields the seconds after which it goes on.
        self._due = [(self._began, self._freeze_worker())]

    def step(self) -> None:
        """Do what is due; called many times a second."""
        now = time.monotonic()
        for entry in [entry for entry in self._due if entry[0] <= now]:
            self._due.remove(entry)
            pause = next(entry[1], None)
            if pause is not None:
                self._due.append((time.monotonic() + pause, entry[1]))

    @property
    def are_over(self) -> bool:
        """Whether everything is done, and everybody is up again."""
        return not self._due

    # -- to workers ------------------------------------------------------------------------------------------------

    def _freeze_worker(self) -> Iterator[float]:
        name = yield from self._busy_worker()
        machine, tasks = self._airflow.machines[name], self._tasks(name)
        machine.signal(signal.SIGSTOP)
        self._say("workers frozen", f"{name} stands still for {FREEZE:.0f} s, with {tasks} tasks")
        self.counts["of their tasks"] += tasks
        now = time.monotonic()
        self._due += [(now + after, harm()) for after, harm in self._after_the_freeze]
        yield FREEZE
        machine.signal(signal.SIGCONT)
        self._say("", f"{name} goes on")
        self._harmed.remove(name)

    def _kill_worker(self) -> Iterator[float]:
        name = yield from self._busy_worker()
        tasks = self._tasks(name)
        killed = self._airflow.machines[name].kill()
        self._say("worker trees killed", f"{name}: SIGKILL to all of its {killed} processes, {tasks} tasks among them")
        self.counts["of their tasks"] += tasks
        yield self._pause()
        self._start(name)

    def _kill_celery(self) -> Iterator[float]:
        name = yield from self._busy_worker()
        orphans = self._tasks(name)
        self._airflow.machines[name].signal(signal.SIGKILL, self._airflow.celery(name))
        self._say("workers killed without their tasks", f"{name}: SIGKILL to Celery; {orphans} orphans go on")
        self.counts["of their tasks"] += orphans
        yield self._pause()
        self._start(name)

    def _end_worker(self) -> Iterator[float]:
        name = yield from self._busy_worker()
        machine, began = self._airflow.machines[name], time.monotonic()
        main = psutil.Process(machine.sessions[-1].pid)
        self._say("workers told to end", f"{name}: SIGTERM to Celery, with {self._tasks(name)} tasks")
        with suppress(psutil.NoSuchProcess):
            main.terminate()
        while machine.processes() and time.monotonic() < began + _WARM_SHUTDOWN:
            yield 0.2
        took = time.monotonic() - began
        killed = machine.kill()
        self.warm_shutdowns.append(took)
        self._say("", f"{name} took {took:.1f} s to end, and SIGKILL went to {killed}")
        self._start(name)

    # -- to the others ---------------------------------------------------------------------------------------------

    def _kill_triggerer(self, name: str) -> Iterator[float]:
        killed = self._airflow.machines[name].kill()
        self._say("triggerers killed", f"{name}: SIGKILL to all of its {killed} processes")
        yield self._pause()
        self._airflow.start_machine(name)

    def _restart_ledger(self, mode: str) -> Iterator[float]:
        yield from self._while_sending()
        yield from self._while_up("ledger")
        away = self._pause()
        self._say(f"ledger's PostgreSQL stopped {mode}", f"the ledger's PostgreSQL: stop -m {mode}, for {away:.0f} s")
        self._ledger.stop(mode)
        yield away
        self._ledger.start()
        self._harmed.remove("ledger")

    def _restart_redis(self, number: signal.Signals) -> Iterator[float]:
        yield from self._while_sending()
        yield from self._while_up("Redis")
        kept = "keeps its queues" if number == signal.SIGTERM else "has what it last saved"
        self._say(f"Redis restarted by {number.name}", f"Redis: {number.name}; it {kept}")
        self._broker.stop(number)
        yield self._pause()
        self._broker.start()
        wait_for_port(self._broker.port)
        self._harmed.remove("Redis")

    def _deliver_again(self) -> Iterator[float]:
        yield from self._while_sending()
        with suppress(Exception):  # Redis may be away
            again = self._broker.deliver_again()
            self._say("", f"Redis: {again} messages that are with workers are delivered once more")
            self.counts["messages put into the queue again"] += again

    # -- help ------------------------------------------------------------------------------------------------------

    def _busy_worker(self) -> Generator[float, None, str]:
        """Wait for a worker to which nothing else is done and whose tasks send, and take it; or any, after a while."""
        give_up = time.monotonic() + _PATIENCE
        while True:
            free = [name for name in WORKERS if name not in self._harmed]
            busy = [name for name in free if self._are_sent() and self._has_ledger(name)]
            if busy or (free and time.monotonic() > give_up):
                name = self._chance.choice(busy or free)
                self._harmed.add(name)
                return name
            yield 0.5

    def _while_sending(self) -> Iterator[float]:
        """Wait until gifts are sent, or for a while."""
        give_up = time.monotonic() + _PATIENCE
        while not self._are_sent() and time.monotonic() < give_up:
            yield 0.2

    def _while_up(self, server: str) -> Iterator[float]:
        """Wait until nothing else is done to a server, and take it."""
        while server in self._harmed:
            yield 0.2
        self._harmed.add(server)

    def _has_ledger(self, name: str) -> bool:
        """Say whether a task of a worker has opened the ledger."""
        clients = self._ledger.clients()
        return any(clients[process.pid] for process in self._airflow.machines[name].processes())

    def _start(self, name: str) -> None:
        self._airflow.start_machine(name)
        self._harmed.remove(name)

    def _tasks(self, name: str) -> int:
        celery = {process.pid for process in self._airflow.celery(name)}
        return sum(process.pid not in celery for process in self._airflow.machines[name].processes())

    def _pause(self) -> float:
        return self._chance.uniform(1.0, 8.0)

    def _say(self, counted: str, text: str) -> None:
        if counted:
            self.counts[counted] += 1
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)
