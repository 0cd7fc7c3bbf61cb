"""A model of Sendoso in memory: it accepts every duplicate, records each, and fails in every way that is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from types import SimpleNamespace
from typing import Any

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase
from airflow_provider_sendoso.client.pace import SlotMissed
from airflow_provider_sendoso.client.transport import Transport
from airflow_provider_sendoso.models import METADATA_KEY
from explorer.ledger import ANYWHERE, happen
from explorer.scheduler import EPOCH, MOST_BEFORE_A_POST, Process, World
from explorer.stdlib import Time

TIMEOUT = 30.0

_GIFTS, _CAMPAIGNS = "api/v3/sends", "api/v3/send"
"""Where sends are posted and listed; those of the marketplace and of SmartSend are in the second list as well."""

_WAY = 0.05
"""Seconds from a process to Sendoso, and back."""

_NO_ANSWER = Exchange(Phase.LOST, error="Timeout")
_NOT_CONNECTED = Exchange(Phase.NOT_CONNECTED, error="ConnectionRefusedError")

_BEFORE = ("not connected", "429", "401", "503 before", "request lost", "outage")
_FIRST_BYTE = "frozen at the first byte"
_ACCEPTED: dict[str, tuple[int, Any]] = {
    "503 after": (503, {"message": "gateway"}),
    "409 after": (409, {"message": "conflict"}),
    "201 without an id": (201, {"message": "thanks"}),
    "201 about another send": (201, {"id": "other", "tracking_code": "code-other", "email": "other@example.com"}),
}
"""Answers about a send that was accepted all the same, by the fault's name."""
_NOT_ACCEPTED: dict[str, tuple[int, Any]] = {
    "402 of the account": (402, {"message": "no budget"}),
    "404 of the gift": (404, {"message": "no such gift"}),
    "422 of a proxy": (422, None),
}
"""Answers about a send that was not accepted, and not because of its row."""
_POST = (
    *(_FIRST_BYTE, "answer lost", "killed after acceptance", "listed late", "accepted late", "refused"),
    *_ACCEPTED,
    *_NOT_ACCEPTED,
)
_READ = ("a list without its newest send",)
_WEBHOOK = ("webhook lost", "webhook twice")
STATUSES = ("processing", "shipped", "delivered")
_LOSES_A_GRANT = ("request lost", "database away", "store away")
"""Faults after which a grant may not be stored, beside what stops its process."""


@dataclass
class Sent:
    """A send that Sendoso has accepted."""

    send_id: str
    key: str
    """Of the send in the ledger; the model knows it, Sendoso does not."""
    body: Mapping[str, Any]
    made_at: float
    listed_at: float
    path: str
    """Where it was posted."""


class Sendoso:
    """
    The server of one world.

    :param world: its clock, and who asks.
    :param lifetime: seconds that an access token works.
    :param late: seconds after which a late send is accepted, or is shown in the lists.
    :param delivers_in: seconds from a send's acceptance until it is delivered; half of them until it is shipped.
    :param answers_every: seconds between two moments at which POSTs are answered; 0: each is answered at once.
    """

    def __init__(
        self, world: World, lifetime: float, late: float, answers_every: float = 0.0, delivers_in: float = inf
    ) -> None:
        self.world = world
        self.delivers_in = delivers_in
        self.on_change: Callable[[str, str], None] = lambda message, gid: None
        """Called for each webhook, with the message's id and the ``send_gid``."""
        self.answers_every = answers_every
        self.late = late
        self.lifetime = lifetime
        self.sent: list[Sent] = []
        self.refused: set[str] = set()
        self.arrivals: list[float] = []
        self.in_time: list[float] = []
        """When the first bytes have left of requests that look at their slot just before, unless they miss three."""
        self.grants = 0
        self.refresh_token = "refresh-0"
        self.traded: dict[str, tuple[str, Process]] = {}
        """The successor of each refresh token that was used, and who has used it."""
        self.stored: dict[str, float] = {}
        """When the ledger has said of a refresh token that it is stored."""
        self.burnt: list[str] = []
        self.burnt_for_nothing: list[str] = []
        self.refused_late: set[Process] = set()
        """Whose refresh token was refused when its successor was stored already: they have to find that one."""
        self.renewing: dict[Process, float] = {}
        self.overlaps: list[str] = []
        self._tokens: dict[str, float] = {}
        self._away_until = 0.0
        self._stale_lists = 0
        self._machine = Process("Sendoso")

    def transport(self, key_of: Callable[[Mapping[str, Any]], str]) -> Transport:
        """
        Return the way of one process to this server.

        :param key_of: the key, in the ledger, of the send whose body the process posts.
        """
        way: Any = SimpleNamespace(
            exchange=lambda *place, **request: self._exchange(key_of, *place, **request),
            open_ahead=lambda url, used_in=0.0, post=True: None,
            close=lambda: None,
        )
        return way  # type: ignore[no-any-return]

    @property
    def keeps_chain(self) -> bool:
        """Whether the newest refresh token was stored in the ledger."""
        return self.refresh_token in self.stored

    def know(self, token: str) -> None:
        """Accept a token that nobody has asked for."""
        self._tokens[token] = float("inf")

    # -- requests --------------------------------------------------------------------------------------------------

    def _exchange(
        self,
        key_of: Callable[[Mapping[str, Any]], str],
        method: str,
        url: str,
        *,
        params: Mapping[str, Any],
        json: Mapping[str, Any] | None,
        auth: Any,
        over_at: float = inf,
        **more: Any,
    ) -> Exchange:
        world, path = self.world, url.partition("://")[2].partition("/")[2]
        post = method == "POST" and path != "oauth/token"
        send = dict((json or {}).get("send", json or {})) if post else {}
        what = f"{method} /{path}" + (f" for {email_of(send)}" if post else "")
        stale = () if post or self._stale_lists or path.startswith(f"{_GIFTS}/") else _READ
        thread = world.current
        assert thread is not None
        thread.posts_next, thread.has_slot = post, over_at < inf
        fault = world.seam(what, (*ANYWHERE, *_BEFORE, *(_POST if post else () if json else stale)))
        if fault in ANYWHERE:
            happen(world, fault)
            fault = ""
        thread.posts_next = False
        if Time.monotonic() > over_at:
            self.world.tell(f"{what}: its slot is over")
            raise SlotMissed
        if fault == _FIRST_BYTE:
            world.freeze(MOST_BEFORE_A_POST, suspend=False)
        elif path != "oauth/token":
            self.in_time.append(world.now)
        if fault == "outage":
            self._away_until = world.now + 20.0
        if fault == "not connected" or world.now < self._away_until:
            world.sleep(_WAY)
            return self._told(what, _NOT_CONNECTED, "cannot connect")
        world.sleep(_WAY)
        self.arrivals.append(world.now)
        if fault == "request lost":
            world.sleep(TIMEOUT)
            return self._told(what, _NO_ANSWER, "no answer; it was never received")
        if fault == "429":
            return self._told(what, self._answer(429, {"message": "slow down"}, {"retry-after": "2"}), "429")
        if fault == "503 before":
            return self._told(what, self._answer(503, {"message": "maintenance"}), "503; it was not processed")
        if path == "oauth/token":
            return self._token(what, dict(json or {}), fault)
        prepared = SimpleNamespace(headers={})
        token = auth(prepared).headers.get("Authorization", "").removeprefix("Bearer ")
        if fault == "401":
            self._tokens.pop(token, None)
        if self._tokens.get(token, 0.0) < world.now:
            return self._told(what, self._answer(401, {"error": "invalid_token"}), "401")
        return self._send(what, path, send, key_of, fault) if post else self._read(what, path, params, fault)

    def _send(self, what: str, path: str, send: dict[str, Any], key_of: Any, fault: str) -> Exchange:
        key, process = key_of(send), self.world.process
        if fault == "refused":
            self.refused.add(key)
            return self._told(what, self._answer(422, {"message": "no such address"}), "422; refused")
        if fault in _NOT_ACCEPTED:
            return self._told(what, self._answer(*_NOT_ACCEPTED[fault]), fault)
        if fault == "accepted late":
            self.world.spawn(self._machine, lambda: self._accept(path, send, key, 0.0), self.late)
            self.world.sleep(TIMEOUT)
            return self._told(what, _NO_ANSWER, "no answer; it will be accepted late")
        made = self._accept(path, send, key, self.late if fault == "listed late" else 0.0)
        if fault == "killed after acceptance":
            self.world.kill(process)
        if fault in ("answer lost", "listed late"):
            self.world.sleep(TIMEOUT)
            return self._told(what, _NO_ANSWER, "no answer; it was accepted")
        self.world.sleep(_WAY)
        if self.answers_every:
            self.world.sleep(self.answers_every - self.world.now % self.answers_every)
        if fault in _ACCEPTED:
            return self._told(what, self._answer(*_ACCEPTED[fault]), f"{fault}; it was accepted")
        body: dict[str, Any] = {"success": True, "tracking_code": f"code-{made.send_id}"}
        if path != _CAMPAIGNS:
            body = {"id": made.send_id} if path == _GIFTS else {"products": [], "send": {"id": made.send_id}}
        return self._told(what, self._answer(201, body), f"201, {made.send_id}")

    def _accept(self, path: str, send: dict[str, Any], key: str, lag: float) -> Sent:
        now = self.world.now
        made = Sent(f"send-{len(self.sent) + 1}", key, send, now, now + lag, path)
        self.sent.append(made)
        self.world.changes += 1
        self.world.tell(f"accepts {made.send_id} for {email_of(send)}", "Sendoso")
        if self.delivers_in < inf:
            for number in (1, 2):
                self.world.spawn(
                    self._machine, partial(self._post_webhook, made, number), number * self.delivers_in / 2
                )
        return made

    def _post_webhook(self, sent: Sent, number: int) -> None:
        self.world.tell(f"{sent.send_id} is {self._status(sent)}")
        self.world.changes += 1
        fault = self.world.seam(f"a webhook about {sent.send_id}", _WEBHOOK)
        for _ in range({"webhook lost": 0, "webhook twice": 2}.get(fault, 1)):
            self.on_change(f"message-{number}-{sent.send_id}", _gid(sent))

    def _status(self, sent: Sent) -> str:
        passed = int(2 * (self.world.now - sent.made_at) / self.delivers_in)
        return STATUSES[min(passed, len(STATUSES) - 1)]

    def _read(self, what: str, path: str, params: Mapping[str, Any], fault: str) -> Exchange:
        shown: list[dict[str, Any]] = []
        if path in (_GIFTS, _CAMPAIGNS):
            gifts = path == _GIFTS
            listed = [one for one in self.sent if (one.path == _GIFTS) is gifts and one.listed_at <= self.world.now]
            listed.sort(key=lambda one: -one.made_at)
            if fault in _READ:
                self._stale_lists += 1
                listed = listed[1:]
            shown = [_row(one, self._status(one)) for one in listed]
        elif path.startswith(f"{_GIFTS}/"):
            return self._read_one(what, path.removeprefix(f"{_GIFTS}/"))
        size, page = int(params.get("per_page", 100)), int(params.get("page", 1))
        rows = shown[(page - 1) * size : page * size]
        name = "sends" if shown or path.startswith("api/v3/send") else "gifts"
        self.world.sleep(_WAY)
        return self._told(what, self._answer(200, {name: rows, "total": len(shown)}), f"{len(rows)} rows")

    def _read_one(self, what: str, send_id: str) -> Exchange:
        found = [one for one in self.sent if (one.send_id, one.path) == (send_id, _GIFTS)]
        row = _row(found[0], self._status(found[0])) if found else {"message": "no such send"}
        self.world.sleep(_WAY)
        return self._told(what, self._answer(200 if found else 404, row), str(row.get("status")))

    def _token(self, what: str, form: dict[str, Any], fault: str) -> Exchange:
        world, process = self.world, self.world.process
        if any(not other.stopped and not process.stopped for other in self.renewing):
            self.overlaps.append(f"{process.name} asks for a token while another process does")
        self.renewing[process] = world.now
        try:
            given = form.get("refresh_token")
            if given is not None and given != self.refresh_token:
                if given in self.traded:
                    self._burn(process, *self.traded[given])
                return self._told(what, self._answer(400, {"error": "invalid_grant"}), "invalid_grant")
            self.grants += 1
            token = f"access-{self.grants}"
            self._tokens[token] = world.now + self.lifetime
            body: dict[str, Any] = {"access_token": token, "expires_in": self.lifetime}
            if given is not None:
                used, self.refresh_token = self.refresh_token, f"refresh-{self.grants}"
                self.traded[used] = self.refresh_token, process
                body["refresh_token"] = self.refresh_token
            world.sleep(_WAY)
            return self._told(what, self._answer(200, body), f"token {self.grants}")
        finally:
            self.renewing.pop(process, None)

    def _burn(self, process: Process, successor: str, by: Process) -> None:
        """Record that a used refresh token was presented, and whether it could be known to be used."""
        self.burnt.append(f"{process.name} presents a refresh token that was used before")
        if self.keeps_chain:
            self.refused_late.add(process)
        thread = self.world.current
        if thread is not None and self.stored.get(successor, self.world.now) < thread.last_transaction:
            self.burnt_for_nothing.append(f"{self.burnt[-1]}, with its successor stored before its last transaction")
        elif not process.stopped and not by.stopped and not any(one in _LOSES_A_GRANT for one in self.world.faults):
            self.burnt_for_nothing.append(f"{self.burnt[-1]}, and nobody was killed or frozen who had it")

    def _answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> Exchange:
        given = {"content-type": "application/json", **(headers or {})}
        written = "<h1>Error</h1>" if body is None else json.dumps(body)
        return Exchange(Phase.ANSWERED, Answer(status, given, written.encode()))

    def _told(self, what: str, exchange: Exchange, words: str) -> Exchange:
        self.world.changes += 1
        self.world.tell(f"{what}: {words}")
        return exchange


def email_of(send: Mapping[str, Any]) -> str:
    """Return the recipient of a send that is posted."""
    return str(send.get("email") or send.get("recipient_email"))


def _gid(sent: Sent) -> str:
    return f"gid-{sent.send_id}"


def _row(sent: Sent, status: str) -> dict[str, Any]:
    made_at = datetime.fromtimestamp(EPOCH + sent.made_at, UTC).isoformat()
    row: dict[str, Any] = {"id": sent.send_id, "send_gid": _gid(sent), "status": status, "created_at": made_at}
    if sent.path != _GIFTS:
        touch = {"id": sent.body["touch_id"]} if sent.path == _CAMPAIGNS else None
        return row | {"touch": touch, "recipient": {"email": email_of(sent.body)}}
    return row | {"metadata": {METADATA_KEY: sent.body["metadata"][METADATA_KEY]}}
