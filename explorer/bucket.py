"""A model of the ledger in a bucket, before that ledger is built: objects that are created once, and never change.

The layout is ``sends/<key>/<attempt>/claim``, then one object that decides the attempt (``posting`` by its owner or
``abandoned`` by a successor, whichever is created first), then ``outcome``. An attempt that is abandoned, or whose
outcome is that nothing was sent, is followed by the next one. Whoever is told nothing about a write reads the object
and compares the nonce in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_sendoso.client.answers import Phase
from airflow_provider_sendoso.models import METADATA_KEY
from explorer.ledger import ANYWHERE, happen
from explorer.scheduler import Broken, Process, World
from explorer.sendoso import TIMEOUT, Sendoso
from explorer.strategies import Choices

LEASE = 75.0
SETTLE_TIME = 900.0
_MARGIN = TIMEOUT + 5.0
_KEY = "ada"
_WRITE = ("acknowledgement lost", "write lost", "write late", "conflict")
_ENDED = ("not sent", "absent")


@dataclass(frozen=True)
class Layout:
    """
    The guards of the protocol, each of which can be left out to see that the model misses it.

    :param one_decision: ``posting`` and ``abandoned`` are one object; otherwise two.
    :param reads_back: a write without an answer is read back; otherwise it counts as done.
    :param looks_at_lease: the lease is looked at between the decision and the POST.
    :param waits_to_prove: absence is proven after the settle time only.
    :param trusts_lists: a list decides which attempt is the newest; otherwise each is read.
    """

    one_decision: bool = True
    reads_back: bool = True
    looks_at_lease: bool = True
    waits_to_prove: bool = True
    trusts_lists: bool = False


class Bucket:
    """
    The objects of one bucket, with the moment of their creation on the store's clock.

    :param world: in which things happen.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.objects: dict[str, tuple[Any, float]] = {}
        self._machine = Process("bucket")

    def create(self, name: str, body: Any) -> bool | None:
        """Create an object; ``False`` if it exists, ``None`` if nothing is known."""
        world = self.world
        fault = world.seam(f"create {name}: {body}", (*ANYWHERE, *_WRITE))
        if fault in ANYWHERE:
            happen(world, fault)
        if fault in ("write lost", "conflict"):
            return None
        if fault == "write late":
            world.spawn(self._machine, lambda: self._create(name, body), 20.0)
            world.sleep(10.0)
            return None
        created = self._create(name, body)
        if fault == "acknowledgement lost":
            return None
        if created:
            happen(world, world.seam(f"going on after {name}", ("frozen", "frozen for long")))
        return created

    def read(self, name: str) -> Any:
        """Read an object; ``None`` if there is none. Reads are consistent (S3, GCS and Azure document it)."""
        happen(self.world, self.world.seam(f"read {name}", ANYWHERE))
        return self.objects.get(name, (None,))[0]

    def age(self, name: str) -> float:
        """Return the seconds since an object was created, both moments on the store's clock."""
        return self.world.now - self.objects[name][1]

    def _create(self, name: str, body: Any) -> bool:
        if name in self.objects:
            return False
        self.objects[name] = (body, self.world.now)
        self.world.changes += 1
        self.world.tell(f"has {name}: {body}", "bucket")
        return True


class BucketPlay:
    """
    One schedule of two runs that send one gift to one person, with ``on_absent="resend"``.

    :param layout: the guards of the protocol.
    :param choices: what happens.
    """

    def __init__(self, layout: Layout, choices: Choices, runs: int = 2, tries: int = 2) -> None:
        self.layout = layout
        self.world = World(choices)
        self.server = Sendoso(self.world)
        self.server.know("access")
        self.bucket = Bucket(self.world)
        self._way: Any = self.server.transport(lambda send: _KEY)
        self._tries = dict.fromkeys(range(runs), tries)
        self._run_of: dict[Process, int] = {}

    def run(self) -> None:
        """
        Let the schedule happen, then let the faults stop and a last try of each run go through, and check.

        :raises Broken: if an invariant is broken.
        """
        self.world.on_lost = self._lost
        try:
            for run in self._tries:
                self._start(run)
            self.world.run()
            self.world.allows_faults = False
            self.world.strategy = Choices()
            self.world.tell("all faults stop", "")
            for run in self._tries:
                self.world.now += 2000.0
                self._start(run)
                self.world.run()
        finally:
            self.world.end()
        if len(self.server.sent) > 1:
            raise Broken(f"no gift twice: {len(self.server.sent)} were accepted")
        attempt = self._newest()
        outcome = self.bucket.objects.get(f"{attempt}/outcome", ("",))[0].partition(" by ")[0]
        wanted = "SENT" if self.server.sent else "REFUSED"
        if outcome != wanted:
            raise Broken(
                f"nobody lost: the outcome is {outcome or 'open'}, and Sendoso accepted {len(self.server.sent)}"
            )

    def _start(self, run: int, delay: float = 0.0) -> None:
        self._tries[run] -= 1
        process = Process(f"run {run + 1} try {-self._tries[run] + 2}")
        self._run_of[process] = run
        self.world.spawn(process, lambda: self._try(process.name), delay)

    def _lost(self, process: Process) -> None:
        run = self._run_of.pop(process, None)
        if run is not None and self._tries[run] > 0:
            self._start(run, 5.0)

    # -- the protocol ----------------------------------------------------------------------------------------------

    def _try(self, me: str) -> None:
        for _ in range(40):
            if self._step(me):
                return
            self.world.sleep(60.0)

    def _step(self, me: str) -> bool:
        """Do what the newest attempt asks for; return whether the send has ended."""
        read, bucket = self.bucket.read, self.bucket
        number = self._listed() if self.layout.trusts_lists else 1
        while self._over(self._attempt(number)):
            number += 1
        attempt = self._attempt(number)
        claim = read(f"{attempt}/claim")
        if claim is None:
            return self._won(f"{attempt}/claim", me) and self._post(attempt, me)
        outcome = read(f"{attempt}/outcome")
        if outcome is not None:
            return True  # SENT or REFUSED
        if read(self._decision(attempt, "posting")) is None:
            if claim == me:
                return self._post(attempt, me)
            if bucket.age(f"{attempt}/claim") > LEASE:
                self._won(self._decision(attempt, "abandoned"), f"abandoned by {me}")
            return False
        return self._look_for(attempt, me)

    def _over(self, attempt: str) -> bool:
        """Whether nothing was sent by an attempt, so that the next one may begin."""
        decided = self.bucket.read(self._decision(attempt, "abandoned")) or ""
        outcome = self.bucket.read(f"{attempt}/outcome") or ""
        return decided.startswith("abandoned") or outcome.partition(" by ")[0] in _ENDED

    def _post(self, attempt: str, me: str) -> bool:
        began = self.world.now  # since boot, and from before the first write
        if not self._won(self._decision(attempt, "posting"), f"posting by {me}"):
            return False
        if self.layout.looks_at_lease and self.world.now > began + LEASE - _MARGIN:
            # What was decided cannot be renewed, as the object never changes: this attempt ends, and another begins.
            self._won(f"{attempt}/outcome", f"not sent by {me}")
            return False
        body = {"send": {"email": _KEY, "metadata": {METADATA_KEY: _KEY}}}
        exchange = self._way.exchange("POST", "http://127.0.0.1/api/v3/sends", params={}, json=body, auth=_bearer)
        self.server.know("access")  # tokens are no part of this model
        if exchange.status == 201:
            return self._won(f"{attempt}/outcome", f"SENT by {me}")
        if exchange.status == 422:
            return self._won(f"{attempt}/outcome", f"REFUSED by {me}")
        if exchange.phase is Phase.NOT_CONNECTED or exchange.status in (401, 429):
            self._won(f"{attempt}/outcome", f"not sent by {me}")
        return False  # otherwise nobody knows: it is looked for

    def _look_for(self, attempt: str, me: str) -> bool:
        posted_ago = self.bucket.age(self._decision(attempt, "posting"))
        settled = not self.layout.waits_to_prove or posted_ago > max(LEASE, TIMEOUT + SETTLE_TIME)
        for _ in range(2):
            listed = self._way.exchange("GET", "http://127.0.0.1/api/v3/sends", params={}, json=None, auth=_bearer)
            self.server.know("access")
            if listed.status != 200:
                return False
            if listed.answer.json["sends"]:
                return self._won(f"{attempt}/outcome", f"SENT by {me}, who found it")
        if settled:
            self._won(f"{attempt}/outcome", f"absent by {me}")
        return False

    def _won(self, name: str, body: str) -> bool:
        """Create an object, and find out whether it is the one that was created first."""
        for _ in range(5):
            created = self.bucket.create(name, body)
            if created or (created is None and not self.layout.reads_back):
                return True
            found = self.bucket.read(name)
            if found is not None:
                return bool(found == body)
            self.world.sleep(1.0)
        return False

    def _attempt(self, number: int) -> str:
        return f"sends/{_KEY}/{number}"

    def _decision(self, attempt: str, what: str) -> str:
        return f"{attempt}/{'decision' if self.layout.one_decision else what}"

    def _newest(self) -> str:
        numbers = [int(name.split("/")[2]) for name in self.bucket.objects]
        return self._attempt(max(numbers, default=1))

    def _listed(self) -> int:
        """Return the newest attempt of a list, which is stale now and then."""
        fault = self.world.seam("list the attempts", ("a stale list",))
        numbers = sorted({int(name.split("/")[2]) for name in self.bucket.objects})
        return max(numbers[:-1] if fault else numbers, default=1)


def _bearer(prepared: Any) -> Any:
    prepared.headers["Authorization"] = "Bearer access"
    return prepared
