"""The session over ``aiohttp``, for the triggerer: makes only reads, and does not block the event loop.

It uses token and pace of the synchronous session, in worker threads. All triggers of one event loop with the same
connection share one session, so that a thousand triggers have one queue and one connection pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from tenacity import AsyncRetrying

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase, answer_or_raise
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.pace import SLOT_LATE, await_slot
from airflow_provider_sendoso.client.retrying import push_backs, read_policy
from airflow_provider_sendoso.client.session import HEADERS, Result, SendosoSession
from airflow_provider_sendoso.client.transport import error_name, proxy_answered
from airflow_provider_sendoso.exceptions import SendosoError

_LONG = 64 * 1024
"""Bytes from which an answer is read in a thread: to parse as many takes 1 ms if they are rows, 11 ms at the most."""


class AsyncSendosoSession:
    """
    Reads from Sendoso without blocking.

    :param session: the synchronous session, whose connection, token and pace are used.
    :param http: the HTTP client.
    """

    def __init__(self, session: SendosoSession, http: aiohttp.ClientSession) -> None:
        self._session = session
        self._http = http
        self._turn = asyncio.Lock()
        self.users = 0

    async def read(self, request: Request) -> Answer:
        """
        Make a GET request, with retries.

        :param request: the request.
        :raises SendosoError: if the last retry fails.
        """
        return await AsyncRetrying(**read_policy(), sleep=asyncio.sleep)(self._read_once, request)

    async def walk(
        self, steps: Generator[Request, Answer, Result], after: Callable[[], Awaitable[None]] | None = None
    ) -> Result:
        """
        Make the requests of a walk; see :meth:`~airflow_provider_sendoso.client.session.SendosoSession.walk`.

        :param steps: yields requests; their answers are sent to it, or the errors after the last retry thrown into it.
        :param after: called after each request; an error that it raises ends the walk.
        :return: the generator's return value.
        :raises SendosoError: if the generator does not handle the error.
        """
        step = _step(steps.send, None)
        while isinstance(step, Request):
            try:
                answer = await self.read(step)
            except SendosoError as error:
                step = _step(steps.throw, error)
            else:
                long = len(answer.body) > _LONG
                step = await _step_aside(steps.send, answer) if long else _step(steps.send, answer)
            if after is not None and isinstance(step, Request):
                await after()
        result: Result = step.value
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _read_once(self, request: Request) -> Answer:
        tokens = self._session.tokens
        token = tokens.cached()
        if token is None:
            token = await asyncio.to_thread(tokens.get)
        exchange = await self._paced(request, token)
        if exchange.status == 401:
            exchange = await self._paced(request, await asyncio.to_thread(tokens.renew, token))
        return answer_or_raise(request, exchange)

    async def _paced(self, request: Request, token: str) -> Exchange:
        paces = (self._session.pace, self._session.minute_pace)
        if request.has_minute_limit:
            await await_slot(self._session.minute_pace, poll=True, keeps=SLOT_LATE)
        async with self._turn:
            await await_slot(self._session.pace, poll=True)
        exchange = await self._exchange(request, token)
        if exchange.answer and exchange.status == 429:
            for pace, wait in zip(paces, push_backs(request, exchange.answer), strict=True):
                if wait is not None:
                    await asyncio.to_thread(pace.push_back, wait)
        return exchange

    async def _exchange(self, request: Request, token: str) -> Exchange:
        network = self._session.network
        proxy = network.proxy
        try:
            async with self._http.request(
                request.method,
                self._session.config.base_url + request.path,
                params={name: str(value) for name, value in request.params.items()},
                json=request.json,
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
                proxy=proxy.url if proxy else None,
                proxy_headers=proxy.headers if proxy else None,
                ssl=network.tls or True,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    body += chunk
                    if len(body) > request.largest_answer:
                        return Exchange(Phase.LOST, error="the answer is too large")
                headers = {name.lower(): value for name, value in response.headers.items()}
                answer = Answer(response.status, headers, bytes(body))
                if len(body) > _LONG:
                    await asyncio.to_thread(getattr, answer, "json")  # parses it, once
                return Exchange(Phase.ANSWERED, answer)
        except aiohttp.ClientHttpProxyError as error:
            return Exchange(Phase.LOST, error=proxy_answered(error.status))
        except Exception as error:
            # Only reads are made here, so it does not matter how far a failed one got.
            return Exchange(Phase.LOST, error=error_name(error))


def _step(go_on: Callable[[Any], Request], with_: Any) -> Request | StopIteration:
    """Go on with a walk; return its next request, or its end, which no coroutine and no thread could raise."""
    try:
        return go_on(with_)
    except StopIteration as end:
        return end


async def _step_aside(go_on: Callable[[Any], Request], answer: Answer) -> Request | StopIteration:
    """Go on with a walk in a thread, because a long answer may hold thousands of rows."""
    working = asyncio.create_task(asyncio.to_thread(_step, go_on, answer))
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait([working])  # a round that is cut off writes what its walk has found: once that is all there


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[SendosoSession, AsyncSendosoSession]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_session(session: SendosoSession) -> AsyncIterator[AsyncSendosoSession]:
    """
    Use this event loop's session on a connection; the last user closes it.

    :param session: the synchronous session, whose connection, token and pace are used.
    """
    of_this_loop = _shared.setdefault(asyncio.get_running_loop(), {})
    shared = of_this_loop.get(session)
    if shared is None:
        timeout = aiohttp.ClientTimeout(total=session.config.timeout)
        http = aiohttp.ClientSession(timeout=timeout, headers=HEADERS)
        shared = of_this_loop[session] = AsyncSendosoSession(session, http)
    shared.users += 1
    try:
        yield shared
    finally:
        shared.users -= 1
        if shared.users == 0:
            of_this_loop.pop(session, None)
            await shared.close()
