"""The effect of each fault on the answer to a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from airflow_provider_sendoso.sandbox.faults import Fault
from airflow_provider_sendoso.sandbox.refusal import Refusal

_PROXY_PAGE = (
    "<html><head><title>One moment, please</title></head>"
    "<body><h1>One moment, please</h1><p>Your request is being checked.</p></body></html>"
)

Answer = Callable[[], Awaitable[web.StreamResponse]]


class Dropped(Exception):
    """The connection must be closed without an answer."""


async def enact(fault: Fault, request: web.Request, answer: Answer) -> web.StreamResponse:
    """
    Answer a request as a fault prescribes.

    :param fault: the fault that applies to the request
    :param request: the request, whose body has been read
    :param answer: the function that does what the request asks, and returns the answer without the fault
    :raises Dropped: if there is to be no answer
    :raises Refusal: if the fault is an error answer
    """
    options = fault.options
    match fault.name:
        case "drop_before":
            raise Dropped
        case "drop_after":
            await answer()
            raise Dropped
        case "error_before":
            raise Refusal(options["status"], "Something went wrong")
        case "error_after":
            await answer()
            raise Refusal(options["status"], "Something went wrong")
        case "throttle":
            raise throttled(options["retry_after"], options["reset"])
        case "garbage":
            if options["accept"]:
                await answer()
            return web.Response(text=_PROXY_PAGE, content_type="text/html")
        case "truncate":
            return await _send_half(request, await answer())
        case "slow" if options["accept_first"]:
            response = await answer()
            await asyncio.sleep(options["delay"])
            return response
        case "slow":
            # Runs on although the client may have closed the connection: so the send is accepted late.
            await asyncio.sleep(options["delay"])
            return await answer()
        case "status":
            if isinstance(options["body"], str):
                return web.Response(text=options["body"], content_type="text/html", status=options["status"])
            return web.json_response(options["body"], status=options["status"])
        case "redirect":
            return web.Response(status=302, headers={"Location": str(options["location"])})
    raise AssertionError(f"{fault.name} is in OPTIONS and has no case here")


def throttled(retry_after: float | str | None, reset: float | str | None = None) -> Refusal:
    """
    Return the answer to a request that exceeds the rate.

    :param retry_after: seconds, or an HTTP date, or ``None`` to leave the header out: the seed speaks of
        it, the published pages promise none
    :param reset: ``X-Rate-Limit-Reset``, as the marketplace sends it (published), in any form
    """
    named = {"Retry-After": retry_after, "X-Rate-Limit-Reset": reset}
    headers = {name: str(value) for name, value in named.items() if value is not None}
    return Refusal(429, "Too many requests", headers)


def drop(request: web.Request) -> web.Response:
    """
    Close a request's connection at once.

    :param request: the request that gets no answer
    :return: a response for aiohttp, which is not written because the connection is closed
    """
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _send_half(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    whole = response.body if isinstance(response, web.Response) else None
    assert isinstance(whole, bytes)  # noqa: S101  (every route answers with json_response, which makes bytes)
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = len(whole)
    await half.prepare(request)
    await half.write(whole[: len(whole) // 2])
    if request.transport:
        request.transport.close()
    return half
