"""The session over ``aiohttp``, for the triggerer: reads only, and nothing that blocks its event loop.

Token and pace are the synchronous session's own, asked in worker threads.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import aiohttp
from tenacity import AsyncRetrying

from airflow_provider_sendoso.client.answers import Answer, Exchange, Phase, answer_or_raise
from airflow_provider_sendoso.client.endpoints import Request
from airflow_provider_sendoso.client.pace import await_slot
from airflow_provider_sendoso.client.retrying import DEFAULT_PUSH_BACK, read_policy
from airflow_provider_sendoso.client.session import HEADERS, SendosoSession


class AsyncSendosoSession:
    """
    Reads from Sendoso without blocking; an async context manager.

    :param session: whose connection, token and pace are used.
    """

    def __init__(self, session: SendosoSession) -> None:
        self._session = session
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._session.config.timeout), headers=HEADERS, trust_env=True
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def read(self, request: Request) -> Answer:
        """
        Make a call that changes nothing, with retries.

        :param request: a GET.
        :raises SendosoError: what is left after the retries.
        """
        return await AsyncRetrying(**read_policy(), sleep=asyncio.sleep)(self._read_once, request)

    async def _read_once(self, request: Request) -> Answer:
        token = await asyncio.to_thread(self._session.tokens.get)
        exchange = await self._paced(request, token)
        if exchange.status == 401:
            exchange = await self._paced(request, await asyncio.to_thread(self._session.tokens.renew, token))
        return answer_or_raise(request, exchange)

    async def _paced(self, request: Request, token: str) -> Exchange:
        pace = self._session.pace
        await await_slot(lambda: asyncio.to_thread(pace.reserve), asyncio.sleep)
        exchange = await self._exchange(request, token)
        if exchange.answer and exchange.status == 429:
            await asyncio.to_thread(pace.push_back, exchange.answer.retry_after or DEFAULT_PUSH_BACK)
        return exchange

    async def _exchange(self, request: Request, token: str) -> Exchange:
        if self._http is None:
            raise RuntimeError("AsyncSendosoSession is used as an async context manager.")
        try:
            async with self._http.request(
                request.method,
                self._session.config.base_url + request.path,
                params={name: str(value) for name, value in request.params.items()},
                json=request.json,
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
            ) as response:
                body = await response.read()
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Exchange(Phase.ANSWERED, Answer(response.status, headers, body))
        except aiohttp.ClientConnectorError as error:
            return Exchange(Phase.NOT_CONNECTED, error=type(error).__name__)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Exchange(Phase.LOST, error=type(error).__name__)
