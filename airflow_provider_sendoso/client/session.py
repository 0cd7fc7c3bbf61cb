"""The session over ``requests``: a call with the account's token, at the account's pace."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from tenacity import Retrying

from airflow_provider_sendoso import __version__
from airflow_provider_sendoso.client.answers import Answer, Exchange, answer_or_raise
from airflow_provider_sendoso.client.config import ClientConfig
from airflow_provider_sendoso.client.endpoints import Auth, Request
from airflow_provider_sendoso.client.network import read_network
from airflow_provider_sendoso.client.objects import AnyListing
from airflow_provider_sendoso.client.pace import (
    MINUTE_INTERVAL,
    SLOT_KEEPS,
    SLOT_LATE,
    LocalPace,
    Pace,
    SlotMissed,
    Turn,
    wait_for_slot,
)
from airflow_provider_sendoso.client.retrying import push_backs, read_policy
from airflow_provider_sendoso.client.tokens import TokenManager, TokenStore
from airflow_provider_sendoso.client.transport import Transport
from airflow_provider_sendoso.exceptions import SendosoError, SendosoLedgerError
from airflow_provider_sendoso.models.slot_commit import SlotCommit

Result = TypeVar("Result")

log = logging.getLogger(__name__)

HEADERS = {"Accept": "application/json", "User-Agent": f"airflow-provider-sendoso/{__version__}"}

_LEADS = (0.05, 0.2, 0.8)
"""Seconds before its slot at which a call commits what comes before it; more, if the ledger was too slow for that."""

MOST_SLOTS = len(_LEADS)
"""Slots that a call takes; with the last it is made although it is late, so that a slow machine cannot block it."""

_CONNECT_AHEAD = 1.0
"""Seconds before its slot at which a send looks whether its connection is still young enough, and has time to open
another."""

_SLOT_MARGIN = 30.0
"""Seconds that waiting for a slot may take in a renewal."""


class SendosoSession:
    """
    Calls Sendoso, at the account's pace, with the account's token.

    :param config: the connection.
    :param token_store: the store of the token.
    :param pace: assigns the slots.
    :param minute_pace: assigns those of the second pace, of the marketplace and of SmartSend; by default this session's
        own.
    :param mask: called with every token as soon as it exists.
    :param sleep: waits for a number of seconds.
    :param transport: makes the requests; by default over the network.
    :raises SendosoConfigError: if the environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self,
        config: ClientConfig,
        token_store: TokenStore,
        pace: Pace,
        *,
        minute_pace: Pace | None = None,
        mask: Callable[[str], None] = lambda token: None,
        sleep: Callable[[float], None] = time.sleep,
        transport: Transport | None = None,
    ) -> None:
        self.config = config
        self.pace = pace
        self.minute_pace = minute_pace or LocalPace(MINUTE_INTERVAL)
        # The claim on the token is extended between slot and request; a longer wait for the slot only restarts the
        # renewal.
        lease = 2 * (config.timeout + _SLOT_MARGIN)
        self.tokens = TokenManager(config, token_store, self.paced, lease=lease, mask=mask)
        self.sleep = sleep
        # Only one thread of this process at a time waits in the account's queue.
        self._turns = {True: threading.Lock(), False: threading.Lock()}
        # Whoever waits in the second pace's queue does not keep other calls from the account's.
        self._minute_turns = {True: threading.Lock(), False: threading.Lock()}
        self._crowded = False
        self.network = read_network(config.base_url)
        self._transport = transport or Transport(config.timeout, self.network)

    def read(self, request: Request) -> Answer:
        """
        Make a GET request, with retries.

        :param request: the request.
        :raises SendosoError: if the last retry fails.
        """
        answer: Answer = self._patiently(lambda: self.read_once(request))
        return answer

    def read_once(self, request: Request) -> Answer:
        """
        Make a GET request; the only retry is after a 401, with a renewed token.

        :param request: the request.
        :raises SendosoError: if the answer is not a good one.
        """
        token = self.tokens.get()
        exchange = self.paced(request, token, poll=True)
        if exchange.status == 401:
            exchange = self.paced(request, self.tokens.renew(token), poll=True)
        return answer_or_raise(request, exchange)

    def read_listing(self, listing: AnyListing) -> Iterator[dict[str, Any]]:
        """
        Iterate over a collection; a page is requested when its first row is needed.

        :param listing: the collection's state.
        :raises SendosoError: if the last retry fails.
        """
        while not listing.done:
            yield from listing.read(self.read(listing.next_request()).json)

    def walk(self, steps: Generator[Request, Answer, Result], after: Callable[[], None] = lambda: None) -> Result:
        """
        Make the requests of a walk, which is a generator so that either session can make them.

        :param steps: yields requests; their answers are sent to it, or the errors after the last retry thrown into it.
        :param after: called after each request; an error that it raises ends the walk.
        :return: the generator's return value.
        :raises SendosoError: if the generator does not handle the error.
        """
        try:
            request = next(steps)
            while True:
                try:
                    answer = self.read(request)
                except SendosoError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
                after()
        except StopIteration as stop:
            result: Result = stop.value
            return result

    def token(self) -> str:
        """
        Return a fresh token, with retries.

        :raises SendosoAuthError: if Sendoso does not accept the credentials.
        """
        return self.tokens.cached() or str(self._patiently(self.tokens.get))

    def renew(self, stale: str) -> str:
        """
        Replace a token that was answered with 401, with retries.

        :param stale: the refused token.
        """
        return str(self._patiently(lambda: self.tokens.renew(stale)))

    def paced(
        self,
        request: Request,
        token: str | None = None,
        *,
        before: Callable[[], None] = lambda: None,
        poll: bool = False,
    ) -> Exchange:
        """
        Wait for a slot and make one call, without retries; a read takes another if it is over before the first byte.

        :param request: the request.
        :param token: the Bearer token, for a request that needs it.
        :param before: called shortly before the slot's time; see :meth:`await_turn`.
        :param poll: whether the call leaves most of the rate to sends.
        """
        connect = partial(self._connect, post=False)
        for _ in range(MOST_SLOTS - 1 if request.method == "GET" else 0):
            connect()
            turn = self.await_turn(
                request, before=before, poll=poll, sleep=partial(self._sleep_and_connect, self.sleep, connect)
            )
            with suppress(SlotMissed):
                return self.call(request, token, turn)
        self.await_turn(request, before=before, poll=poll)
        return self.call(request, token)

    def await_turn_to_send(
        self, send: SlotCommit, request: Request | None = None, *, sleep: Callable[[float], None]
    ) -> Turn:
        """
        Block until a send has a slot and is committed as POSTING; if this raises, nothing has been sent.

        :param send: commits POSTING, in the slot's own transaction if a slot is free at once.
        :param request: the send's POST; ``None`` for one that takes no slot of the second pace.
        :param sleep: waits for a number of seconds, or raises if the send must no longer be posted.
        :return: the slot, for :meth:`call`.
        """
        minute = self._await_minute_pace(request, poll=False, sleep=sleep)
        self._connect()
        noted = _Noted(send)
        # If the last call had to wait, there is a queue, so trying for a free slot would be useless.
        if self._crowded or not self.pace.take(noted):
            sleep = partial(self._sleep_and_connect, sleep, self._connect)
            return self.await_turn(request, before=send.commit_posting, sleep=sleep, minute=minute)
        turn = Turn(noted.slot_at, at_once=True)
        self._crowded = turn.is_late  # a commit that is slow needs a slot that is known before its time
        return turn

    def await_turn(
        self,
        request: Request | None = None,
        *,
        before: Callable[[], None] = lambda: None,
        poll: bool = False,
        sleep: Callable[[float], None] | None = None,
        minute: Turn | None = None,
    ) -> Turn:
        """
        Block until a call may be made; if this raises, nothing has been sent.

        :param request: the call; ``None`` for one that takes no slot of the second pace.
        :param before: called shortly before the slot's time, and again with another slot if it took longer than the
            first; if it raises, the call is not made.
        :param poll: whether the call leaves most of the rate to sends.
        :param sleep: waits for a number of seconds, or raises if the call must no longer be made.
        :param minute: the slot of the second pace that the call has already.
        :return: the slot, for :meth:`call`; after three that were missed, one that is never late.
        """
        for lead in _LEADS:
            if minute is None or minute.lateness > SLOT_KEEPS:
                minute = self._await_minute_pace(request, poll=poll, sleep=sleep)
            with self._turns[poll]:
                turn = wait_for_slot(self.pace, poll=poll, sleep=sleep or self.sleep, lead=max(lead, self.pace.lead))
            self._crowded = not turn.at_once
            if minute is not None and minute.lateness > SLOT_KEEPS and lead != _LEADS[-1]:
                continue  # the account had to wait, and calls that waited with it must not come all at once
            before()
            if (rest := turn.due - time.monotonic()) > 0:
                self.sleep(rest)
            if not turn.is_late:
                return turn
        return replace(turn, due=math.inf)

    def _await_minute_pace(
        self, request: Request | None, *, poll: bool, sleep: Callable[[float], None] | None
    ) -> Turn | None:
        """Block until a call to the marketplace or to SmartSend has a slot of their pace; others need none."""
        if request is None or not request.has_minute_limit:
            return None
        with self._minute_turns[poll]:
            return wait_for_slot(self.minute_pace, poll=poll, sleep=sleep or self.sleep, keeps=SLOT_LATE)

    def call(self, request: Request, token: str | None = None, turn: Turn | None = None) -> Exchange:
        """
        Make one call now, without retries; failures are returned, not raised.

        :param request: the request.
        :param token: the Bearer token, for a request that needs it.
        :param turn: the slot of the call; ``None`` makes it however late it is.
        :raises SlotMissed: if the slot was over before the first byte was sent; nothing was sent.
        """
        exchange = self._exchange(request, token, math.inf if turn is None else turn.over_at)
        if exchange.answer and exchange.status == 429:
            try:
                for pace, wait in zip((self.pace, self.minute_pace), push_backs(request, exchange.answer), strict=True):
                    if wait is not None:
                        pace.push_back(wait)
            except SendosoLedgerError as error:
                log.warning("The ledger could not record that all of the account must wait: %s", error)
        return exchange

    def close(self) -> None:
        """Close this thread's connections."""
        self._transport.close()

    def _patiently(self, call: Callable[[], Any]) -> Any:
        return Retrying(**read_policy(), sleep=self.sleep)(call)

    def _auth(self, request: Request, token: str | None) -> AuthBase:
        match request.auth:
            case Auth.BEARER:
                return _Authorization(f"Bearer {token}")
            case Auth.BASIC:
                # As bytes in UTF-8 (RFC 7617), because requests encodes text as Latin-1.
                secret = self.config.client_secret.get_secret_value()
                return HTTPBasicAuth(self.config.client_id.encode(), secret.encode())
            case Auth.NONE:
                return _Authorization(None)

    def _connect(self, used_in: float = 0.0, *, post: bool = True) -> None:
        self._transport.open_ahead(self.config.base_url, used_in, post=post)

    def _sleep_and_connect(
        self, sleep: Callable[[float], None], connect: Callable[[float], None], seconds: float
    ) -> None:
        """Sleep until shortly before a slot; where the connection would be too old by then, open another on the way."""
        over_at = time.monotonic() + seconds
        if seconds > _CONNECT_AHEAD:
            sleep(seconds - _CONNECT_AHEAD)
        connect(over_at - time.monotonic() + _LEADS[-1])
        if (rest := over_at - time.monotonic()) > 0:
            sleep(rest)

    def _exchange(self, request: Request, token: str | None, over_at: float) -> Exchange:
        return self._transport.exchange(
            request.method,
            self.config.base_url + request.path,
            params=request.params,
            json=request.json,
            headers=HEADERS,
            auth=self._auth(request, token),
            largest=request.largest_answer,
            over_at=over_at,
        )


class _Noted:
    """
    A send that notes when it was given a free slot.

    :param send: the send.
    """

    def __init__(self, send: SlotCommit) -> None:
        self._send = send
        self.row = send.row
        self.slot_at = 0.0

    def commit_posting(self, transaction: Any = None) -> None:
        """Note the time, which is the slot's, and let the send commit POSTING."""
        self.slot_at = time.monotonic()
        self._send.commit_posting(transaction)

    @staticmethod
    def commit_all(transaction: Any, sends: Sequence[_Noted]) -> None:
        """Note the time for each, and let the sends commit POSTING together."""
        now = time.monotonic()
        for noted in sends:
            noted.slot_at = now
        sends[0]._send.commit_all(transaction, [noted._send for noted in sends])


class _Authorization(AuthBase):
    """Sets the header; as an auth object it prevents ``requests`` from taking another one from a ``.netrc``."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            prepared.headers["Authorization"] = self._value
        return prepared
