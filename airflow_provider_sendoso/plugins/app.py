"""The pages as a FastAPI application: who may ask, what is answered where something is wrong, and the headers."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as AnyHTTPException

from airflow_provider_sendoso.exceptions import SendosoError, SendosoLedgerError
from airflow_provider_sendoso.plugins import access, decide, pages
from airflow_provider_sendoso.plugins.accounts import Accounts
from airflow_provider_sendoso.plugins.render import render

_HEADERS = {
    # Airflow's own UI shows the pages in a frame. Nothing comes from elsewhere, and nothing is written into a page.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_TITLES = {401: "Your login has ended", 403: "Not allowed", 404: "Not found", 422: "Not understood"}


class _WithHeaders:
    """Adds the headers that every answer has, those of errors included."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)


def make_app() -> FastAPI:
    """
    Make the application.

    Every route depends on Airflow's login and on the right to see DAGs; there is none without, not even of the style.
    """
    app = FastAPI(
        title="Sendoso", openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(access.READS_DAGS)]
    )
    app.state.accounts = Accounts(access.sendoso_connections)
    app.include_router(pages.router)
    app.include_router(decide.router)
    app.add_middleware(_WithHeaders)
    app.add_exception_handler(AnyHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(SendosoError, _on_sendoso_error)
    return app


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)  # noqa: S101 - it is registered for that
    if error.status_code < 400:
        return Response(status_code=error.status_code, headers=dict(error.headers or {}))
    return _answer(request, error.status_code, str(error.detail))


def _on_bad_request(request: Request, error: Exception) -> Response:
    """Name what is wrong without repeating it: it may be an address."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for that
    places = sorted({".".join(str(part) for part in problem["loc"][1:]) for problem in error.errors()})
    return _answer(request, 422, f"The request has something wrong in {', '.join(places)}. Nothing was changed.")


def _on_sendoso_error(request: Request, error: Exception) -> Response:
    status = 503 if isinstance(error, SendosoLedgerError) or request.method == "GET" else 409
    return _answer(request, status, str(error))


def _answer(request: Request, status: int, text: str) -> Response:
    if request.method != "GET":
        return JSONResponse({"detail": text}, status)
    title = _TITLES.get(status, "There is no ledger to look at")
    root = request.scope["root_path"]
    # Without a login there is no style either.
    airflow = root.removesuffix(pages.MOUNTED_AT)
    return HTMLResponse(render("error.html", title=title, text=text, status=status, root=root, airflow=airflow), status)
